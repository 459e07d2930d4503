//! `loragrid top`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{terminal_width, write_error, write_json, write_line};
use crate::cli::result_arguments::{ShownArguments, TopArguments};
use crate::job::find_key;
use crate::report::{
    BoardColumn, BoardRow, BoardView, FilterError, MetricName, Sort, UnknownMetric, board_notes, board_table,
    cells_of, join_boards, keep_where, mark_ties, metric_title, pivot, pivot_table, rank_cells,
    render_terminal, rows_of,
};
use crate::store::{Leaderboard, ScoresOf, Store};

/// Rows that a terminal shows where nothing else is asked for.
const ROWS: usize = 40;

pub(in crate::cli) fn run(arguments: &TopArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_to_read(&environment.db).await?;
        show_any(&store, arguments).await?;
        store.close().await;
        Ok(ExitCode::Success)
    })
}

/// Ends a run: a sweep's leaderboard as `top` shows it.
pub(super) async fn show_sweep(store: &Store, sweep: &str, json: bool) -> Result<(), Failure> {
    let arguments = TopArguments { sweeps: vec![sweep.to_owned()], json, ..TopArguments::default() };
    show_any(store, &arguments).await
}

async fn show_any(store: &Store, arguments: &TopArguments) -> Result<(), Failure> {
    let first = match is_plain(arguments) {
        true => store.first_rows(arguments.sweeps.first().map(String::as_str), most_rows(arguments)).await?,
        false => None,
    };
    let (board, all) = match first {
        Some((board, all)) => (board, Some(all)),
        None => (read_board(store, arguments).await?, None),
    };
    if arguments.sweeps.is_empty() {
        say_sweep(&board);
    }
    if board.jobs.is_empty() {
        return Err(empty(&board));
    }
    match arguments.pivot.as_slice() {
        [rows, columns] => show_pivot(store, board, (rows, columns), arguments).await,
        _ => show(store, board, all, arguments).await,
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
    nothing && arguments.pivot.is_empty() && !arguments.all && !arguments.json && arguments.sweeps.len() < 2
}

/// Most rows that are shown.
fn most_rows(arguments: &TopArguments) -> usize {
    match (arguments.rows, arguments.all || arguments.json) {
        (Some(rows), _) => rows,
        (None, true) => usize::MAX,
        (None, false) => ROWS,
    }
}

/// A sweep with every score, or the last one submitted, which is then said on standard error. Errors: no such sweep, no job.
pub(super) async fn board_of(store: &Store, sweep: Option<&str>) -> Result<Leaderboard, Failure> {
    let board = store.leaderboard(sweep).await?;
    if sweep.is_none() {
        say_sweep(&board);
    }
    if board.jobs.is_empty() { Err(empty(&board)) } else { Ok(board) }
}

fn say_sweep(board: &Leaderboard) {
    write_error(&format!("sweep {} (the last one submitted)", board.sweep));
}

fn empty(board: &Leaderboard) -> Failure {
    let message = format!("sweep '{}' has no job that is asked for", board.sweep);
    Failure::new(ExitCode::NotFound, message, "`loragrid status` lists the sweeps with their jobs".to_owned())
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
            "such as \"lora.rank >= 64 && train.optimizer == 'adamw'\"; `loragrid keys` lists the keys"
                .to_owned();
        let place = match &error {
            FilterError::Text { span, .. } => format!(" at character {}", span.start + 1),
            FilterError::NotBool => String::new(),
        };
        Self::new(ExitCode::Usage, format!("--where{place}: {error}"), help)
    }
}

/// A key of the sweep file. Error: there is none of this name.
fn key(name: &str, flag: &str) -> Result<String, Failure> {
    if find_key(name).is_some() {
        return Ok(name.to_owned());
    }
    let near = crate::job::nearest_key(name).map(|near| format!("did you mean {near}?"));
    let help = near.unwrap_or_else(|| "`loragrid keys` lists the keys".to_owned());
    Err(Failure::new(ExitCode::Usage, format!("{flag}: there is no key '{name}'"), help))
}

/// The boards that are asked for as one, with every setting where more than those of the axes are needed.
async fn read_board(store: &Store, arguments: &TopArguments) -> Result<Leaderboard, Failure> {
    let mut boards = Vec::new();
    let names: Vec<Option<&str>> = match arguments.sweeps.as_slice() {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let several = names.len() > 1;
    for name in names {
        let mut board = store.board(name).await?;
        if several || needs_settings(arguments, &board) {
            store.read_settings(&mut board).await?;
        }
        if several {
            store.read_scores(&mut board, ScoresOf::All).await?;
        }
        boards.push(board);
    }
    let mut board = join_boards(boards).ok_or_else(|| Failure::new(ExitCode::Internal, "no sweep", None))?;
    if let Some(condition) = &arguments.shown.condition {
        keep_where(&mut board, condition)?;
    }
    Ok(board)
}

fn needs_settings(arguments: &TopArguments, board: &Leaderboard) -> bool {
    let ShownArguments { sort, columns, condition, group_by, .. } = &arguments.shown;
    let named = sort.iter().chain(columns).chain(group_by).chain(&arguments.pivot);
    condition.is_some()
        || named.filter(|name| find_key(name).is_some()).any(|name| !board.axes.contains(name))
}

/// What is to be shown. Errors: a metric or key that there is not.
fn view_of(board: &Leaderboard, arguments: &TopArguments) -> Result<BoardView, Failure> {
    let mut view = BoardView::of(board);
    let shown = &arguments.shown;
    if !shown.metrics.is_empty() {
        let named = shown.metrics.iter().map(|name| board.metric_named(name));
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
    if arguments.all {
        let usual = [BoardColumn::Difference, BoardColumn::Loss, BoardColumn::Time, BoardColumn::State];
        view.columns.get_or_insert_with(|| usual.to_vec()).push(BoardColumn::Reason);
    }
    Ok(view)
}

/// Ranks by one metric, reads the scores of the rows that are shown, and shows them. `known` is the number of rows where the board has
/// only the first of them, with their scores.
async fn show(
    store: &Store,
    mut board: Leaderboard,
    known: Option<usize>,
    arguments: &TopArguments,
) -> Result<(), Failure> {
    let view = view_of(&board, arguments)?;
    // Of several sweeps everything was read.
    let one = arguments.sweeps.len() < 2;
    let lazily = one && known.is_none();
    if let (true, Some(MetricName { task, metric })) = (lazily, &view.rank) {
        store.read_scores(&mut board, ScoresOf::Metric(task, *metric)).await?;
    }
    let mut cells = rank_cells(&board, &view, cells_of(&board, &view.keys));
    let all = known.unwrap_or(cells.len());
    cells.truncate(most_rows(arguments));
    if lazily {
        let shown: Vec<usize> = cells.iter().flatten().copied().collect();
        let of = if cells.len() < all { ScoresOf::Jobs(&shown) } else { ScoresOf::All };
        store.read_scores(&mut board, of).await?;
    }
    let mut rows = rows_of(&board, &view, &cells);
    if let Some(rank) = view.rank.as_ref().filter(|_| one) {
        let shown: Vec<usize> = cells.iter().take(ROWS).flatten().copied().collect();
        let values = store.values_of_jobs(&board, (&rank.task, rank.metric), &shown).await?;
        mark_ties(&board, &mut rows, rank, &values);
    }
    if arguments.json {
        return print_json(&board, &view, &rows, all);
    }
    write_line(&render_terminal(&board_table(&view, &rows), terminal_width()))?;
    let mut notes = board_notes(&view, &rows);
    if rows.len() < all {
        notes.push(format!("{} more rows: --all or --rows N", all - rows.len()));
    }
    if !arguments.all && rows.iter().any(|row| !row.reasons.is_empty()) {
        notes.push("--all says why".to_owned());
    }
    if !notes.is_empty() {
        write_line(&notes.join("; "))?;
    }
    Ok(())
}

fn print_json(board: &Leaderboard, view: &BoardView, rows: &[BoardRow], all: usize) -> Result<(), Failure> {
    let objective = board.objective.as_ref().map(|(task, metric)| json!({ "task": task, "metric": metric }));
    write_json(&json!({
        "sweep": board.sweep,
        "version": board.version,
        "objective": objective,
        "ranked_by": view.rank,
        "all_rows": all,
        "rows": rows,
    }))?;
    Ok(())
}

async fn show_pivot(
    store: &Store,
    mut board: Leaderboard,
    (rows, columns): (&str, &str),
    arguments: &TopArguments,
) -> Result<(), Failure> {
    let (rows, columns) = (key(rows, "--pivot")?, key(columns, "--pivot")?);
    let metric = match (&arguments.metric, &board.objective) {
        (Some(name), _) => board.metric_named(name)?,
        (None, Some((task, metric))) => MetricName::new(task, *metric),
        (None, None) => board.metric_named("")?,
    };
    if arguments.sweeps.len() < 2 {
        store.read_scores(&mut board, ScoresOf::Metric(&metric.task, metric.metric)).await?;
    }
    let found = pivot(&board, &rows, &columns, &metric);
    if found.rows.is_empty() {
        let message = format!("no job has {rows}, {columns} and a score of {metric}");
        return Err(Failure::new(
            ExitCode::NotFound,
            message,
            "wait until more of the sweep is done".to_owned(),
        ));
    }
    if arguments.json {
        write_json(&json!(found))?;
        return Ok(());
    }
    write_line(&format!("{} by {rows} (down) and {columns} (across)", metric_title(&metric)))?;
    write_line(&render_terminal(&pivot_table(&found), terminal_width()))?;
    let mut notes = vec!["* best".to_owned()];
    notes.extend(found.base.map(|base| format!("base model {base:.3}")));
    if found.cells.iter().flatten().flatten().any(|cell| cell.runs > 1) {
        notes.push("mean over the runs of a cell, ± standard deviation over them".to_owned());
    }
    write_line(&notes.join("; "))?;
    Ok(())
}
