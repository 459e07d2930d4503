//! The sweep file: TOML text → checked [`SweepSpec`], or every problem at once with its place.

mod error;
mod expression;
mod parse;
mod source;

pub use error::{Problem, SpecError};
pub use expression::{EvalError, Expression, ExpressionError};
pub use parse::{Axis, Derive, SweepSpec};
pub use source::SourceText;

/// Most jobs of one sweep.
pub const MAX_JOBS: u64 = 100_000;
