//! The plan of a sweep as it was submitted, made again from the database.

use std::sync::Arc;

use super::environment::Environment;
use super::failure::Failure;
use crate::plan::Plan;
use crate::spec::{SourceText, SweepSpec};
use crate::store::{Store, StoredSweep};
use crate::task::TaskIndex;

/// Plans the newest version of a sweep again. Errors: no such sweep, the plan's.
pub(super) async fn stored_plan(
    store: &Store,
    sweep: &str,
    environment: &Environment,
) -> Result<Plan, Failure> {
    let StoredSweep { text, origin, .. } = store.sweep(sweep).await?;
    let mut spec = SweepSpec::parse(SourceText::new(&origin.file, &text))?;
    for (key, value) in origin.overrides.iter().chain(&origin.pinned) {
        spec.set(key, value).map_err(|problem| Failure::of_override(&problem))?;
    }
    let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
    let (known, mut digests) = (store.known().await?, store.digests().await?);
    environment.plan(&spec, &tasks, &known, &mut digests)
}
