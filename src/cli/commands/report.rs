//! `loragrid report`

use std::path::Path;

use super::findings::read_findings;
use super::top::board_of;
use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{output_file, write_bytes, write_error, write_file};
use crate::cli::result_arguments::{ReportArguments, ReportFormat};
use crate::job::JobId;
use crate::report::{
    BoardView, Document, ReportInput, SampleText, cells_of, document_html, document_latex, document_markdown,
    rank_cells, sweep_report,
};
use crate::store::{Leaderboard, Store};

/// So many of the best rows show what they answered, beside the untrained models.
const ANSWERING: usize = 6;
/// So many of the best rows get a loss curve and are tested against the best.
const NEAR: usize = 60;

pub(in crate::cli) fn run(
    arguments: &ReportArguments,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let format = format_of(arguments)?;
    let document = block_on(async {
        let store = Store::open_to_read(&environment.db).await?;
        let names: Vec<Option<&str>> = match arguments.sweeps.as_slice() {
            [] => vec![None],
            names => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        let mut inputs = Vec::new();
        for name in names {
            inputs.push(input(&store, name).await?);
        }
        let findings = match &arguments.findings {
            Some(file) => read_findings(&store, file).await?.1,
            None => Vec::new(),
        };
        store.close().await;
        let sweeps: Vec<&str> = inputs.iter().map(|input| input.board.sweep.as_str()).collect();
        let title = arguments.title.clone().unwrap_or_else(|| format!("Results of {}", sweeps.join(", ")));
        Ok(sweep_report(&title, &inputs, &findings))
    })?;
    write(&document, format, output_file(arguments.output.as_deref()))?;
    Ok(ExitCode::Success)
}

fn format_of(arguments: &ReportArguments) -> Result<ReportFormat, Failure> {
    let named = |path: &Path| match path.extension()?.to_str()? {
        "html" | "htm" => Some(ReportFormat::Html),
        "md" => Some(ReportFormat::Markdown),
        "tex" => Some(ReportFormat::Latex),
        _ => None,
    };
    match (arguments.format, output_file(arguments.output.as_deref())) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(ReportFormat::Markdown),
        (None, Some(path)) => named(path).ok_or_else(|| {
            let message = format!("'{}' does not say which format", path.display());
            Failure::new(
                ExitCode::Usage,
                message,
                "name a .html, .md or .tex file, or give --format".to_owned(),
            )
        }),
    }
}

/// What is stored of a sweep. Errors: no such sweep, none of its jobs is done.
async fn input(store: &Store, name: Option<&str>) -> Result<ReportInput, Failure> {
    let board = board_of(store, name).await?;
    if board.jobs.iter().all(|job| job.scores.is_empty() && job.seconds.is_none()) {
        let message = format!("sweep '{}' has no result yet", board.sweep);
        return Err(Failure::new(
            ExitCode::NotFound,
            message,
            "`loragrid work` runs what is queued".to_owned(),
        ));
    }
    let view = BoardView::of(&board);
    let cells = rank_cells(&board, &view, cells_of(&board, &view.keys));
    let near: Vec<usize> = cells.iter().take(NEAR).flatten().copied().collect();
    let ids: Vec<JobId> = cells.iter().take(NEAR).map(|cell| board.jobs[cell[0]].id.clone()).collect();
    let values = match &view.rank {
        Some(rank) => store.values_of_jobs(&board, (&rank.task, rank.metric), &near).await?,
        None => Default::default(),
    };
    let (sweep, curves) = (store.sweep(&board.sweep).await?, store.curves(&ids).await?);
    let samples = samples(store, &board, &cells).await?;
    Ok(ReportInput { board, sweep, curves, values, samples })
}

/// What the untrained models and the best rows answered, by prompt; of a row the first job that has answers.
async fn samples(
    store: &Store,
    board: &Leaderboard,
    cells: &[Vec<usize>],
) -> Result<Vec<SampleText>, Failure> {
    if !store.asks_for_samples(board).await? {
        return Ok(Vec::new());
    }
    let mut samples = Vec::new();
    let mut answering = 0;
    for cell in cells {
        let is_base = board.jobs[cell[0]].is_base;
        if !is_base && answering == ANSWERING {
            continue;
        }
        for job in cell.iter().map(|&at| &board.jobs[at]) {
            let own = store.samples_of(board, &job.id).await?;
            if !own.is_empty() {
                answering += usize::from(!is_base);
                samples.extend(own.into_iter().map(|own| (own.position, job.label.clone(), own)));
                break;
            }
        }
    }
    // The rows stay in the leaderboard's order.
    samples.sort_by_key(|(position, ..)| *position);
    let mut found = Vec::new();
    for (position, label, own) in samples {
        let is_new = found.last().is_none_or(|(last, _)| *last != position);
        if let (true, Some(wanted)) = (is_new, &own.wanted) {
            let (label, prompt) = ("the row's own".to_owned(), own.prompt.clone());
            found.push((position, SampleText { label, prompt, answer: wanted.clone() }));
        }
        found.push((position, SampleText { label, prompt: own.prompt, answer: own.answer }));
    }
    Ok(found.into_iter().map(|(_, own)| own).collect())
}

fn write(document: &Document, format: ReportFormat, output: Option<&Path>) -> Result<(), Failure> {
    let folder = output.map(|path| path.with_extension("charts"));
    let folder_name =
        folder.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let (text, charts) = match format {
        ReportFormat::Html => (document_html(document), Vec::new()),
        ReportFormat::Latex => (document_latex(document), Vec::new()),
        ReportFormat::Markdown => document_markdown(document, folder_name.as_deref()),
    };
    let Some(path) = output else { return Ok(write_bytes(text.as_bytes())?) };
    for (chart, folder) in charts.iter().zip(folder.iter().cycle()) {
        write_file(&folder.join(&chart.name), chart.svg.as_bytes())?;
    }
    write_file(path, text.as_bytes())?;
    write_error(&format!("the report is in {}", path.display()));
    Ok(())
}
