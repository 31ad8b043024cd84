//! Everything that WhatsApp's adapter reads.
#![no_main]

use hub_domain::platform::Platform;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub_fuzz::adapter(Platform::Whatsapp, data));
