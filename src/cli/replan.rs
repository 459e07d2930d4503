//! The plan of a sweep as it was submitted, made again from the database.

use std::sync::Arc;

use super::environment::Environment;
use super::failure::Failure;
use super::work::plan_interruptibly;
use crate::plan::Plan;
use crate::store::Store;
use crate::task::TaskIndex;

/// Plans the newest version of a sweep again. Errors: no such sweep, the plan's.
pub(super) async fn stored_plan(
    store: &Store,
    sweep: &str,
    environment: &Environment,
) -> Result<Plan, Failure> {
    let stored = store.sweep(sweep).await?;
    let (spec, origin) = (stored.spec()?, stored.origin);
    let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
    let (known, mut digests) = (store.known().await?, store.digests().await?);
    plan_interruptibly(|| environment.plan(&spec, &tasks, &known, &mut digests))
}
