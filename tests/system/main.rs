//! The whole hub as a process, over real HTTP, with the played platforms.

mod apart;
mod budget;
mod client;
mod crash;
mod dlq;
mod erasing;
mod flows;
mod garbage;
mod importing;
mod linkedin;
mod live;
mod looking;
mod media;
mod operating;
mod platforms;
mod replay;
mod roles;
mod soak;
mod sockets;
mod story;
mod sweep;
mod teams;
mod telegram_user;
mod tokens;
mod twitter;
mod world;
