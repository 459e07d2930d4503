//! `loragrid work`

use crate::cli::ExitCode;
use crate::cli::arguments::WorkArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_error, write_note};
use crate::cli::work::{carry_out, exit_code, planning, stops};
use crate::device::Inventory;
use crate::job::JobState;
use crate::queue::{Observer, Queue};
use crate::store::Store;
use crate::workspace::{WorkRequest, Workspace};

pub(in crate::cli) fn run(arguments: &WorkArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    workspace.slots(&Inventory::find())?;
    let mut limits = arguments.working.limits()?;
    limits.forever = arguments.forever;
    block_on(async {
        let (mut stops, patience) = stops();
        let store = Store::open(&workspace.db).await?.with(patience);
        // Jobs of processes that exited wait for nobody.
        store.recover(&mut Observer::default(), limits.lease).await?;
        let without_orders = planning(workspace.adopt(&store)).await?;
        for (sweep, reason) in &without_orders {
            write_error(&format!("sweep {sweep} remains queued: {reason}"));
        }
        let is_idle = store.active().await?.is_empty();
        if is_idle && !arguments.forever {
            let paused = store
                .status()
                .await?
                .iter()
                .map(|sweep| sweep.counts.get(&JobState::Paused).copied().unwrap_or_default())
                .sum::<u64>();
            write_note(&match paused {
                0 => "the queue is empty".to_owned(),
                paused => format!("the queue is empty; {paused} paused: `loragrid resume` requeues them"),
            });
            store.close().await;
            return Ok(if without_orders.is_empty() { ExitCode::Success } else { ExitCode::Blocked });
        }
        let request = WorkRequest { only: None, limits, pack: workspace.pack, keep: Vec::new() };
        let outcome = carry_out(&store, workspace, request, &mut stops).await?;
        store.close().await;
        Ok(match exit_code(&outcome) {
            ExitCode::Success if !without_orders.is_empty() => ExitCode::Blocked,
            code => code,
        })
    })
}
