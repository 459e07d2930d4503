//! Training: window after window, each covered by passes, each ended by an optimizer step.

mod loss;
mod run;

pub(crate) use run::{Run, train};
