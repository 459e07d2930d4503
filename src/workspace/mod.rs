//! What a user can do, callable without a shell: typed arguments in, data or an error out, progress as events.

mod evaluate;

pub use evaluate::{Evaluated, EvaluationQueue, EvaluationSubject, evaluate};
