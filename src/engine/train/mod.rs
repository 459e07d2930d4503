//! Training: passes over the windows of one run or of several, each window ended by an optimizer step.

mod checkpoint;
mod loss;
mod member;
mod pack;
mod targets;

pub(crate) use checkpoint::{Finished, finish, finished};
pub(crate) use member::{Checkpoints, Member, Run};
pub(crate) use pack::{TrainingEvent, train};
