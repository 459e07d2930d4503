//! From a checked sweep file to jobs: expanded, validated against model, data and tasks, estimated, and compared with finished work.
//! Nothing runs here.

mod blocker;
mod context;
mod data;
mod error;
mod estimate;
mod expand;
mod inputs;
mod job;
mod jobs;
mod models;
mod orders;
mod planner;
mod samples;
mod tasks;
mod warnings;

pub use blocker::Blocker;
pub use context::{CompletedWork, LastVersion, PlanContext, PlanStage};
pub use data::PlannedData;
pub use error::PlanError;
pub use estimate::{Estimate, MemoryEstimate, Throughput, weight_bytes};
pub use expand::{Expansion, expand};
pub use job::{PlannedJob, Work};
pub use models::{LocalModel, ModelFiles, OpenModelError, PlannedModel, hub_models};
pub use planner::Plan;
pub use samples::PlannedSample;
pub use tasks::{PlannedGroup, PlannedTask, task_notes};
pub use warnings::of_data as data_warnings;
