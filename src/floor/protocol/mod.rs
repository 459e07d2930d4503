//! What orchestrator and engine say to each other: orders on the engine's descriptor 0, events on its descriptor 3.

mod event;
mod frame;
mod order;

pub use event::{Device, Difference, DocumentScore, EngineFailure, Event, FailureKind, StepReport, Trained};
pub use frame::{FrameError, MAX_FRAME, encode_frame, read_frame, split_frame, write_frame};
pub use order::{
    CompareOrder, GenerateOrder, LoadOrder, MergeBase, MergeOrder, Order, PackOrder, SampleOrder,
    SamplePrompt, Sampling, ScoreOrder, TaskOrder, TrainOrder,
};

/// Version of orders and events together; both sides refuse another one. Raise it when a field changes its meaning.
pub const PROTOCOL_VERSION: u32 = 8;

/// The descriptor on which the engine writes events.
pub const EVENT_DESCRIPTOR: i32 = 3;
