//! Export frames: one row per run, or per score.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use crate::job::Value;
use crate::store::{BoardJob, Datum, Frame, Leaderboard};

/// One row per job: its identity, all keys, training measurements, and each metric's value and standard error.
pub fn run_frame(board: &Leaderboard) -> Frame {
    // Deduplicated before sorting: nearly all jobs have the same keys.
    let keys: FxHashSet<&String> = board.jobs.iter().flat_map(|job| job.settings.keys()).collect();
    let keys: BTreeSet<&String> = keys.into_iter().collect();
    let metrics = board.metric_names();
    let mut columns: Vec<String> =
        ["sweep", "job_id", "label", "kind", "state", "reason"].map(str::to_owned).into();
    columns.extend(keys.iter().map(|key| (*key).clone()));
    let work = [
        "trainable",
        "steps",
        "tokens",
        "seconds",
        "peak_memory",
        "first_loss",
        "last_loss",
        "validation_loss",
        "converged",
    ];
    columns.extend(work.map(str::to_owned));
    for name in &metrics {
        columns.extend([name.to_string(), format!("{name}_stderr")]);
    }
    let row = |job: &BoardJob| {
        let mut row = vec![Datum::Text(board.sweep.clone()), Datum::Text(job.id.to_string())];
        row.extend([Datum::Text(job.label.clone()), Datum::Text(kind(job).to_owned())]);
        row.extend([
            Datum::Text(job.state.as_str().to_owned()),
            Datum::maybe(job.reason.clone(), Datum::Text),
        ]);
        row.extend(keys.iter().map(|key| Datum::maybe(job.settings.get(*key), datum)));
        row.push(if job.is_cell() { Datum::Integer(job.trainable as i64) } else { Datum::Null });
        row.extend([job.work.steps, job.work.tokens].map(|count| Datum::maybe(count, Datum::Integer)));
        row.push(Datum::maybe(job.seconds, Datum::Real));
        row.push(Datum::maybe(job.peak_memory, Datum::Integer));
        let (first, last) = (job.losses.map(|losses| losses.0), job.losses.map(|losses| losses.1));
        row.extend([first, last, job.work.validation_loss].map(|loss| Datum::maybe(loss, Datum::Real)));
        row.push(Datum::maybe(job.converged, Datum::Bool));
        for (at, name) in metrics.iter().enumerate() {
            // Scores are mostly in the order of the metrics.
            let is_own =
                |score: &&crate::store::BoardScore| score.metric == name.metric && score.task == name.task;
            let score = job.scores.get(at).filter(is_own).or_else(|| job.score(&name.task, name.metric));
            row.push(Datum::maybe(score.map(|score| score.value), Datum::Real));
            row.push(Datum::maybe(score.and_then(|score| score.stderr), Datum::Real));
        }
        row
    };
    Frame { rows: board.jobs.iter().map(row).collect(), columns }
}

/// One row per score of each job.
pub fn score_frame(board: &Leaderboard) -> Frame {
    let columns = [
        "sweep",
        "job_id",
        "label",
        "kind",
        "task",
        "metric",
        "value",
        "stderr",
        "documents",
        "higher_is_better",
    ];
    let of_job = |job: &BoardJob| {
        let row = |score: &crate::store::BoardScore| {
            vec![
                Datum::Text(board.sweep.clone()),
                Datum::Text(job.id.to_string()),
                Datum::Text(job.label.clone()),
                Datum::Text(kind(job).to_owned()),
                Datum::Text(score.task.clone()),
                Datum::Text(score.metric.as_str().to_owned()),
                Datum::Real(score.value),
                Datum::maybe(score.stderr, Datum::Real),
                Datum::Integer(score.documents as i64),
                Datum::Bool(score.metric.higher_is_better()),
            ]
        };
        job.scores.iter().map(row).collect::<Vec<_>>()
    };
    Frame { columns: columns.map(str::to_owned).into(), rows: board.jobs.iter().flat_map(of_job).collect() }
}

fn kind(job: &BoardJob) -> &'static str {
    match (job.is_base, job.imported) {
        (true, _) => "base",
        (_, true) => "imported",
        _ => "train",
    }
}

fn datum(value: &Value) -> Datum {
    match value {
        Value::Bool(flag) => Datum::Bool(*flag),
        Value::Integer(number) => Datum::Integer(*number),
        Value::Float(number) => Datum::Real(*number),
        Value::Text(text) => Datum::Text(text.clone()),
        Value::List(_) => Datum::Text(serde_json::to_string(value).unwrap_or_default()),
    }
}
