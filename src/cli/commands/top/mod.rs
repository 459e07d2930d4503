//! `loragrid top`

mod board_query;
mod pivot;

use std::collections::HashMap;

use serde_json::json;

use self::board_query::{BoardQuery, key, named, read_boards};
use self::pivot::show_pivot;
use crate::cli::ExitCode;
use crate::cli::arguments::{ShownArguments, TopArguments};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{
    in_one_line, is_json, show_table, write_error, write_event, write_json, write_line,
};
use crate::job::find_key;
use crate::report::{
    BoardColumn, BoardRow, BoardView, FilterError, Sort, UnknownMetric, best_cell, board_notes, board_table,
    cells_of, count_competing, mark_ties, numbered, rank_cells, rows_of,
};
use crate::store::{BoardJob, FirstRows, Leaderboard, ScoresOf, Store};
use crate::workspace::{NEAR, Workspace, near_the_best, remember_board};

/// Rows that a terminal shows where nothing else is asked for.
const ROWS: usize = 40;

pub(in crate::cli) fn run(arguments: &TopArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        show_any(&store, arguments, Style::Object).await?;
        store.close().await;
        Ok(ExitCode::Success)
    })
}

/// Ends a run: a sweep's leaderboard as `top` shows it.
pub(super) async fn show_sweep(store: &Store, sweep: &str) -> Result<(), Failure> {
    let arguments = TopArguments { sweeps: vec![sweep.to_owned()], ..TopArguments::default() };
    show_any(store, &arguments, Style::Event).await
}

/// How a leaderboard is written as JSON.
#[derive(Debug, Clone, Copy)]
enum Style {
    /// One object.
    Object,
    /// The last line of a run's events.
    Event,
}

async fn show_any(store: &Store, arguments: &TopArguments, style: Style) -> Result<(), Failure> {
    let first = match is_plain(arguments) {
        true => {
            let sweep = arguments.sweeps.first().map(String::as_str);
            store
                .first_rows(sweep, most_rows(arguments).max(NEAR), |board| {
                    named(&BoardView::of(board).metrics)
                })
                .await?
        }
        false => None,
    };
    let asked = match first {
        Some(FirstRows { board, all, competing }) => {
            BoardQuery { known: Some((all, competing)), ..BoardQuery::of(vec![board]) }
        }
        None => read_boards(store, arguments).await?,
    };
    let board = &asked.board;
    if arguments.sweeps.is_empty() {
        say_sweep(board);
    }
    if board.jobs.is_empty() {
        return Err(empty(board));
    }
    if arguments.shown.condition.is_some() && !board.jobs.iter().any(BoardJob::is_cell) {
        let help = "`loragrid top --all` without --where shows what there is".to_owned();
        let message = format!("no run of sweep '{}' meets the condition", board.sweep);
        return Err(Failure::new(ExitCode::NotFound, message, help));
    }
    match arguments.pivot.as_slice() {
        [rows, columns] => show_pivot(store, asked, (rows, columns), arguments).await,
        _ => show(store, asked, arguments, style).await,
    }
}

/// Whether the first rows by the objective are all that is asked for.
fn is_plain(arguments: &TopArguments) -> bool {
    let ShownArguments { sort, metrics, columns, condition, group_by } = &arguments.shown;
    let nothing = sort.is_none()
        && metrics.is_empty()
        && columns.is_empty()
        && condition.is_none()
        && group_by.is_empty();
    nothing && arguments.pivot.is_empty() && !arguments.all && !is_json() && arguments.sweeps.len() < 2
}

/// Most rows that are shown.
fn most_rows(arguments: &TopArguments) -> usize {
    match (arguments.rows, arguments.all || is_json()) {
        (Some(rows), _) => rows,
        (None, true) => usize::MAX,
        (None, false) => ROWS,
    }
}

/// A sweep with every score, or the last one submitted, which is then said on standard error. Errors: no such sweep, no job.
pub(super) async fn board_of(store: &Store, sweep: Option<&str>) -> Result<Leaderboard, Failure> {
    let board = crate::workspace::board(store, sweep).await?;
    if sweep.is_none() {
        say_sweep(&board);
    }
    Ok(board)
}

pub(super) fn say_sweep(board: &Leaderboard) {
    write_error(&format!("sweep {} (last submitted)", board.sweep));
}

fn empty(board: &Leaderboard) -> Failure {
    crate::workspace::WorkspaceError::NoJobs(board.sweep.clone()).into()
}

impl From<UnknownMetric> for Failure {
    fn from(error: UnknownMetric) -> Self {
        let help = match error.known.as_slice() {
            [] => "it has no task".to_owned(),
            known => format!("it scores {}", known.join(", ")),
        };
        Self::new(ExitCode::NotFound, error.to_string(), help)
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        let help =
            "such as \"lora.rank >= 64 && arc_easy > 0.4\"; `loragrid keys` lists the keys, and a score is named task or task:metric"
                .to_owned();
        let place = match &error {
            FilterError::Text { span, .. } => format!(" at character {}", span.start + 1),
            FilterError::NotBool => String::new(),
        };
        Self::new(ExitCode::Usage, format!("--where{place}: {error}"), help)
    }
}

/// What is to be shown. Errors: a metric or key that there is not.
fn view_of(board: &Leaderboard, arguments: &TopArguments) -> Result<BoardView, Failure> {
    let mut view = BoardView::of(board);
    let shown = &arguments.shown;
    if !shown.metrics.is_empty() {
        let names = whole_names(&shown.metrics, &|name| board.metric_named(name).is_ok());
        let named = names.iter().map(|name| board.metric_named(name));
        view.metrics = named.collect::<Result<_, _>>()?;
        view.metrics_named = true;
    }
    if let Some(sort) = &shown.sort {
        match Sort::named(sort) {
            Sort::Key(name) if find_key(&name).is_none() => {
                view.rank = Some(board.metric_named(sort)?);
            }
            own => view.sort = own,
        }
    }
    if let Some(rank) = view.rank.clone().filter(|rank| !view.metrics.contains(rank)) {
        view.metrics.insert(0, rank);
    }
    if !shown.group_by.is_empty() {
        view.keys = shown.group_by.iter().map(|name| key(name, "--group-by")).collect::<Result<_, _>>()?;
        view.grouped = true;
    }
    if !shown.columns.is_empty() {
        let column = |name: &String| match BoardColumn::named(name) {
            BoardColumn::Key(name) => Ok(BoardColumn::Key(key(&name, "--columns")?)),
            own => Ok(own),
        };
        view.columns = Some(shown.columns.iter().map(column).collect::<Result<Vec<_>, Failure>>()?);
    }
    Ok(view)
}

/// Ranks by one metric, reads the scores of the rows that are shown and of the best, and shows them.
async fn show(
    store: &Store,
    mut asked: BoardQuery,
    arguments: &TopArguments,
    style: Style,
) -> Result<(), Failure> {
    let view = view_of(&asked.board, arguments)?;
    // Of several sweeps everything was read.
    let lazily = asked.sweeps.is_empty() && asked.known.is_none();
    if let (true, Some(rank)) = (lazily, &view.rank) {
        let metrics = named(std::slice::from_ref(rank));
        store.read_scores(&mut asked.board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
    }
    let mut cells = rank_cells(&asked.board, &view, cells_of(&asked.board, &view.keys));
    let counted = || (cells.len(), count_competing(&asked.board, &view, &cells));
    let (all, competing) = asked.known.unwrap_or_else(counted);
    let near = near_the_best(&asked.board, &view, &cells);
    let shown = cells.len().min(most_rows(arguments));
    // In another order the best row may be one that is not shown.
    let best = best_cell(&asked.board, &view, &cells).filter(|best| !cells[..shown].contains(best)).cloned();
    cells.truncate(shown);
    cells.extend(best);
    let needed: Vec<usize> = cells.iter().flatten().copied().collect();
    if lazily {
        let jobs = (cells.len() < all).then_some(needed.as_slice());
        let of = ScoresOf { metrics: Some(&named(&view.metrics)), jobs };
        store.read_scores(&mut asked.board, of).await?;
    }
    let mut rows = rows_of(&asked.board, &view, &cells);
    if let Some(rank) = &view.rank {
        // Marks do not depend on how many rows are shown.
        let mut tested = rows_of(&asked.board, &view, &near);
        let jobs: Vec<usize> = near.iter().flatten().copied().collect();
        let values = asked.values(store, rank, &jobs).await?;
        mark_ties(&asked.board, &mut tested, rank, (&values, competing));
        let tested: HashMap<&[String], &BoardRow> =
            tested.iter().map(|row| (row.jobs.as_slice(), row)).collect();
        for row in &mut rows {
            if let Some(known) = tested.get(row.jobs.as_slice()) {
                (row.tied, row.p_holm) = (known.tied, known.p_holm);
            }
        }
    }
    let hidden = rows.split_off(shown);
    if is_json() {
        return print_json(&asked.board, &view, (&rows, all), style);
    }
    remember_board(&store.results(), &rows);
    write_line(&show_table(&numbered(board_table(&view, &rows), &rows)))?;
    let mut notes = board_notes(&view, &rows);
    notes.extend(hidden.first().map(|row| format!("the best row, {}, is not shown", row.label)));
    if rows.len() < all {
        notes.push(format!("{} more rows: --all or --rows N", all - rows.len()));
    }
    let doubted = rows.iter().filter(|row| !row.reasons.is_empty());
    if !arguments.all && doubted.clone().next().is_some() {
        notes.push("--all shows why".to_owned());
    }
    if !notes.is_empty() {
        write_line(&notes.join("; "))?;
    }
    for row in doubted.filter(|_| arguments.all) {
        write_line(&format!("{}: {}", row.label, in_one_line(&row.reasons.join("; "))))?;
    }
    Ok(())
}

fn print_json(
    board: &Leaderboard,
    view: &BoardView,
    (rows, all): (&[BoardRow], usize),
    style: Style,
) -> Result<(), Failure> {
    let objective = board.objective.as_ref().map(|(task, metric)| json!({ "task": task, "metric": metric }));
    let mut value = json!({
        "sweep": board.sweep,
        "version": board.version,
        "objective": objective,
        "ranked_by": view.rank,
        "all_rows": all,
        "rows": rows,
    });
    match style {
        Style::Object => write_json(&value)?,
        Style::Event => {
            value["event"] = json!("leaderboard");
            write_event(&value)?;
        }
    }
    Ok(())
}

/// Names of a comma-separated list: a metric after a filter pipeline has a comma of its own.
fn whole_names(pieces: &[String], is_known: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for piece in pieces {
        match names.last_mut() {
            Some(last) if !is_known(piece) && is_known(&format!("{last},{piece}")) => {
                last.push(',');
                last.push_str(piece);
            }
            _ => names.push(piece.clone()),
        }
    }
    names
}
