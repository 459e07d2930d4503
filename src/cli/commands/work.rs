//! `loragrid work`

use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::write_error;
use crate::cli::queue_arguments::WorkArguments;
use crate::cli::replan::stored_plan;
use crate::cli::work::{carry_out, exit_code, stops};
use crate::device::Inventory;
use crate::job::{JobId, JobState};
use crate::queue::{Observer, Queue};
use crate::runner::RunError;
use crate::store::Store;

/// Why jobs of an earlier release wait that their sweep does not have when it is planned here.
const OTHERWISE: &str = "planned here, the model, the rows or a task are not what they were at submission";

pub(in crate::cli) fn run(arguments: &WorkArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    environment.slots(&Inventory::find())?;
    let mut limits = arguments.working.limits()?;
    limits.forever = arguments.forever;
    block_on(async {
        let (mut stops, patience) = stops();
        let store = Store::open(&environment.db).await?.with(patience);
        // Jobs of processes that exited wait for nobody.
        store.recover(&mut Observer::default(), limits.lease).await?;
        let without_orders = adopt(&store, environment).await?;
        let is_idle = store.active().await?.is_empty();
        if is_idle && !arguments.forever {
            store.close().await;
            return Ok(if without_orders { ExitCode::Blocked } else { ExitCode::Success });
        }
        let runner = arguments.working.runner(&store, None, environment, &limits)?;
        let outcome = carry_out(&runner, environment, &mut stops).await?;
        store.close().await;
        Ok(match exit_code(&outcome) {
            ExitCode::Success if without_orders || !outcome.waiting.is_empty() => ExitCode::Blocked,
            code => code,
        })
    })
}

/// Gives queued jobs of an earlier release their orders, by planning their sweeps again. `true`: some have none still, and stay
/// queued with the reason.
async fn adopt(store: &Store, environment: &Environment) -> Result<bool, Failure> {
    let mut left = false;
    for sweep in store.sweeps_without_orders().await? {
        let reason = match plan_and_adopt(store, &sweep, environment).await {
            Ok(()) => OTHERWISE.to_owned(),
            // One sweep that cannot be planned here ends nothing else.
            Err(failure) => failure.message().to_owned(),
        };
        let queued: Vec<JobId> = store.jobs_in(Some(&sweep), &[JobState::Queued]).await?;
        let waiting = store.without_orders(&queued).await?;
        if !waiting.is_empty() {
            left = true;
            store.note_waiting(&waiting, &reason).await?;
            write_error(&format!("sweep {sweep} stays queued: {reason}"));
        }
    }
    Ok(left)
}

async fn plan_and_adopt(store: &Store, sweep: &str, environment: &Environment) -> Result<(), Failure> {
    let plan = stored_plan(store, sweep, environment).await?;
    if let Some(failure) = Failure::of_blockers(&plan.blockers) {
        return Err(failure);
    }
    let cache = store.results().join("cache");
    plan.write_inputs(&cache).map_err(|source| RunError::Folder { path: cache, source })?;
    store.adopt(sweep, &plan).await?;
    Ok(())
}
