//! Telegram's own bytes, from the wire to what is kept of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub_fuzz::telegram_user_tl(data));
