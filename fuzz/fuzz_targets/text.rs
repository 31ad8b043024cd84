//! Repairing what is not quite JSON, and cutting text.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub_fuzz::text(data));
