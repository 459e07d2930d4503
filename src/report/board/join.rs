//! Several sweeps in one leaderboard.

use std::collections::HashMap;

use crate::job::{Decides, JobId, KEYS, Key, short_name};
use crate::store::{BoardJob, BoardScore, Leaderboard};

/// One board from several whose jobs' settings and scores have been read: each job once, with the scores of all boards, labeled by all
/// their axes and by any other key that decides a training and differs. The first board's objective ranks it. None without boards.
pub fn join_boards(boards: Vec<Leaderboard>) -> Option<Leaderboard> {
    let mut boards = boards.into_iter();
    let mut all = boards.next()?;
    let mut several = false;
    for board in boards {
        several = true;
        all.sweep = format!("{}, {}", all.sweep, board.sweep);
        for axis in board.axes {
            if !all.axes.contains(&axis) {
                all.axes.push(axis);
            }
        }
        for task in board.tasks {
            if !all.tasks.contains(&task) {
                all.tasks.push(task);
            }
        }
        for (task, metrics) in board.metrics {
            match all.metrics.iter_mut().find(|(known, _)| *known == task) {
                Some((_, known)) => known
                    .extend(metrics.into_iter().filter(|metric| !known.contains(metric)).collect::<Vec<_>>()),
                None => all.metrics.push((task, metrics)),
            }
        }
        all.jobs.extend(board.jobs);
        all.objective = all.objective.or(board.objective);
    }
    all.jobs = each_once(std::mem::take(&mut all.jobs));
    if several {
        let more = differing(&all.jobs);
        all.axes.extend(more.into_iter().filter(|key| !all.axes.contains(key)).collect::<Vec<_>>());
        name_bases(&mut all.jobs);
        let axes = all.axes.clone();
        for job in all.jobs.iter_mut().filter(|job| job.is_cell()) {
            let part = |axis: &String| {
                let value = job.settings.get(axis)?.to_string().replace(' ', "");
                Some(format!("{}={value}", short_name(axis)))
            };
            job.label = axes.iter().filter_map(part).collect::<Vec<_>>().join(" ");
        }
    }
    Some(all)
}

/// Each job at its first position, with the scores from all its positions.
fn each_once(jobs: Vec<BoardJob>) -> Vec<BoardJob> {
    let mut places: HashMap<JobId, usize> = HashMap::new();
    let mut found: Vec<BoardJob> = Vec::new();
    for job in jobs {
        let at = *places.entry(job.id.clone()).or_insert(found.len());
        match found.get_mut(at) {
            None => found.push(job),
            Some(known) => {
                let is_new = |score: &BoardScore| known.score(&score.task, score.metric).is_none();
                let new: Vec<BoardScore> = job.scores.into_iter().filter(is_new).collect();
                known.scores.extend(new);
            }
        }
    }
    found
}

/// The keys that decide a training and in which jobs differ: two sweeps may fix the same key at two values.
fn differing(jobs: &[BoardJob]) -> Vec<String> {
    let cells: Vec<&BoardJob> = jobs.iter().filter(|job| job.is_cell()).collect();
    let Some((first, others)) = cells.split_first() else { return Vec::new() };
    let one_model = others.iter().all(|job| job.model == first.model);
    let decides = |key: &Key| match key.decides {
        Decides::Training => true,
        // The same file may have another name.
        Decides::Indirect => key.path != "model" || !one_model,
        Decides::Scoring | Decides::Nothing => false,
    };
    let differs =
        |key: &&Key| others.iter().any(|job| job.settings.get(key.path) != first.settings.get(key.path));
    KEYS.iter().filter(|key| decides(key)).filter(differs).map(|key| key.path.to_owned()).collect()
}

/// Several untrained models are labeled by their names.
fn name_bases(jobs: &mut [BoardJob]) {
    let bases = jobs.iter().filter(|job| job.is_base);
    let labels: Vec<String> = bases.map(|job| job.label.clone()).collect();
    for job in jobs.iter_mut().filter(|job| job.is_base) {
        if labels.iter().filter(|label| **label == job.label).count() > 1
            && let Some(model) = job.settings.get("model")
        {
            job.label = format!("{} {model}", job.label);
        }
    }
}
