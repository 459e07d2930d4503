//! Fatal errors of a run.

use std::path::PathBuf;

use thiserror::Error;

use crate::device::DeviceError;
use crate::engine_process::WorkerError;
use crate::protocol::FrameError;
use crate::queue::QueueError;
use crate::store::StoreError;

/// A fatal error of a run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The database, when `[keep]` is applied.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An engine.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// An order that cannot be sent.
    #[error("an order cannot be sent: {0}")]
    Order(#[from] FrameError),
    /// An engine with another protocol version.
    #[error("the engine speaks protocol {found}, this program {wanted}: build both with `make build`")]
    Protocol {
        /// The engine's.
        found: u32,
        /// This program's.
        wanted: u32,
    },
    /// An engine without CUDA on a GPU.
    #[error(
        "the engine found no GPU: it was built without CUDA, or the driver lost the GPU; run it with --devices cpu"
    )]
    NoCuda,
    /// GPUs that cannot be queried.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Engines crash on start on every slot.
    #[error("every device is quarantined, engines crash on each; last error: {0}")]
    NoDevice(String),
    /// The disk is full.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// A folder that cannot be created.
    #[error("cannot create {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
