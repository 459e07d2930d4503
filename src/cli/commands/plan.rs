//! `loragrid plan`

use crate::cli::ExitCode;
use crate::cli::arguments::PlanArguments;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{terminal_width, write_json, write_line};
use crate::job::Seconds;
use crate::plan::{Plan, Throughput};
use crate::report::{plan_json, plan_table, render_terminal};

pub(in crate::cli) fn run(arguments: &PlanArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let spec = environment.spec(&arguments.sweep)?;
    let plan = block_on(async {
        let (store, known, mut digests) = environment.known().await?;
        let plan = environment.plan(&spec, &known, &mut digests)?;
        if let Some(store) = store {
            store.remember(&digests).await?;
            store.close().await;
        }
        Ok(plan)
    })?;
    if arguments.json {
        write_json(&plan_json(&plan))?;
    } else {
        write_line(&render_terminal(&plan_table(&plan), terminal_width()))?;
        write_line(&summary(&plan))?;
    }
    Ok(ExitCode::Success)
}

/// Two lines below the table.
pub(in crate::cli) fn summary(plan: &Plan) -> String {
    let (all, left) = (plan.jobs.len(), plan.to_run().count());
    let time: f64 = plan.to_run().map(|job| job.estimate.time.0).sum();
    let known = match plan.throughput {
        Throughput::Measured(rate) => format!("measured here: {rate:.0} tokens/s"),
        Throughput::Guessed(rate) => format!("a guess: {rate:.0} tokens/s"),
    };
    let jobs = if all == 1 { "job" } else { "jobs" };
    let parameters = crate::report::Cell::Count(plan.model.parameters()).show();
    format!(
        "{}: {all} {jobs}, {left} to run, about {} ({known})\nmodel: {} parameters, {}",
        plan.name,
        Seconds(time),
        parameters,
        plan.dtype.as_str()
    )
}
