//! `loragrid best`: the winner by the objective, and its one look at the tasks that were kept for the end.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::submit::submit;
use super::top;
use crate::cli::ExitCode;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_error, write_json, write_line};
use crate::cli::result_arguments::BestArguments;
use crate::cli::work::{carry_out, exit_code, stops};
use crate::job::{Digest, JobState, Origin, Settings, SweepName, Value, find_key};
use crate::report::{BoardRow, BoardView, Cell, RowKind, metric_title};
use crate::store::{Leaderboard, Store, StoredJob, StoredSweep, SweepOrigin};
use crate::sweep_file::{Axis, FinalEval, SourceText, SweepSpec};
use crate::task::TaskIndex;
use crate::workspace::{Prepared, WorkRequest, Workspace};

pub(in crate::cli) fn run(arguments: &BestArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let limits = arguments.working.limits()?;
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let board = top::board_of(&store, arguments.sweep.as_deref()).await?;
        let found = winner(&store, &board).await?;
        if !arguments.final_tasks {
            tell(&store, &board, &found, arguments.json).await?;
            store.close().await;
            return Ok(ExitCode::Success);
        }
        let mut jobs = Vec::new();
        for id in &found.best.jobs {
            jobs.push(store.job(id).await?);
        }
        let prepared = prepare_final(store, &board, &jobs, workspace).await?;
        if prepared.plan.to_run().next().is_some() {
            workspace.find_engine()?;
        }
        let (store, plan) = submit(prepared, workspace).await?;
        let (mut stops, patience) = stops();
        let store = store.with(patience);
        let request = WorkRequest::of_plan(&plan, limits, arguments.working.pack as usize);
        write_error(&format!(
            "{} wins {}; its tasks of [final] are those of sweep {}",
            found.best.label, board.sweep, plan.name
        ));
        let outcome = carry_out(&store, workspace, request, &mut stops).await?;
        top::show_sweep(&store, plan.name.as_str(), arguments.json).await?;
        store.close().await;
        Ok(exit_code(&outcome))
    })
}

/// The best row and those that the data cannot tell from it.
struct Winner {
    best: BoardRow,
    metric: String,
    ties: Vec<BoardRow>,
    next: Option<BoardRow>,
    /// Jobs that may still come out better.
    waiting: usize,
}

/// The best row. Errors: no objective, no row that has its score in every seed.
async fn winner(store: &Store, board: &Leaderboard) -> Result<Winner, Failure> {
    let none = |message: String| {
        let help = "`loragrid top` shows where each run stands; `loragrid work` goes on".to_owned();
        Failure::new(ExitCode::NotFound, message, help)
    };
    let view = BoardView::of(board);
    let rank = view.rank.clone().ok_or_else(|| none(format!("sweep '{}' has no objective", board.sweep)))?;
    let rows = top::tested_rows(store, board, &view).await?;
    let best = rows.iter().find(|row| row.best).cloned();
    let waiting = board
        .jobs
        .iter()
        .filter(|job| {
            job.is_cell() && matches!(job.state, JobState::Queued | JobState::Running | JobState::Paused)
        })
        .count();
    let missing = || none(format!("no run of sweep '{}' has its {} yet", board.sweep, metric_title(&rank)));
    let best = best.ok_or_else(missing)?;
    let ties = rows.iter().filter(|row| row.tied).cloned().collect();
    let next = rows.into_iter().find(|row| {
        row.kind() == RowKind::Cell && !row.best && row.score(&rank).is_some_and(|own| own.whole().is_some())
    });
    Ok(Winner { best, metric: metric_title(&rank), ties, next, waiting })
}

async fn tell(store: &Store, board: &Leaderboard, found: &Winner, json: bool) -> Result<(), Failure> {
    let best = &found.best;
    let job = store.job(&best.jobs[0]).await?;
    if json {
        let ties: Vec<&str> = found.ties.iter().map(|row| row.label.as_str()).collect();
        write_json(&json!({
            "sweep": board.sweep, "best": best, "metric": found.metric, "ties": ties, "adapter": job.adapter,
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
        let base = score.difference.map(|own| format!(", {} to the base model", Cell::Signed(own, 3).show()));
        Some(format!("{}{}", value.show(), base.unwrap_or_default()))
    });
    write_line(&format!("{}: {} {}", best.label, found.metric, shown.unwrap_or_default()))?;
    write_line(&format!("jobs {}", best.jobs.join(", ")))?;
    let ties: Vec<&str> = found.ties.iter().map(|row| row.label.as_str()).collect();
    if !ties.is_empty() {
        write_line(&format!("the data cannot tell it from {}", ties.join(", ")))?;
    }
    if found.waiting > 0 {
        write_line(&format!("{} jobs of the sweep are still to end", found.waiting))?;
    }
    let db = (store.path() != Path::new(crate::cli::arguments::DATABASE)).then(|| store.path());
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
            "  {loragrid} compare {} {} --examples 5   against the next",
            next.jobs[0], found.best.jobs[0]
        ));
    }
    if let Some(adapter) = job.adapter.as_ref().filter(|_| job.adapter_removed.is_none()) {
        let adapter = word(adapter);
        lines.push(format!("  loragrid chat {model} --adapter {adapter}   talk with it"));
        lines.push(format!(
            "  loragrid merge {model} --adapter {adapter} --out merged   a Hugging Face folder"
        ));
    }
    let parsed = SweepSpec::parse(SourceText::new(&sweep.origin.file, &sweep.text));
    if parsed.is_ok_and(|spec| spec.final_eval.is_some()) {
        lines.push(format!(
            "  {loragrid} best {} --final   its one look at the tasks of [final]",
            board.sweep
        ));
    }
    lines.join("\n")
}

/// The winner's jobs and their base model on the tasks of `[final]`, as a sweep of their own. Errors: the sweep has none, the plan's.
async fn prepare_final(
    store: Store,
    board: &Leaderboard,
    jobs: &[StoredJob],
    workspace: &Workspace,
) -> Result<Prepared, Failure> {
    let StoredSweep { text, origin, .. } = store.sweep(&board.sweep).await?;
    let sweep = SweepSpec::parse(SourceText::new(&origin.file, &text))?;
    let Some(FinalEval { eval }) = &sweep.final_eval else {
        let help =
            "add [final] with eval = [\"…\"] to the sweep file, and run it again: nothing is trained twice"
                .to_owned();
        let message = format!("sweep '{}' keeps no task for the end", board.sweep);
        return Err(Failure::new(ExitCode::SweepFile, message, help));
    };
    let spec = spec_of(&sweep, final_name(&board.sweep)?, jobs, eval)?;
    let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
    let (known, mut digests) = (store.known().await?, store.digests().await?);
    let mut plan = workspace.plan(&spec, &tasks, &known, &mut digests)?;
    if crate::cli::downloads::pull_rows(plan.tasks.iter().map(|planned| &planned.task), workspace)? {
        plan = workspace.plan(&spec, &tasks, &known, &mut digests)?;
    }
    if let Some(failure) = Failure::of_blockers(&plan.blockers) {
        return Err(failure);
    }
    let origin = SweepOrigin { overrides: Vec::new(), ..origin }.pinned_for(&spec);
    Ok(Prepared { plan, origin, store: Some(store), digests })
}

/// `NAME-final`; of a name that leaves no room for that its beginning and a digest, so that no other sweep is meant.
fn final_name(sweep: &str) -> Result<SweepName, Failure> {
    let short = || {
        let digest = Digest::of(sweep.as_bytes()).to_string();
        SweepName::new(&format!("{:.40}-{:.8}-final", sweep, digest))
    };
    SweepName::new(&format!("{sweep}-final")).or_else(|_| short()).map_err(|error| {
        Failure::new(ExitCode::Usage, error.to_string(), "give the sweep a shorter name".to_owned())
    })
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

/// A sweep of the winner's seeds with other tasks. Nothing in it decides the training, so nothing is trained.
fn spec_of(
    sweep: &SweepSpec,
    name: SweepName,
    jobs: &[StoredJob],
    eval: &[String],
) -> Result<SweepSpec, Failure> {
    let mut settings = Settings::new();
    // Iterations that follow from epochs would be said twice.
    let by_epochs = jobs[0].settings.contains_key("train.epochs");
    for (path, (value, origin)) in &jobs[0].settings {
        if by_epochs && path == "train.iterations" {
            continue;
        }
        let set = origin != "default" && !origin.starts_with("profile ");
        let own = !["objective", "eval", "reference", "seed"].contains(&path.as_str());
        if let (true, true, Some(key)) = (set, own, find_key(path)) {
            settings.set(key, value.clone(), Origin::CommandLine);
        }
    }
    if let Some(key) = find_key("eval") {
        let names = eval.iter().map(|name| Value::from(name.as_str())).collect();
        settings.set(key, Value::List(names), Origin::CommandLine);
    }
    let seeds: Vec<Value> = jobs.iter().filter_map(|job| Some(job.settings.get("seed")?.0.clone())).collect();
    let axis = |key| Axis { key, values: seeds.clone(), span: 0..0 };
    let spec = SweepSpec {
        name,
        settings,
        axes: find_key("seed").filter(|_| !seeds.is_empty()).map(axis).into_iter().collect(),
        zips: Vec::new(),
        when: Vec::new(),
        derive: Vec::new(),
        exclude: Vec::new(),
        final_eval: None,
        samples: None,
        ..sweep.clone()
    };
    // What is stored is the text, so the plan is made from it.
    let text = spec.to_toml();
    Ok(SweepSpec::parse(SourceText::new(sweep.source.path(), &text))?)
}
