//! Training: window after window, each covered by passes, each ended by an optimizer step.

mod checkpoint;
mod loss;
mod run;

pub(crate) use checkpoint::{Finished, finish, finished};
pub(crate) use run::{Checkpoints, Run, Told, train};
