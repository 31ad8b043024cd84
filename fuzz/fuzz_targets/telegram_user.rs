//! What a session of a Telegram user account writes down.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub_fuzz::telegram_user(data));
