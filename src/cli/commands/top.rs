//! `loragrid top`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{ShownArguments, TopArguments};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{
    in_one_line, is_json, show_table, terminal_width, write_error, write_event, write_json, write_line,
};
use crate::report::{board_notes, board_table, fitting_pivot, metric_title, numbered, pivot_notes};
use crate::store::{Leaderboard, Store};
use crate::workspace::{
    BoardRequest, PivotRequest, ShownBoard, Workspace, remember_board, shown_board, shown_pivot,
};

/// Rows that a terminal shows where nothing else is asked for.
const ROWS: usize = 40;

pub(in crate::cli) fn run(arguments: &TopArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        match arguments.pivot.as_slice() {
            [rows, columns] => show_pivot(&store, (rows, columns), arguments).await?,
            _ => show(&store, arguments, Style::Object).await?,
        }
        store.close().await;
        Ok(ExitCode::Success)
    })
}

/// Ends a run: a sweep's leaderboard as `top` shows it.
pub(super) async fn show_sweep(store: &Store, sweep: &str) -> Result<(), Failure> {
    let arguments = TopArguments { sweeps: vec![sweep.to_owned()], ..TopArguments::default() };
    show(store, &arguments, Style::Event).await
}

/// How a leaderboard is written as JSON.
#[derive(Debug, Clone, Copy)]
enum Style {
    /// One object.
    Object,
    /// The last line of a run's events.
    Event,
}

/// What the arguments ask for.
fn request(arguments: &TopArguments) -> BoardRequest {
    let ShownArguments { sort, metrics, columns, condition, group_by } = arguments.shown.clone();
    let rows = match (arguments.rows, arguments.all || is_json()) {
        (Some(rows), _) => Some(rows),
        (None, true) => None,
        (None, false) => Some(ROWS),
    };
    BoardRequest { sweeps: arguments.sweeps.clone(), sort, metrics, columns, condition, group_by, rows }
}

/// A sweep with every score, or the last one submitted, which is then said on standard error. Errors: no such sweep, no job.
pub(super) async fn board_of(store: &Store, sweep: Option<&str>) -> Result<Leaderboard, Failure> {
    let board = crate::workspace::board(store, sweep).await?;
    if sweep.is_none() {
        say_sweep(&board.sweep);
    }
    Ok(board)
}

pub(super) fn say_sweep(sweep: &str) {
    write_error(&format!("sweep {sweep} (last submitted)"));
}

async fn show(store: &Store, arguments: &TopArguments, style: Style) -> Result<(), Failure> {
    let shown = shown_board(store, &request(arguments)).await?;
    if arguments.sweeps.is_empty() {
        say_sweep(&shown.board.sweep);
    }
    let ShownBoard { view, rows, all, best_elsewhere, .. } = &shown;
    if is_json() {
        return print_json(&shown, style);
    }
    remember_board(&store.results(), rows);
    write_line(&show_table(&numbered(board_table(view, rows), rows)))?;
    let mut notes = board_notes(view, rows);
    notes.extend(best_elsewhere.iter().map(|row| format!("the best row, {}, is not shown", row.label)));
    if rows.len() < *all {
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

fn print_json(ShownBoard { board, view, rows, all, .. }: &ShownBoard, style: Style) -> Result<(), Failure> {
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

/// Two keys against each other.
async fn show_pivot(
    store: &Store,
    (rows, columns): (&str, &str),
    arguments: &TopArguments,
) -> Result<(), Failure> {
    let asked =
        PivotRequest { rows: rows.to_owned(), columns: columns.to_owned(), metric: arguments.metric.clone() };
    let (sweep, found) = shown_pivot(store, &request(arguments), &asked).await?;
    if arguments.sweeps.is_empty() {
        say_sweep(&sweep);
    }
    if is_json() {
        write_json(&json!(found))?;
        return Ok(());
    }
    let title = metric_title(&found.metric);
    write_line(&format!("{title} by {rows} (down) and {columns} (across)"))?;
    let (table, mut notes) = fitting_pivot(&found, terminal_width());
    write_line(&show_table(&table))?;
    notes.splice(0..0, pivot_notes(&found));
    write_line(&notes.join("; "))?;
    Ok(())
}
