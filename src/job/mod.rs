//! What a job is: its configuration, its keys, its states. No tensor, no file, no clock.

mod config;
mod ids;
mod key;
mod settings;
mod state;
mod units;
mod value;

pub use config::{
    DType, EvalConfig, JobConfig, Labels, LayerKind, LoraConfig, Loss, Optimizer, RowOrder, Schedule,
    TrainConfig,
};
pub use ids::{AttemptNumber, IdError, JobId, SweepName};
pub use key::{Digest, ModelIdentity, ScoreKey, SubjectKey, TrainingKey, canonical_json};
pub use settings::{KEYS, Key, KeyKind, Origin, Setting, Settings, find_key, nearest_key};
pub use state::{IllegalTransition, JobState, Transition};
pub use units::{Bytes, Seconds, Tokens};
pub use value::{Value, ValueError};
