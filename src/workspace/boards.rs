//! What is read of results: leaderboards, comparisons, the input of a report.

use super::error::WorkspaceError;
use super::examples::first_examples;
use crate::job::{JobId, JobState};
use crate::queue::StoredSample;
use crate::report::{
    AnswerText, BoardRow, BoardView, ReportInput, SampleText, Sort, cells_of, count_competing, mark_ties,
    rank_cells, rows_of,
};
use crate::store::{CurvePoint, DocumentValues, Leaderboard, Store, StoredJob};

/// So many of the best rows show what they answered, beside the untrained models.
const ANSWERING: usize = 6;
/// Documents of a generation task in a report.
const DOCUMENTS: usize = 3;
/// So many of the best rows of a report get a loss curve and are tested against the best.
const CURVES: usize = 60;
/// So many of the best rows of a leaderboard are tested against the best: whatever the data cannot tell from it is among them.
pub(super) const NEAR: usize = 200;

/// A sweep with every score, or the last one submitted. Errors: no such sweep, no job.
pub async fn board(store: &Store, sweep: Option<&str>) -> Result<Leaderboard, WorkspaceError> {
    let board = store.leaderboard(sweep).await?;
    if board.jobs.is_empty() { Err(WorkspaceError::NoJobs(board.sweep)) } else { Ok(board) }
}

/// What is stored of one of two jobs that are compared.
#[derive(Debug)]
pub struct Compared {
    /// The job.
    pub job: StoredJob,
    /// `SWEEP/LABEL` in each sweep that has the job.
    pub labels: Vec<String>,
    /// Its values by document.
    pub values: Vec<DocumentValues>,
    /// Its loss curve.
    pub curve: Vec<CurvePoint>,
    /// What it answered.
    pub samples: Vec<StoredSample>,
}

/// Two jobs, with their values in the sweep that holds both. Error: nothing of one is scored.
pub async fn compare(
    store: &Store,
    first: StoredJob,
    second: StoredJob,
) -> Result<[Compared; 2], WorkspaceError> {
    let [of_first, of_second] = store.values_of_both(&first.id, &second.id).await?;
    Ok([compared(store, first, of_first).await?, compared(store, second, of_second).await?])
}

async fn compared(
    store: &Store,
    job: StoredJob,
    values: Vec<DocumentValues>,
) -> Result<Compared, WorkspaceError> {
    if values.is_empty() {
        return Err(WorkspaceError::NotScored { job: job.id, state: job.state });
    }
    let curve = store.curves(std::slice::from_ref(&job.id)).await?.remove(&job.id).unwrap_or_default();
    let samples = store.all_samples(&job.id).await?;
    let labels = store.labels(&job.id).await?;
    Ok(Compared { job, labels, values, curve, samples })
}

impl Compared {
    /// Whether more of it may be scored later.
    pub fn is_partial(&self) -> bool {
        self.job.state != JobState::Done
    }
}

/// Every row of a board whose settings and scores were read, best first, with those marked that the data cannot tell from the best.
pub async fn tested_rows(
    store: &Store,
    board: &Leaderboard,
    view: &BoardView,
) -> Result<Vec<BoardRow>, WorkspaceError> {
    let cells = rank_cells(board, view, cells_of(board, &view.keys));
    let mut rows = rows_of(board, view, &cells);
    if let Some(rank) = &view.rank {
        let near: Vec<usize> = near_the_best(board, view, &cells).into_iter().flatten().collect();
        let values = store.values_of_jobs(board, (&rank.task, rank.metric), &near).await?;
        mark_ties(board, &mut rows, rank, (&values, count_competing(board, view, &cells)));
    }
    Ok(rows)
}

/// The first cells by the ranking metric: whatever the order, ties with the best are among them.
pub(super) fn near_the_best(board: &Leaderboard, view: &BoardView, cells: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let by_rank = BoardView { sort: Sort::Rank, ..view.clone() };
    let job_cells = cells.iter().filter(|cell| board.jobs[cell[0]].is_cell()).cloned().collect();
    rank_cells(board, &by_rank, job_cells).into_iter().take(NEAR).collect()
}

/// What a report says of a sweep's board. Error: none of its jobs is done.
pub async fn report_input(store: &Store, board: Leaderboard) -> Result<ReportInput, WorkspaceError> {
    if board.jobs.iter().all(|job| job.scores.is_empty() && job.seconds.is_none()) {
        return Err(WorkspaceError::NoResults(board.sweep));
    }
    let view = BoardView::of(&board);
    let cells = rank_cells(&board, &view, cells_of(&board, &view.keys));
    let near: Vec<usize> = cells.iter().take(CURVES).flatten().copied().collect();
    let ids: Vec<JobId> = cells.iter().take(CURVES).map(|cell| board.jobs[cell[0]].id.clone()).collect();
    let values = match &view.rank {
        Some(rank) => store.values_of_jobs(&board, (&rank.task, rank.metric), &near).await?,
        None => Default::default(),
    };
    let (sweep, curves) = (store.sweep(&board.sweep).await?, store.curves(&ids).await?);
    let samples = samples(store, &board, &cells).await?;
    let answers = answers(store, &board, &cells).await?;
    Ok(ReportInput { board, sweep, curves, values, samples, answers })
}

/// What the untrained models and the best rows answered to the first documents of each generation task. Documents that are no longer
/// in the cache are left out.
async fn answers(
    store: &Store,
    board: &Leaderboard,
    cells: &[Vec<usize>],
) -> Result<Vec<AnswerText>, WorkspaceError> {
    let (mut texts, mut answering) = (Vec::new(), 0);
    for job in cells.iter().map(|cell| &board.jobs[cell[0]]) {
        if !job.is_base && answering == ANSWERING {
            continue;
        }
        answering += usize::from(!job.is_base);
        for example in first_examples(store, &job.id, DOCUMENTS).await? {
            texts.push(AnswerText {
                document: (example.0, example.1.document),
                filtered: example
                    .1
                    .filtered
                    .iter()
                    .map(|own| format!("{}: {}", own.filter, own.text()))
                    .collect(),
                answer: example.1.answers.first().cloned().unwrap_or_default(),
                prompt: example.1.prompt,
                target: example.1.target,
                label: job.label.clone(),
            });
        }
    }
    // The rows stay in the leaderboard's order.
    texts.sort_by(|a, b| a.document.cmp(&b.document));
    Ok(texts)
}

/// What the untrained models and the best rows answered, by prompt; of a row the first job that has answers.
async fn samples(
    store: &Store,
    board: &Leaderboard,
    cells: &[Vec<usize>],
) -> Result<Vec<SampleText>, WorkspaceError> {
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
            let answers = store.samples_of(board, &job.id).await?;
            if !answers.is_empty() {
                answering += usize::from(!is_base);
                samples
                    .extend(answers.into_iter().map(|answer| (answer.position, job.label.clone(), answer)));
                break;
            }
        }
    }
    // The rows stay in the leaderboard's order.
    samples.sort_by_key(|(position, ..)| *position);
    let mut texts: Vec<(i64, SampleText)> = Vec::new();
    for (position, label, answer) in samples {
        let is_new = texts.last().is_none_or(|(last, _)| *last != position);
        if let (true, Some(wanted)) = (is_new, &answer.wanted) {
            let (label, prompt) = ("reference answer".to_owned(), answer.prompt.clone());
            texts.push((position, SampleText { label, prompt, answer: wanted.clone() }));
        }
        texts.push((position, SampleText { label, prompt: answer.prompt, answer: answer.answer }));
    }
    Ok(texts.into_iter().map(|(_, text)| text).collect())
}
