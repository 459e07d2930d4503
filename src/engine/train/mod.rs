//! Training: passes over the windows of one or several runs; each window ends with an optimizer step.

mod checkpoint;
mod loss;
mod member;
mod pack;
mod replica;
mod targets;

pub(crate) use checkpoint::{Finished, finish, finished};
pub(crate) use member::{Checkpoints, Member, Run};
pub(crate) use pack::{TrainingEvent, train};
pub(crate) use replica::Replica;
