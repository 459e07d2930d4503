//! Several sweeps in one leaderboard.

use std::collections::HashSet;

use crate::job::short_name;
use crate::store::Leaderboard;

/// One board of several, whose jobs' settings have been read: each job once, named by every axis of any of them. The first one's
/// objective ranks it. None of none.
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
                Some((_, known)) => {
                    known.extend(metrics.into_iter().filter(|own| !known.contains(own)).collect::<Vec<_>>())
                }
                None => all.metrics.push((task, metrics)),
            }
        }
        all.jobs.extend(board.jobs);
        all.objective = all.objective.or(board.objective);
    }
    let mut seen = HashSet::new();
    // Results of other programs are those of a sweep; ids of theirs may be equal in two.
    all.jobs.retain(|job| seen.insert(job.id.clone()));
    if several {
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
