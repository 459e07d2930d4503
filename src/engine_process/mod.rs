//! One engine process: start, orders in, events out, exit.

mod exit;
mod find;
mod groups;
mod launcher;
mod process;

pub use exit::EngineExit;
pub use find::{EngineNotFound, find_engine, has_cuda, product_rate};
pub use groups::{continue_engines, stop_engines};
pub use launcher::{Launcher, LauncherError};
pub use process::{Engine, EngineDevice, EngineHandle, WorkerError};
