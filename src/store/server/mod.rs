//! The queue on a PostgreSQL server, for workers on any number of machines, and what attempts leave there until it is brought home into
//! the file of each machine ([`crate::store::Store::refresh`]). Reading commands read that file.

mod active;
mod address;
mod attempts;
mod connection;
mod heartbeat;
mod home;
mod operations;
mod orders;
mod queue;
mod results;
mod submission;
#[cfg(test)]
mod tests;

pub use address::{AddressError, ServerAddress};
pub(super) use connection::Server;
pub use heartbeat::ServerHeartbeat;
pub use home::BroughtHome;
