//! From a checked sweep file to jobs: expanded, validated against model, data and tasks, estimated, and held against
//! what is done already. Nothing runs here.

mod build;
mod error;
mod estimate;
mod expand;

pub use build::{Known, Plan, PlanContext, PlannedJob, PlannedTask, Work};
pub use error::PlanError;
pub use estimate::{Estimate, MemoryEstimate, Throughput};
pub use expand::expand;
