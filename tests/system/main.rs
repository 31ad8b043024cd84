//! The whole hub as a process, over real HTTP, with the played platforms.

mod apart;
mod client;
mod crash;
mod dlq;
mod erasing;
mod garbage;
mod live;
mod looking;
mod media;
mod operating;
mod replay;
mod roles;
mod soak;
mod sockets;
mod story;
mod world;
