//! Everything that Teams' adapter reads: notices, what they bring and what they name, pages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub_fuzz::teams::everything(data));
