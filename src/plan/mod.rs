//! From a checked sweep file to jobs: expanded, validated against model, data and tasks, estimated, and held against
//! what is done already. Nothing runs here.

mod blocker;
mod build;
mod cells;
mod context;
mod data;
mod error;
mod estimate;
mod expand;
mod gather;
mod job;
mod models;
mod packs;
mod samples;
mod tasks;
mod warnings;

pub use blocker::Blocker;
pub use build::Plan;
pub use context::{Known, LastVersion, PlanContext};
pub use data::PlannedData;
pub use error::PlanError;
pub use estimate::{Estimate, MemoryEstimate, Throughput, weight_bytes};
pub use expand::{Expansion, expand};
pub use job::{PlannedJob, Work};
pub use models::{LocalModel, ModelFiles, PlannedModel, hub_models};
pub use packs::{PACK_MOST, Pack, PackRules, makespan, packs};
pub use samples::PlannedSample;
pub use tasks::{PlannedGroup, PlannedTask, task_notes};
pub use warnings::of_data as data_warnings;
