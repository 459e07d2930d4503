//! Why a run cannot go on.

use std::path::PathBuf;

use thiserror::Error;

use crate::device::DeviceError;
use crate::engine_process::WorkerError;
use crate::protocol::FrameError;
use crate::queue::QueueError;
use crate::store::StoreError;

/// Why a run cannot go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The database, where `[keep]` is looked after.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An engine.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// An order that cannot be sent.
    #[error("an order cannot be sent: {0}")]
    Order(#[from] FrameError),
    /// An engine of another version.
    #[error("the engine speaks protocol {found}, this program {wanted}: build both with `make build`")]
    Protocol {
        /// The engine's.
        found: u32,
        /// This program's.
        wanted: u32,
    },
    /// An engine without CUDA on a card.
    #[error(
        "the engine found no GPU: it was built without CUDA, or the driver lost the GPU; run it with --devices cpu"
    )]
    NoCuda,
    /// Cards that cannot be asked.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Engines that die at once, on every slot.
    #[error("every device is quarantined, engines crash on each; last error: {0}")]
    NoDevice(String),
    /// Nothing can be written any more.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// A folder that cannot be made.
    #[error("cannot create {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
