//! `loragrid effects`

use serde_json::json;

use super::top::say_sweep;
use crate::cli::ExitCode;
use crate::cli::arguments::EffectsArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, write_json, write_line};
use crate::report::{EffectsError, axis_effects, effects_metric, effects_table, levels_table, noise_notes};
use crate::store::{ScoresOf, Store};
use crate::task::MetricName;
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &EffectsArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let board = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let mut board = store.board(arguments.sweep.as_deref()).await?;
        if arguments.sweep.is_none() {
            say_sweep(&board.sweep);
        }
        let MetricName { task, metric } = effects_metric(&board, arguments.metric.as_deref())?;
        let metrics = [(task, metric)];
        store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
        store.close().await;
        Ok(board)
    })?;
    let effects = axis_effects(&board, arguments.metric.as_deref()).map_err(|error| match error {
        EffectsError::NoMetric(error) => error.into(),
        EffectsError::TooFew { .. } => {
            let help = "wait for more results".to_owned();
            Failure::new(ExitCode::NotFound, error.to_string(), help)
        }
    })?;
    if is_json() {
        write_json(&json!(effects))?;
        return Ok(ExitCode::Success);
    }
    let (with, all) = effects.cells;
    write_line(&format!("{}:{}, {with} of {all} cells", effects.task, effects.metric.as_str()))?;
    write_line(&show_table(&effects_table(&effects)))?;
    write_line(&show_table(&levels_table(&effects)))?;
    noise_notes(&effects).iter().try_for_each(|note| write_line(note))?;
    write_line(if effects.complete {
        "importance: part of the variance of the cells' means (functional analysis of variance), seeds as replicates"
    } else {
        "the grid has holes: importance is what a least-squares fit loses without the axis, means are the fit's, and the parts need not add up"
    })?;
    Ok(ExitCode::Success)
}
