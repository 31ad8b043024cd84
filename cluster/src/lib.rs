//! A PostgreSQL of one's own, for `cargo run` and for tests.
//!
//! [`Binaries`] finds an installed PostgreSQL or fetches one. [`Cluster`] runs it on a folder:
//! reachable only through a unix socket in a private folder, with fsync on, because what is tested
//! without it is not what runs. [`shared_for_tests`] gives all test processes of a workspace one
//! server and each test a database of its own.
//!
//! The server belongs to nobody's process group: Ctrl-C reaches the hub, and the hub decides when
//! the server stops. A hub that is killed leaves the server running; the next start adopts it.

mod account;
mod binaries;
mod cluster;
mod error;
mod fetch;
mod server;
mod shared;
mod site;
mod sql;

pub use binaries::Binaries;
pub use cluster::{Cluster, Options};
pub use error::ClusterError;
pub use shared::{SharedCluster, TestDatabase, shared_for_tests};
