//! The sweep file: TOML → checked [`SweepSpec`], or all problems at once with their locations.

mod error;
mod expression;
mod parse;
mod print;
mod slurm;
mod source;
mod sweep;

pub use error::{Problem, SpecError};
pub use expression::{EvalError, Expression, ExpressionError, Scope};
pub use slurm::Slurm;
pub use source::SourceText;
pub use sweep::{
    Axis, Condition, Derive, FinalEval, Keep, KeepAdapters, Notify, SampleSpec, SweepSpec, Track, When, Zip,
};

/// Most jobs per sweep.
pub const MAX_JOBS: u64 = 100_000;
