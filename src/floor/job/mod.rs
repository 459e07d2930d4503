//! Jobs: configuration, keys and states. No tensors, files or clocks.

mod cell;
mod choices;
mod config;
mod ids;
mod key;
pub mod real;
mod settings;
mod state;
mod units;
mod value;
mod words;

pub use cell::{CellKey, CellRank, SEED};
pub use choices::{
    AdapterDType, DType, Dequantize, Init, Labels, LastWindow, LayerKind, Loss, Optimizer, Overlong, Profile,
    PromptProfile, Quantize, RowOrder, Scaling, Schedule, ScheduleForm, Softmax, Variant,
};
pub use config::{
    BaseForm, EvalConfig, JobConfig, Length, LoraConfig, PromptConfig, TrainConfig, short_name,
};
pub use ids::{AttemptNumber, IdError, JobId, SlotId, SweepName};
pub use key::{
    Digest, ModelIdentity, SCORING_VERSION, ScoreFacts, ScoreKey, SubjectKey, TRAINING_VERSION,
    TrainingFacts, TrainingKey, canonical_json,
};
pub use settings::{
    Decides, KEYS, Key, KeyKind, Origin, Setting, Settings, StoredOrigin, ValueType, canonical_path,
    find_key, nearest_key, replaced_by,
};
pub use state::{IllegalTransition, JobState, Transition};
pub use units::{Bytes, Seconds, Tokens, counted};
pub use value::{Value, ValueError};
