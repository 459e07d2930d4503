//! The database file itself: its schema, the owner of its folder, write locking, and cached digests of other files.

pub(in crate::store) mod digests;
pub(in crate::store) mod marker;
pub(in crate::store) mod schema;
pub(in crate::store) mod write_lock;

pub use digests::RememberedDigests;
pub use write_lock::Patience;
