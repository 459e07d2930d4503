//! `loragrid effects`

use serde_json::json;

use super::top::board_of;
use crate::cli::ExitCode;
use crate::cli::arguments::EffectsArguments;
use crate::cli::environment::Environment;
use crate::cli::failure::Failure;
use crate::cli::output::{terminal_width, write_json, write_line};
use crate::report::{EffectsError, axis_effects, effects_table, levels_table, render_terminal};

pub(in crate::cli) fn run(
    arguments: &EffectsArguments,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let board = board_of(arguments.sweep.as_deref(), environment)?;
    let effects = axis_effects(&board, arguments.metric.as_deref()).map_err(|error| {
        let help = match &error {
            EffectsError::NoMetric { known, .. } if !known.is_empty() => {
                format!("it scores {}", known.join(", "))
            }
            _ => "wait until more of the sweep is done".to_owned(),
        };
        Failure::new(ExitCode::NotFound, error.to_string(), help)
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
