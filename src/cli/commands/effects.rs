//! `loragrid effects`

use serde_json::json;

use super::top::board_of;
use crate::cli::ExitCode;
use crate::cli::arguments::EffectsArguments;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{terminal_width, write_json, write_line};
use crate::report::{EffectsError, axis_effects, effects_table, levels_table, render_terminal};
use crate::store::Store;

pub(in crate::cli) fn run(
    arguments: &EffectsArguments,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let board = block_on(async {
        let store = Store::open_to_read(&environment.db).await?;
        let board = board_of(&store, arguments.sweep.as_deref()).await?;
        store.close().await;
        Ok(board)
    })?;
    let effects = axis_effects(&board, arguments.metric.as_deref()).map_err(|error| match error {
        EffectsError::NoMetric(error) => error.into(),
        EffectsError::TooFew { .. } => {
            let help = "wait until more of the sweep is done".to_owned();
            Failure::new(ExitCode::NotFound, error.to_string(), help)
        }
    })?;
    if arguments.json {
        write_json(&json!(effects))?;
        return Ok(ExitCode::Success);
    }
    let (with, all) = effects.cells;
    write_line(&format!("{}:{}, {with} of {all} cells", effects.task, effects.metric.as_str()))?;
    write_line(&render_terminal(&effects_table(&effects), terminal_width()))?;
    write_line(&render_terminal(&levels_table(&effects), terminal_width()))?;
    write_line(if effects.complete {
        "importance: part of the variance of the cells' means (functional analysis of variance), seeds as replicates"
    } else {
        "the grid has holes: importance is what a least-squares fit loses without the axis, and the parts need not add up"
    })?;
    Ok(ExitCode::Success)
}
