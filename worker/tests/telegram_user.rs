//! Telegram user accounts, with workers that die and a Telegram of our own.

#[path = "telegram_user/files.rs"]
mod files;
#[path = "telegram_user/imported.rs"]
mod imported;
#[path = "telegram_user/reset.rs"]
mod reset;
#[path = "telegram_user/telegram.rs"]
mod telegram;
#[path = "telegram_user/world.rs"]
mod world;
