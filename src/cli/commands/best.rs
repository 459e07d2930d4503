//! `loragrid best`: the winner by the objective, and its one look at the tasks that were kept for the end.

use std::path::Path;

use serde_json::json;

use super::submit::submit;
use super::top;
use crate::cli::ExitCode;
use crate::cli::arguments::{BestArguments, WinnerFormat};
use crate::cli::downloads::EventDisplay;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_error, write_json, write_line};
use crate::cli::work::{carry_out, exit_code, stops};
use crate::job::counted;
use crate::report::{BoardView, Cell, metric_title};
use crate::store::{Leaderboard, Store, StoredJob, StoredSweep};
use crate::sweep_file::{SourceText, SweepSpec};
use crate::workspace::{AdapterFormat, SessionDevice, Winner, WorkRequest, Workspace, winner};

pub(in crate::cli) fn run(arguments: &BestArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let limits = arguments.working.limits()?;
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let board = top::board_of(&store, arguments.sweep.as_deref()).await?;
        let found = winner(&store, &board).await?;
        if let (Some(format), Some(out)) = (arguments.export, &arguments.out) {
            export(&store, (&board, &found), (format, out), workspace).await?;
            store.close().await;
            return Ok(ExitCode::Success);
        }
        if !arguments.final_tasks {
            tell(&store, &board, &found, is_json()).await?;
            store.close().await;
            return Ok(ExitCode::Success);
        }
        let mut display = EventDisplay::of_run();
        let prepared =
            workspace.prepare_final(store, &board.sweep, &found, &mut |event| display.show(event)).await?;
        drop(display);
        if prepared.plan.to_run().next().is_some() {
            workspace.find_engine()?;
        }
        let (store, plan) = submit(prepared, workspace).await?;
        let (mut stops, patience) = stops();
        let store = store.with(patience);
        let request = WorkRequest::of_plan(&plan, limits, workspace.pack);
        write_error(&format!(
            "{} wins {}; its tasks of [final] are those of sweep {}",
            found.best.label, board.sweep, plan.name
        ));
        let outcome = carry_out(&store, workspace, request, &mut stops).await?;
        top::show_sweep(&store, plan.name.as_str()).await?;
        store.close().await;
        Ok(exit_code(&outcome))
    })
}

/// Writes the winner for use elsewhere.
async fn export(
    store: &Store,
    of: (&Leaderboard, &Winner),
    (format, out): (WinnerFormat, &Path),
    workspace: &Workspace,
) -> Result<(), Failure> {
    let format = match format {
        WinnerFormat::Peft => AdapterFormat::Peft,
        WinnerFormat::Gguf => AdapterFormat::Gguf,
        WinnerFormat::Merged => AdapterFormat::Merged,
    };
    let on = SessionDevice { device: "cpu".to_owned(), engine: workspace.engine.clone() };
    let mut display = EventDisplay::default();
    let watch = &mut |event| display.show(event);
    let written = workspace.export_winner(store, of, (format, out), &on, watch).await?;
    if is_json() {
        write_json(&json!({ "job": written.job, "folder": written.folder, "files": written.files }))?;
    } else {
        write_line(&format!("{}: {}", written.folder.display(), written.files.join(", ")))?;
    }
    Ok(())
}

async fn tell(store: &Store, board: &Leaderboard, found: &Winner, json: bool) -> Result<(), Failure> {
    let best = &found.best;
    let job = store.job(&best.jobs[0]).await?;
    // The commands below name its folder.
    store.bring_adapter(&job.id).await?;
    if json {
        let ties: Vec<&str> = found.ties.iter().map(|row| row.label.as_str()).collect();
        write_json(&json!({
            "sweep": board.sweep, "best": best, "metric": metric_title(&found.metric), "ties": ties, "adapter": job.adapter,
        }))?;
        return Ok(());
    }
    let score = best.scores.iter().find(|score| score.value.is_some());
    let score = BoardView::of(board).rank.and_then(|rank| best.score(&rank).cloned()).or(score.cloned());
    let shown = score.and_then(|score| {
        let value = match (score.value?, score.error) {
            (value, Some(error)) => Cell::Uncertain(value, error, 3),
            (value, None) => Cell::Number(value, 3),
        };
        let base =
            score.difference.map(|own| format!(", {} vs. the base model", Cell::Signed(own, 3).show()));
        Some(format!("{}{}", value.show(), base.unwrap_or_default()))
    });
    write_line(&format!("{}: {} {}", best.label, metric_title(&found.metric), shown.unwrap_or_default()))?;
    write_line(&format!("jobs {}", best.jobs.join(", ")))?;
    let ties: Vec<&str> = found.ties.iter().map(|row| row.label.as_str()).collect();
    if !ties.is_empty() {
        write_line(&format!("statistically tied with {}", ties.join(", ")))?;
    }
    if found.waiting > 0 {
        write_line(&format!("not finished yet: {}", counted(found.waiting as u64, "job")))?;
    }
    let db = (store.path() != Path::new(crate::workspace::DATABASE)).then(|| store.path());
    write_line(&next_commands(board, found, &job, (&store.sweep(&board.sweep).await?, db)))?;
    Ok(())
}

/// Commands as a shell takes them; those that read the database name it where it is not the usual one.
fn next_commands(
    board: &Leaderboard,
    found: &Winner,
    job: &StoredJob,
    (sweep, db): (&StoredSweep, Option<&Path>),
) -> String {
    let loragrid = match db {
        Some(path) => format!("loragrid --db {}", word(&path.display().to_string())),
        None => "loragrid".to_owned(),
    };
    let named = job.settings.get("model").map_or_else(String::new, |(value, _)| value.to_string());
    // A path starts at the sweep file; a hub id is no path.
    let beside = sweep.origin.file.parent().map(|folder| folder.join(&named)).filter(|path| path.exists());
    let model = word(&beside.map_or(named, |path| path.display().to_string()));
    let mut lines = vec!["\nNext:".to_owned()];
    if let Some(next) = &found.next {
        lines.push(format!(
            "  {loragrid} compare {} {} --examples 5   compare with the runner-up",
            next.jobs[0], found.best.jobs[0]
        ));
    }
    if let Some(adapter) = job.adapter.as_ref().filter(|_| job.adapter_removed.is_none()) {
        let adapter = word(adapter);
        lines.push(format!("  loragrid chat {model} --adapter {adapter}   chat with it"));
        lines.push(format!(
            "  loragrid merge {model} --adapter {adapter} --out merged   merge into a Hugging Face folder"
        ));
    }
    let parsed = SweepSpec::parse(SourceText::new(&sweep.origin.file, &sweep.text));
    if parsed.is_ok_and(|spec| spec.final_eval.is_some()) {
        lines.push(format!("  {loragrid} best {} --final   held-out evaluation", board.sweep));
    }
    lines.join("\n")
}

/// A word of a command line, quoted where a shell would break it.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
