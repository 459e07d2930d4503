//! The protocol between orchestrator and engine: orders on the engine's descriptor 0, events on its descriptor 3.

mod event;
mod frame;
mod order;
mod streams;

pub use event::{
    AnswerEnd, Device, Difference, DocumentScore, EngineFailure, Event, FailureKind, StepReport,
    TokenLogprobs, Trained,
};
pub use frame::{FrameError, MAX_FRAME, encode_frame, read_frame, split_frame, write_frame};
pub use order::{
    AskInquiry, CompareOrder, GenerateOrder, Inquiry, LoadOrder, MergeBase, MergeOrder, Order, PackOrder,
    SampleOrder, SamplePrompt, Sampling, ScoreOrder, ServeOrder, TaskOrder, TrainOrder,
};
pub use streams::use_standard_streams;

/// The engine's argument for orders and events over the standard streams, see [`use_standard_streams`].
pub const STANDARD_STREAMS: &str = "--standard-streams";

/// Version of orders and events; both sides reject any other. Bump it when the meaning of a field changes.
pub const PROTOCOL_VERSION: u32 = 12;

/// The descriptor for the engine's events.
pub const EVENT_DESCRIPTOR: i32 = 3;
