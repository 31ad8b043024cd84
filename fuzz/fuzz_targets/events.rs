//! Events as they are stored, of every kind and schema.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub_fuzz::events(data));
