//! What a leaderboard is asked for: boards of sweeps as one, with what of them must be read.

use std::collections::{HashMap, HashSet};

use crate::cli::ExitCode;
use crate::cli::arguments::{ShownArguments, TopArguments};
use crate::cli::failure::Failure;
use crate::job::{JobId, find_key};
use crate::report::{Condition, join_boards};
use crate::store::{ByDocument, Leaderboard, ScoresOf, Store};
use crate::task::Metric;
use crate::task::MetricName;

/// What is asked for.
pub(super) struct BoardQuery {
    /// One board of all sweeps.
    pub(super) board: Leaderboard,
    /// The board of each sweep, where there are several; their jobs are those of the one.
    pub(super) sweeps: Vec<Leaderboard>,
    /// The number of rows and of those that compete for the best, where the board has only the first of them, with their scores.
    pub(super) known: Option<(usize, usize)>,
}

impl BoardQuery {
    pub(super) fn of(boards: Vec<Leaderboard>) -> Self {
        let sweeps = if boards.len() > 1 { boards.clone() } else { Vec::new() };
        let empty = || Leaderboard { sweep: String::new(), version: 0, ..Leaderboard::default() };
        Self { board: join_boards(boards).unwrap_or_else(empty), sweeps, known: None }
    }

    /// The values by document of some of its jobs, as the sweep of each wants them.
    pub(super) async fn values(
        &self,
        store: &Store,
        rank: &MetricName,
        jobs: &[usize],
    ) -> Result<HashMap<JobId, ByDocument>, Failure> {
        let of = (rank.task.as_str(), rank.metric);
        if self.sweeps.is_empty() {
            return Ok(store.values_of_jobs(&self.board, of, jobs).await?);
        }
        let ids: HashSet<&JobId> = jobs.iter().map(|&at| &self.board.jobs[at].id).collect();
        let mut found = HashMap::new();
        // The first sweep that has a job wins, as it does for the job's scores.
        for sweep in self.sweeps.iter().rev() {
            let own: Vec<usize> =
                (0..sweep.jobs.len()).filter(|&at| ids.contains(&sweep.jobs[at].id)).collect();
            found.extend(store.values_of_jobs(sweep, of, &own).await?);
        }
        Ok(found)
    }
}

/// Metrics as the database knows them.
pub(super) fn named(metrics: &[MetricName]) -> Vec<(String, Metric)> {
    metrics.iter().map(|own| (own.task.clone(), own.metric)).collect()
}

/// The boards that are asked for, with every setting where more than those of the axes are needed.
pub(super) async fn read_boards(store: &Store, arguments: &TopArguments) -> Result<BoardQuery, Failure> {
    let mut boards = Vec::new();
    let names: Vec<Option<&str>> = match arguments.sweeps.as_slice() {
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
            let condition = condition_of(arguments, &board)?;
            if let Some(keys) = needed_settings(arguments, &board, condition.as_ref()) {
                store.read_settings(&mut board, Some(&keys)).await?;
            }
            if let Some(condition) = &condition {
                let metrics = named(&condition.metrics().cloned().collect::<Vec<_>>());
                store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
            }
        }
        boards.push(board);
    }
    let mut asked = BoardQuery::of(boards);
    if let Some(condition) = condition_of(arguments, &asked.board)? {
        condition.keep(&mut asked.board);
    }
    Ok(asked)
}

/// The condition that is asked for. Error: it is not understood.
fn condition_of(arguments: &TopArguments, board: &Leaderboard) -> Result<Option<Condition>, Failure> {
    let text = arguments.shown.condition.as_ref();
    Ok(text.map(|text| Condition::parse(text, board)).transpose()?)
}

/// The keys that are asked for beside the axes; none where there is none.
fn needed_settings(
    arguments: &TopArguments,
    board: &Leaderboard,
    condition: Option<&Condition>,
) -> Option<Vec<&'static str>> {
    let ShownArguments { sort, columns, group_by, .. } = &arguments.shown;
    let named = sort.iter().chain(columns).chain(group_by).chain(&arguments.pivot);
    let mut keys: Vec<&str> = named.filter_map(|name| find_key(name)).map(|key| key.path).collect();
    keys.extend(condition.map(Condition::keys).unwrap_or_default());
    keys.retain(|key| !board.axes.iter().any(|axis| axis == key));
    (!keys.is_empty()).then_some(keys)
}

/// A key of the sweep file. Error: there is none of this name.
pub(super) fn key(name: &str, flag: &str) -> Result<String, Failure> {
    if find_key(name).is_some() {
        return Ok(name.to_owned());
    }
    let near = crate::job::nearest_key(name).map(|near| format!("did you mean {near}?"));
    let help = near.unwrap_or_else(|| "`loragrid keys` lists the keys".to_owned());
    Err(Failure::new(ExitCode::Usage, format!("{flag}: unknown key '{name}'"), help))
}
