//! One engine process: start, orders in, events out, death certificate.

mod death;
mod find;
mod groups;
mod process;

pub use death::Death;
pub use find::{EngineNotFound, find_engine, has_cuda};
pub use groups::{continue_engines, stop_engines};
pub use process::{Engine, EngineHandle, Place, WorkerError};
