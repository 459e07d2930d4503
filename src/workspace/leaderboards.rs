//! Leaderboards as they are asked for: of one or several sweeps, sorted, filtered, grouped, as a pivot. Only what is shown is read.

use std::collections::{HashMap, HashSet};

use super::boards::{NEAR, near_the_best};
use super::error::WorkspaceError;
use crate::job::{JobId, find_key};
use crate::report::{
    BoardColumn, BoardRow, BoardView, Condition, Pivot, Sort, best_cell, cells_of, count_competing,
    join_boards, mark_ties, pivot, rank_cells, rows_of,
};
use crate::store::{BoardJob, ByDocument, FirstRows, Leaderboard, ScoresOf, Store};
use crate::task::{Metric, MetricName};

/// What of leaderboards is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoardRequest {
    /// The sweeps; the last one submitted where none is named.
    pub sweeps: Vec<String>,
    /// A metric, `loss`, `time`, `memory`, `trainable`, or a key; none: the objective.
    pub sort: Option<String>,
    /// The metrics that get a column; none: the first of each task.
    pub metrics: Vec<String>,
    /// The other columns; none: the usual ones.
    pub columns: Vec<String>,
    /// A condition on keys and scores.
    pub condition: Option<String>,
    /// Keys whose equal values make one row; none: the axes without the seed.
    pub group_by: Vec<String>,
    /// Most rows; none: all.
    pub rows: Option<usize>,
}

/// Two keys against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PivotRequest {
    /// The key down.
    pub rows: String,
    /// The key across.
    pub columns: String,
    /// The metric; none: the objective.
    pub metric: Option<String>,
}

/// A leaderboard, ready to be shown.
#[derive(Debug)]
pub struct ShownBoard {
    /// The board, with the scores that are shown.
    pub board: Leaderboard,
    /// What of it is shown.
    pub view: BoardView,
    /// Its first rows.
    pub rows: Vec<BoardRow>,
    /// The number of all rows.
    pub all: usize,
    /// The best row, where it is not among those that are shown.
    pub best_elsewhere: Option<BoardRow>,
}

/// A leaderboard as it is asked for. Errors: no such sweep, no job, a metric, key or condition that is not understood.
pub async fn shown_board(store: &Store, request: &BoardRequest) -> Result<ShownBoard, WorkspaceError> {
    let first = match request.rows.filter(|_| is_plain(request)) {
        Some(rows) => {
            let sweep = request.sweeps.first().map(String::as_str);
            let metrics = |board: &Leaderboard| named(&BoardView::of(board).metrics);
            store.first_rows(sweep, rows.max(NEAR), metrics).await?
        }
        None => None,
    };
    let boards = match first {
        Some(FirstRows { board, all, competing }) => {
            Boards { known: Some((all, competing)), ..Boards::of(vec![board]) }
        }
        None => Boards::read(store, request, &[]).await?,
    };
    boards.require_jobs(request)?;
    boards.show(store, request).await
}

/// Two keys against each other, with the sweep's name. Errors: as [`shown_board`].
pub async fn shown_pivot(
    store: &Store,
    request: &BoardRequest,
    asked: &PivotRequest,
) -> Result<(String, Pivot), WorkspaceError> {
    let (rows, columns) = (key(&asked.rows, "pivot")?, key(&asked.columns, "pivot")?);
    let boards = Boards::read(store, request, &[&rows, &columns]).await?;
    boards.require_jobs(request)?;
    let Boards { mut board, sweeps, .. } = boards;
    let metric = match (&asked.metric, &board.objective) {
        (Some(name), _) => board.metric_named(name)?,
        (None, Some((task, metric))) => MetricName::new(task, *metric),
        (None, None) => board.metric_named("")?,
    };
    if sweeps.is_empty() {
        let metrics = named(std::slice::from_ref(&metric));
        store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
    }
    let found = pivot(&board, &rows, &columns, &metric);
    if found.cells.iter().flatten().flatten().next().is_none() {
        return Err(WorkspaceError::EmptyPivot { rows, columns, metric });
    }
    Ok((board.sweep, found))
}

/// Boards of sweeps as one.
struct Boards {
    /// One board of all sweeps.
    board: Leaderboard,
    /// The board of each sweep, where there are several; their jobs are those of the one.
    sweeps: Vec<Leaderboard>,
    /// The number of rows and of those that compete for the best, where the board has only the first of them, with their scores.
    known: Option<(usize, usize)>,
}

impl Boards {
    fn of(boards: Vec<Leaderboard>) -> Self {
        let sweeps = if boards.len() > 1 { boards.clone() } else { Vec::new() };
        let empty = || Leaderboard { sweep: String::new(), version: 0, ..Leaderboard::default() };
        Self { board: join_boards(boards).unwrap_or_else(empty), sweeps, known: None }
    }

    /// With every setting where more than those of the axes are needed; `keys` are needed too.
    async fn read(store: &Store, request: &BoardRequest, keys: &[&str]) -> Result<Self, WorkspaceError> {
        let mut boards = Vec::new();
        let names: Vec<Option<&str>> = match request.sweeps.as_slice() {
            [] => vec![None],
            names => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        let several = names.len() > 1;
        for name in names {
            let mut board = store.board(name).await?;
            if several {
                store.read_settings(&mut board, None).await?;
                store.read_scores(&mut board, ScoresOf::default()).await?;
            } else {
                let condition = condition_of(request, &board)?;
                if let Some(keys) = needed_settings(request, keys, &board, condition.as_ref()) {
                    store.read_settings(&mut board, Some(&keys)).await?;
                }
                if let Some(condition) = &condition {
                    let metrics = named(&condition.metrics().cloned().collect::<Vec<_>>());
                    store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
                }
            }
            boards.push(board);
        }
        let mut asked = Self::of(boards);
        if let Some(condition) = condition_of(request, &asked.board)? {
            condition.keep(&mut asked.board);
        }
        Ok(asked)
    }

    /// Errors: there is no job, none meets the condition.
    fn require_jobs(&self, request: &BoardRequest) -> Result<(), WorkspaceError> {
        if self.board.jobs.is_empty() {
            return Err(WorkspaceError::NoJobs(self.board.sweep.clone()));
        }
        if request.condition.is_some() && !self.board.jobs.iter().any(BoardJob::is_cell) {
            return Err(WorkspaceError::NoRowMeets(self.board.sweep.clone()));
        }
        Ok(())
    }

    /// The values by document of some of its jobs, as the sweep of each wants them.
    async fn values(
        &self,
        store: &Store,
        rank: &MetricName,
        jobs: &[usize],
    ) -> Result<HashMap<JobId, ByDocument>, WorkspaceError> {
        let of = (rank.task.as_str(), rank.metric);
        if self.sweeps.is_empty() {
            return Ok(store.values_of_jobs(&self.board, of, jobs).await?);
        }
        let ids: HashSet<&JobId> = jobs.iter().map(|&at| &self.board.jobs[at].id).collect();
        let mut found = HashMap::new();
        // The first sweep that has a job wins, as it does for the job's scores.
        for sweep in self.sweeps.iter().rev() {
            let places: Vec<usize> =
                (0..sweep.jobs.len()).filter(|&at| ids.contains(&sweep.jobs[at].id)).collect();
            found.extend(store.values_of_jobs(sweep, of, &places).await?);
        }
        Ok(found)
    }

    /// Ranks by one metric, reads the scores of the rows that are shown and of the best.
    async fn show(mut self, store: &Store, request: &BoardRequest) -> Result<ShownBoard, WorkspaceError> {
        let view = view_of(&self.board, request)?;
        // Of several sweeps everything was read.
        let lazily = self.sweeps.is_empty() && self.known.is_none();
        if let (true, Some(rank)) = (lazily, &view.rank) {
            let metrics = named(std::slice::from_ref(rank));
            store.read_scores(&mut self.board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
        }
        let mut cells = rank_cells(&self.board, &view, cells_of(&self.board, &view.keys));
        let counted = || (cells.len(), count_competing(&self.board, &view, &cells));
        let (all, competing) = self.known.unwrap_or_else(counted);
        let near = near_the_best(&self.board, &view, &cells);
        let shown = cells.len().min(request.rows.unwrap_or(usize::MAX));
        // In another order the best row may be one that is not shown.
        let best = best_cell(&self.board, &view, &cells).filter(|best| !cells[..shown].contains(best));
        let best = best.cloned();
        cells.truncate(shown);
        cells.extend(best);
        if lazily {
            let needed: Vec<usize> = cells.iter().flatten().copied().collect();
            let jobs = (cells.len() < all).then_some(needed.as_slice());
            let of = ScoresOf { metrics: Some(&named(&view.metrics)), jobs };
            store.read_scores(&mut self.board, of).await?;
        }
        let mut rows = rows_of(&self.board, &view, &cells);
        if let Some(rank) = &view.rank {
            self.mark(store, &mut rows, (&view, rank, competing), &near).await?;
        }
        let best_elsewhere = rows.split_off(shown).pop();
        Ok(ShownBoard { board: self.board, view, rows, all, best_elsewhere })
    }

    /// Marks rows that the data cannot tell from the best. Marks do not depend on how many rows are shown.
    async fn mark(
        &self,
        store: &Store,
        rows: &mut [BoardRow],
        (view, rank, competing): (&BoardView, &MetricName, usize),
        near: &[Vec<usize>],
    ) -> Result<(), WorkspaceError> {
        let mut tested = rows_of(&self.board, view, near);
        let jobs: Vec<usize> = near.iter().flatten().copied().collect();
        let values = self.values(store, rank, &jobs).await?;
        mark_ties(&self.board, &mut tested, rank, (&values, competing));
        let tested: HashMap<&[String], &BoardRow> =
            tested.iter().map(|row| (row.jobs.as_slice(), row)).collect();
        for row in rows {
            if let Some(known) = tested.get(row.jobs.as_slice()) {
                (row.tied, row.p_holm) = (known.tied, known.p_holm);
            }
        }
        Ok(())
    }
}

/// Whether the first rows by the objective are all that is asked for.
fn is_plain(request: &BoardRequest) -> bool {
    let plain =
        BoardRequest { sweeps: request.sweeps.clone(), rows: request.rows, ..BoardRequest::default() };
    *request == plain && request.sweeps.len() < 2
}

/// Metrics as the database knows them.
fn named(metrics: &[MetricName]) -> Vec<(String, Metric)> {
    metrics.iter().map(|name| (name.task.clone(), name.metric)).collect()
}

/// What is to be shown. Errors: a metric or key that there is not.
fn view_of(board: &Leaderboard, request: &BoardRequest) -> Result<BoardView, WorkspaceError> {
    let mut view = BoardView::of(board);
    if !request.metrics.is_empty() {
        let names = whole_names(&request.metrics, &|name| board.metric_named(name).is_ok());
        let metrics = names.iter().map(|name| board.metric_named(name));
        view.metrics = metrics.collect::<Result<_, _>>()?;
        view.metrics_named = true;
    }
    if let Some(sort) = &request.sort {
        match Sort::named(sort) {
            Sort::Key(name) if find_key(&name).is_none() => {
                view.rank = Some(board.metric_named(sort)?);
            }
            other => view.sort = other,
        }
    }
    if let Some(rank) = view.rank.clone().filter(|rank| !view.metrics.contains(rank)) {
        view.metrics.insert(0, rank);
    }
    if !request.group_by.is_empty() {
        view.keys = request.group_by.iter().map(|name| key(name, "group-by")).collect::<Result<_, _>>()?;
        view.grouped = true;
    }
    if !request.columns.is_empty() {
        let column = |name: &String| match BoardColumn::named(name) {
            BoardColumn::Key(name) => Ok(BoardColumn::Key(key(&name, "columns")?)),
            other => Ok(other),
        };
        view.columns = Some(request.columns.iter().map(column).collect::<Result<Vec<_>, WorkspaceError>>()?);
    }
    Ok(view)
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

/// The condition that is asked for. Error: it is not understood.
fn condition_of(request: &BoardRequest, board: &Leaderboard) -> Result<Option<Condition>, WorkspaceError> {
    Ok(request.condition.as_ref().map(|text| Condition::parse(text, board)).transpose()?)
}

/// The keys that are asked for beside the axes; none where there is none.
fn needed_settings<'a>(
    request: &'a BoardRequest,
    more: &[&'a str],
    board: &Leaderboard,
    condition: Option<&'a Condition>,
) -> Option<Vec<&'a str>> {
    let BoardRequest { sort, columns, group_by, .. } = request;
    let asked = sort.iter().chain(columns).chain(group_by).map(String::as_str).chain(more.iter().copied());
    let mut keys: Vec<&str> = asked.filter_map(find_key).map(|key| key.path).collect();
    keys.extend(condition.map(Condition::keys).unwrap_or_default());
    keys.retain(|key| !board.axes.iter().any(|axis| axis == key));
    (!keys.is_empty()).then_some(keys)
}

/// A key of the sweep file. Error: there is none of this name.
fn key(name: &str, option: &'static str) -> Result<String, WorkspaceError> {
    match find_key(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(WorkspaceError::UnknownKey { option, name: name.to_owned() }),
    }
}
