//! The whole hub as a process, over real HTTP, with the played platforms.

mod apart;
mod client;
mod crash;
mod dlq;
mod garbage;
mod live;
mod replay;
mod roles;
mod story;
mod world;
