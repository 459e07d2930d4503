//! The file itself: its schema, whose folder it is, who writes into it, and what it remembers of other files.

pub(in crate::store) mod digests;
pub(in crate::store) mod marker;
pub(in crate::store) mod schema;
pub(in crate::store) mod write_lock;

pub use digests::RememberedDigests;
pub use write_lock::Patience;
