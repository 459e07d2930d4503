//! `loragrid export`

use std::path::Path;

use super::top::board_of;
use crate::cli::ExitCode;
use crate::cli::arguments::{ExportArguments, ExportFormat, ExportWhat};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{output_file, write_bytes, write_error, write_file};
use crate::report::{
    BoardView, Table, board_notes, board_table, escape_markdown, frame_csv, frame_json, frame_jsonl,
    frame_parquet, frame_table, run_frame, score_frame, table_latex, table_markdown,
};
use crate::store::{Frame, Leaderboard, Store};
use crate::workspace::{Workspace, tested_rows};

pub(in crate::cli) fn run(arguments: &ExportArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    if let Some(kind) = arguments.to {
        return super::export_tracked::run(arguments, kind, workspace);
    }
    let format = format_of(arguments)?;
    block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        if format == ExportFormat::LmEval {
            let folder = arguments
                .output
                .as_deref()
                .ok_or_else(|| usage("lm-eval's files need a folder: --output DIR"))?;
            super::export_lm_eval::write(&store, arguments.sweep.as_deref(), folder, workspace).await?;
            store.close().await;
            return Ok(());
        }
        let board = board_of(&store, arguments.sweep.as_deref()).await?;
        let bytes = content(&store, &board, arguments.what, format).await?;
        store.close().await;
        match output_file(arguments.output.as_deref()) {
            None => Ok(write_bytes(&bytes)?),
            Some(path) => {
                write_file(path, &bytes)?;
                write_error(&format!("wrote {1} ({0} bytes)", bytes.len(), path.display()));
                Ok(())
            }
        }
    })?;
    Ok(ExitCode::Success)
}

fn usage(message: &str) -> Failure {
    Failure::new(ExitCode::Usage, message.to_owned(), "`loragrid export --help` lists the formats".to_owned())
}

/// The syntax that is asked for, or that the file's name says; CSV on standard output.
fn format_of(arguments: &ExportArguments) -> Result<ExportFormat, Failure> {
    let by_name = |path: &Path| match path.extension()?.to_str()? {
        "csv" => Some(ExportFormat::Csv),
        "json" => Some(ExportFormat::Json),
        "jsonl" => Some(ExportFormat::Jsonl),
        "parquet" => Some(ExportFormat::Parquet),
        "md" => Some(ExportFormat::Markdown),
        "tex" => Some(ExportFormat::Latex),
        _ => None,
    };
    match (arguments.format, output_file(arguments.output.as_deref())) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(ExportFormat::Csv),
        (None, Some(path)) => by_name(path).ok_or_else(|| {
            usage(&format!(
                "the extension of '{}' does not name a format: name one with --format",
                path.display()
            ))
        }),
    }
}

async fn content(
    store: &Store,
    board: &Leaderboard,
    what: ExportWhat,
    format: ExportFormat,
) -> Result<Vec<u8>, Failure> {
    let frame = match what {
        // A table for people is the leaderboard; every column of every run is for programs.
        ExportWhat::Runs if matches!(format, ExportFormat::Markdown | ExportFormat::Latex) => {
            return leaderboard(store, board, format).await;
        }
        ExportWhat::Runs => run_frame(board),
        ExportWhat::Scores => score_frame(board),
        ExportWhat::Curves => store.curve_rows(&board.sweep).await?,
        ExportWhat::Documents => store.document_rows(&board.sweep).await?,
    };
    of_frame(&frame, format)
}

/// The leaderboard with what its signs mean: below it, or as a comment of LaTeX, for a caption.
async fn leaderboard(store: &Store, board: &Leaderboard, format: ExportFormat) -> Result<Vec<u8>, Failure> {
    let view = BoardView::of(board);
    let rows = tested_rows(store, board, &view).await?;
    let (table, notes) = (text(&board_table(&view, &rows), format), board_notes(&view, &rows));
    let below = match (format, notes.is_empty()) {
        (_, true) => String::new(),
        (ExportFormat::Latex, _) => notes.iter().map(|note| format!("% {note}\n")).collect(),
        _ => format!("\n{}\n", notes.iter().map(|note| escape_markdown(note)).collect::<Vec<_>>().join("; ")),
    };
    Ok(format!("{table}{below}").into_bytes())
}

fn of_frame(frame: &Frame, format: ExportFormat) -> Result<Vec<u8>, Failure> {
    Ok(match format {
        ExportFormat::Csv => frame_csv(frame),
        ExportFormat::Json => frame_json(frame).into_bytes(),
        ExportFormat::Jsonl => frame_jsonl(frame).into_bytes(),
        ExportFormat::Parquet => frame_parquet(frame).map_err(|error| {
            Failure::new(ExitCode::Internal, error.to_string(), "try --format csv".to_owned())
        })?,
        ExportFormat::Markdown | ExportFormat::Latex | ExportFormat::LmEval => {
            text(&frame_table(frame), format).into_bytes()
        }
    })
}

fn text(table: &Table, format: ExportFormat) -> String {
    if format == ExportFormat::Latex { table_latex(table) } else { table_markdown(table) }
}
