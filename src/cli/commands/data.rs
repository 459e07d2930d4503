//! `loragrid data stats` and `loragrid data show`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{DataCommand, DataShowArguments, DataStatsArguments, SweepArguments};
use crate::cli::downloads::EventDisplay;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_error, write_json, write_line};
use crate::data::Encoded;
use crate::plan::{Plan, PlannedData, data_warnings};
use crate::report::LengthStats;
use crate::workspace::Workspace;

pub(in crate::cli) fn run(command: &DataCommand, workspace: &Workspace) -> Result<ExitCode, Failure> {
    match command {
        DataCommand::Stats(arguments) => stats(arguments, workspace),
        DataCommand::Show(arguments) => show(arguments, workspace),
    }
}

/// The plan of a sweep file, for its data alone.
fn plan(sweep: &SweepArguments, workspace: &Workspace) -> Result<Plan, Failure> {
    let spec = sweep.request().read()?;
    block_on(async {
        let (_, known, mut digests) = workspace.known_to_plan().await?;
        let mut display = EventDisplay::default();
        let watch = &mut |event| display.show(event);
        Ok(workspace.plan(&spec, &sweep.request().tasks()?, &known, &mut digests, watch)?)
    })
}

/// The data sets of a plan with their rows. Error: rows or tokenizer are not here.
fn encoded(plan: &Plan) -> Result<Vec<(&PlannedData, &Encoded)>, Failure> {
    let here: Vec<_> = plan.data.iter().filter_map(|data| Some((data, data.encoded.as_deref()?))).collect();
    if here.is_empty() {
        let none = Failure::new(ExitCode::Data, "the sweep has no data that can be encoded here", None);
        return Err(Failure::of_blockers(&plan.blockers).unwrap_or(none));
    }
    Ok(here)
}

fn stats(arguments: &DataStatsArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let plan = plan(&arguments.sweep, workspace)?;
    let mut values = Vec::new();
    for (data, encoded) in encoded(&plan)? {
        let lengths: Vec<usize> = encoded.examples.iter().map(|example| example.tokens.len()).collect();
        let scored: usize = encoded.examples.iter().map(|example| example.scored_tokens()).sum();
        let stats = LengthStats::of(&lengths);
        let kind = if data.template.contains("{%") { "chat" } else { &data.template };
        if let Some(path) = &arguments.svg {
            let written = std::fs::write(path, stats.svg(&format!("{} ({kind})", data.name)));
            written.map_err(|error| {
                Failure::new(
                    ExitCode::Internal,
                    format!("{} cannot be written: {error}", path.display()),
                    None,
                )
            })?;
            write_error(&format!("wrote {}", path.display()));
        }
        if is_json() {
            values.push(json!({
                "name": data.name, "template": data.template, "lengths": stats, "scored_tokens": scored,
                "truncated": encoded.truncated, "dropped": encoded.dropped,
                "warnings": data_warnings(data, None),
            }));
            continue;
        }
        write_line(&format!(
            "{} ({kind}): {} rows, {} tokens, {scored} scored; truncated {}, dropped {}\ntokens of a row: \
             min {}, median {}, mean {:.1}, 95 % {}, max {}",
            data.name,
            stats.rows,
            stats.tokens,
            encoded.truncated,
            encoded.dropped,
            stats.min,
            stats.median,
            stats.mean,
            stats.p95,
            stats.max
        ))?;
        write_line(&stats.render())?;
        warn(data);
    }
    if is_json() {
        write_json(&json!({ "data": values }))?;
    }
    Ok(ExitCode::Success)
}

/// What is said of a data set's rows, on standard error.
fn warn(data: &PlannedData) {
    for warning in data_warnings(data, None) {
        write_error(&format!("warning: {warning}"));
    }
}

fn show(arguments: &DataShowArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let plan = plan(&arguments.sweep, workspace)?;
    let (data, encoded) = encoded(&plan)?[0];
    warn(data);
    let rows = encoded.examples.len();
    let example = usize::try_from(arguments.row - 1).ok().and_then(|at| encoded.examples.get(at));
    let example = example.ok_or_else(|| {
        let message = format!("'{}' has {rows} rows; row {} does not exist", data.name, arguments.row);
        Failure::new(
            ExitCode::Data,
            message,
            "rows are counted from 1, after those that were dropped".to_owned(),
        )
    })?;
    let tokenizer = plan.models.iter().find_map(|model| model.local.as_ref()).map(|local| &local.tokenizer);
    let text = |token: u32| tokenizer.and_then(|t| t.decode(&[token]).ok()).unwrap_or_default();
    if is_json() {
        let tokens: Vec<_> = example
            .tokens
            .iter()
            .zip(&example.scored)
            .map(|(token, scored)| json!({ "id": token, "text": text(*token), "scored": scored }))
            .collect();
        write_json(&json!({ "row": arguments.row, "tokens": tokens }))?;
        return Ok(ExitCode::Success);
    }
    write_line(&format!(
        "row {} of {}: {} tokens, {} in the loss (marked |)",
        arguments.row,
        data.name,
        example.tokens.len(),
        example.scored_tokens()
    ))?;
    for (token, scored) in example.tokens.iter().zip(&example.scored) {
        let mark = if *scored { '|' } else { ' ' };
        write_line(&format!("{mark} {token:>7}  {:?}", text(*token)))?;
    }
    Ok(ExitCode::Success)
}
