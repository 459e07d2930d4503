//! `loragrid run`

use tokio::signal::unix::{SignalKind, signal};

use super::plan::summary;
use super::top;
use crate::cli::ExitCode;
use crate::cli::arguments::RunArguments;
use crate::cli::data_sets::bring;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::models::pull;
use crate::cli::output::{write_error, write_line};
use crate::cli::progress::Display;
use crate::device::cpu_slots;
use crate::plan::hub_models;
use crate::runner::{RunSummary, Runner};
use crate::store::Store;
use crate::worker::find_engine;

pub(in crate::cli) fn run(arguments: &RunArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let spec = environment.spec(&arguments.sweep)?;
    for id in hub_models(&spec)?.iter().filter(|id| environment.hub.cache.find(id).is_none()) {
        pull(id, environment)?;
    }
    let tasks = environment.tasks(&arguments.sweep)?;
    block_on(async {
        // Everything that can be wrong with the request is found before the database is touched.
        let (store, known, mut digests) = environment.known().await?;
        if let Some(store) = &store {
            store.recover().await?;
        }
        let mut plan = environment.plan(&spec, &tasks, &known, &mut digests)?;
        if bring(plan.tasks.iter().map(|planned| &planned.task), environment)? {
            plan = environment.plan(&spec, &tasks, &known, &mut digests)?;
        }
        plan.warnings.iter().for_each(|warning| write_error(&format!("warning: {warning}")));
        if let Some(failure) = Failure::of_blockers(&plan.blockers) {
            return Err(failure);
        }
        let program = std::env::current_exe().ok();
        let engine = match plan.to_run().next() {
            Some(_) => find_engine(
                arguments.engine.as_deref(),
                program.as_deref(),
                std::env::var_os("PATH").as_deref(),
            )?,
            None => Default::default(),
        };
        let store = match store {
            Some(store) => store,
            None => Store::open(&environment.db).await?,
        };
        store.remember(&digests).await?;
        store.submit(&plan).await?;
        write_error(&summary(&plan));
        let runner = Runner { store: &store, engine, slots: cpu_slots(), results: environment.results() };
        let mut display = Display::new(plan.to_run().count() as u64);
        let outcome = runner.run(&plan, &mut |progress| display.show(progress), stop_signal()).await;
        display.finish();
        let outcome = outcome?;
        report_ends(&outcome, environment);
        let board = store.leaderboard(Some(plan.name.as_str())).await?;
        top::print(&board, arguments.json)?;
        if !arguments.json {
            write_line(&next_commands(plan.name.as_str(), &arguments.sweep.file.display().to_string()))?;
        }
        store.close().await;
        Ok(exit_code(&outcome))
    })
}

/// Resolves at the first SIGINT, SIGTERM or SIGHUP.
async fn stop_signal() {
    let streams = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = streams else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

fn report_ends(outcome: &RunSummary, environment: &Environment) {
    for (word, jobs) in [("failed", &outcome.failed), ("diverged", &outcome.diverged)] {
        for (label, reason) in jobs {
            write_error(&format!("{label} {word}: {reason}"));
        }
    }
    if outcome.stopped {
        write_error("stopped; the same command goes on where this one ended");
    }
    if !outcome.failed.is_empty() {
        write_error(&format!("logs are in {}", environment.results().join("logs").display()));
    }
    if outcome.finished > 0 {
        write_error(&format!("{} jobs done in {}", outcome.finished, outcome.seconds));
    }
}

fn exit_code(outcome: &RunSummary) -> ExitCode {
    if outcome.stopped {
        ExitCode::Interrupted
    } else if !outcome.failed.is_empty() || !outcome.diverged.is_empty() {
        ExitCode::JobsFailed
    } else {
        ExitCode::Success
    }
}

fn next_commands(name: &str, file: &str) -> String {
    format!(
        "\nNext:\n  loragrid top {name} --json   every number of this table\n  loragrid plan {file}   what is done, what would run after an edit\n  loragrid status   every sweep of the database"
    )
}
