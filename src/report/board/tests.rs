use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::job::{JobId, JobState, Value};
use crate::report::render_terminal;
use crate::store::{BoardJob, BoardScore, ByDocument};
use crate::task::Metric;

fn job(label: &str, rank: i64, seed: i64, value: Option<f64>) -> BoardJob {
    let score = |value| BoardScore {
        task: "t".into(),
        metric: Metric::Acc,
        value,
        stderr: Some(0.05),
        documents: 100,
    };
    BoardJob {
        id: JobId::from_store(format!("{label}-{seed}")),
        is_base: label == "base",
        imported: false,
        label: label.into(),
        model: "m".into(),
        dtype: "fp32".into(),
        state: if value.is_some() { JobState::Done } else { JobState::Failed },
        reason: value.is_none().then(|| "it broke".to_owned()),
        settings: [("lora.rank".to_owned(), Value::Integer(rank)), ("seed".to_owned(), Value::Integer(seed))]
            .into(),
        trainable: 1000 * rank as u64,
        seconds: Some(10.0),
        work: Default::default(),
        peak_memory: Some(2_500_000_000),
        losses: Some((2.0, 0.5)),
        converged: Some(true),
        scores: value.map(score).into_iter().collect(),
    }
}

fn board(jobs: Vec<BoardJob>) -> Leaderboard {
    Leaderboard {
        sweep: "s".into(),
        version: 1,
        axes: vec!["lora.rank".into(), "seed".into()],
        tasks: vec!["t".into()],
        metrics: vec![("t".into(), vec![Metric::Acc])],
        objective: Some(("t".into(), Metric::Acc)),
        groups: Vec::new(),
        jobs,
    }
}

fn shown(board: &Leaderboard, view: &BoardView) -> Vec<BoardRow> {
    let cells = rank_cells(board, view, cells_of(board, &view.keys));
    rows_of(board, view, &cells)
}

fn labels(rows: &[BoardRow]) -> Vec<&str> {
    rows.iter().map(|row| row.label.as_str()).collect()
}

#[test]
fn a_training_that_diverged_is_shown_and_never_ranked() {
    let mut diverged = job("r=8 seed=1", 8, 1, Some(0.9));
    diverged.state = JobState::Diverged;
    let board = board(vec![diverged, job("r=16 seed=1", 16, 1, Some(0.2)), job("r=32 seed=1", 32, 1, None)]);
    let rows = board_rows(&board);
    assert_eq!(labels(&rows), ["r=16", "r=8", "r=32"]);
    assert_eq!(rows.iter().map(|row| row.best).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(rows[1].scores[0].value, Some(0.9));
}

#[test]
fn of_cells_that_differ_by_rounding_only_the_first_of_the_plan_is_best() {
    let board = board(vec![
        job("r=8 seed=1", 8, 1, Some(0.436_000_000_000_000_05)),
        job("r=16 seed=1", 16, 1, Some(0.436_000_000_000_000_1)),
    ]);
    assert_eq!(labels(&board_rows(&board)), ["r=8", "r=16"]);
    assert!(board_rows(&board)[0].best);
}

#[test]
fn the_base_is_first_then_the_best_cell_and_a_failed_one_stays_last() {
    let board = board(vec![
        job("r=8 seed=1", 8, 1, None),
        job("r=16 seed=1", 16, 1, Some(0.2)),
        job("r=32 seed=1", 32, 1, Some(0.4)),
        job("base", 0, 0, Some(0.9)),
    ]);
    let rows = board_rows(&board);
    assert_eq!(labels(&rows), ["base", "r=32", "r=16", "r=8"]);
    assert_eq!(rows.iter().map(|row| row.best).collect::<Vec<_>>(), [false, true, false, false]);
    let view = BoardView::of(&board);
    let text = [render_terminal(&board_table(&view, &rows), None), board_notes(&view, &rows).join("; ")];
    insta::assert_snapshot!(text.join("\n"));
    let narrow = render_terminal(&board_table(&view, &rows), Some(40));
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    assert!(narrow.contains("not shown:"), "{narrow}");
}

#[test]
fn seeds_of_a_cell_are_one_row_with_their_deviation_and_their_distance_from_the_base() {
    let board = board(vec![
        job("base", 0, 0, Some(0.1)),
        job("r=8 seed=1", 8, 1, Some(0.2)),
        job("r=8 seed=2", 8, 2, Some(0.4)),
    ]);
    let rows = board_rows(&board);
    assert_eq!(rows.len(), 2);
    let score = &rows[1].scores[0];
    assert_eq!((score.error_kind, score.seeds, score.scored), (ErrorKind::Seeds, 2, 2));
    let close = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-12;
    assert!(close(score.value, 0.3) && close(score.error, 0.02f64.sqrt()) && close(score.difference, 0.2));
    assert_eq!(rows[0].scores[0].difference, None, "the base is not compared with itself");
}

#[test]
fn a_cell_that_lacks_a_seed_says_so_and_is_ranked_after_those_that_do_not() {
    let board = board(vec![
        job("r=8 seed=1", 8, 1, Some(0.9)),
        job("r=8 seed=2", 8, 2, None),
        job("r=16 seed=1", 16, 1, Some(0.2)),
    ]);
    let rows = board_rows(&board);
    assert_eq!(labels(&rows), ["r=16", "r=8"]);
    assert!(rows[0].best && !rows[1].best);
    assert_eq!((rows[1].scores[0].scored, rows[1].scores[0].seeds), (1, 2));
    assert!(render_terminal(&board_table(&BoardView::of(&board), &rows), None).contains("1/2"));
}

#[test]
fn a_score_that_is_no_number_is_never_ranked() {
    let board = board(vec![job("r=8 seed=1", 8, 1, Some(f64::NAN)), job("r=16 seed=1", 16, 1, Some(0.1))]);
    let rows = board_rows(&board);
    assert_eq!(labels(&rows), ["r=16", "r=8"]);
    assert!(rows[0].best);
}

#[test]
fn numbers_are_sorted_as_numbers_and_groups_are_named_by_their_keys() {
    let board = board(vec![
        job("r=100 seed=1", 100, 1, Some(0.1)),
        job("r=20 seed=1", 20, 1, Some(0.3)),
        job("r=3 seed=2", 3, 2, Some(0.2)),
    ]);
    let view = BoardView { sort: Sort::Key("lora.rank".into()), ..BoardView::of(&board) };
    assert_eq!(labels(&shown(&board, &view)), ["r=3", "r=20", "r=100"]);
    let view = BoardView { keys: vec!["seed".into()], grouped: true, ..BoardView::of(&board) };
    let rows = shown(&board, &view);
    assert_eq!(labels(&rows), ["seed=1", "seed=2"]);
    assert_eq!((rows[0].scores[0].error_kind, rows[0].scores[0].seeds), (ErrorKind::Runs, 2));
    assert_eq!(rows[0].settings.get("lora.rank"), None, "its jobs do not agree in it");
}

#[test]
fn rows_that_the_documents_cannot_tell_from_the_best_are_ties() {
    let board = board(vec![
        job("a seed=1", 8, 1, Some(0.9)),
        job("b seed=1", 16, 1, Some(0.88)),
        job("c seed=1", 32, 1, Some(0.1)),
        job("d seed=1", 64, 1, Some(0.5)),
    ]);
    let of = |right: usize| -> ByDocument { (0..100).map(|n| (n, f64::from(u8::from(n < right)))).collect() };
    let values: HashMap<JobId, ByDocument> = [("a-1", 90), ("b-1", 88), ("c-1", 10)]
        .map(|(id, right)| (JobId::from_store(format!("{} seed=1-1", &id[..1])), of(right)))
        .into();
    let mut rows = board_rows(&board);
    mark_ties(&board, &mut rows, &board.metric_named("t").unwrap(), (&values, 3));
    let tied: BTreeMap<&str, bool> = rows.iter().map(|row| (row.label.as_str(), row.tied)).collect();
    assert_eq!(tied, BTreeMap::from([("a", false), ("b", true), ("c", false), ("d", false)]));
}

#[test]
fn rows_with_several_seeds_are_compared_over_these() {
    let near = [0.50, 0.54, 0.52];
    let jobs = |label: &str, rank: i64, values: [f64; 3]| {
        let seeds = values.into_iter().zip(1..);
        seeds
            .map(|(value, seed)| job(&format!("{label} seed={seed}"), rank, seed, Some(value)))
            .collect::<Vec<_>>()
    };
    let board = board(
        [jobs("a", 8, near.map(|x| x + 0.01)), jobs("b", 16, near), jobs("c", 32, near.map(|x| x - 0.3))]
            .concat(),
    );
    let mut rows = board_rows(&board);
    mark_ties(&board, &mut rows, &board.metric_named("t:acc").unwrap(), (&HashMap::new(), 3));
    assert_eq!(
        rows.iter().map(|row| (row.best, row.tied)).collect::<Vec<_>>(),
        [(true, false), (false, true), (false, false)]
    );
}

#[test]
fn a_condition_keeps_the_jobs_in_which_it_holds_and_the_base() {
    let whole = board(vec![
        job("base", 0, 0, Some(0.1)),
        job("r=8 seed=1", 8, 1, Some(0.2)),
        job("r=64 seed=1", 64, 1, Some(0.4)),
    ]);
    let mut some = whole.clone();
    let parsed = |text: &str| Condition::parse(text, &whole);
    parsed("lora.rank >= 64").unwrap().keep(&mut some);
    assert_eq!(labels(&board_rows(&some)), ["base", "r=64"]);
    let labels_where = |text: &str| {
        let mut some = whole.clone();
        parsed(text).unwrap().keep(&mut some);
        some.jobs.iter().map(|job| job.label.clone()).collect::<Vec<_>>()
    };
    assert_eq!(labels_where("t > 0.3"), ["base", "r=64 seed=1"]);
    assert_eq!(labels_where("t:acc <= 0.3 && lora.rank < 64"), ["base", "r=8 seed=1"]);
    assert!(matches!(parsed("lora.rank + 1"), Err(FilterError::NotBool)));
    assert!(matches!(parsed("lora.rnk > 1"), Err(FilterError::Text { .. })));
}

#[test]
fn two_keys_make_a_table_with_its_best_cell_marked() {
    let mut jobs: Vec<BoardJob> = [(8, 1, 0.2), (8, 2, 0.4), (16, 1, 0.6), (100, 2, 0.5)]
        .map(|(rank, seed, value)| job(&format!("r={rank} seed={seed}"), rank, seed, Some(value)))
        .into();
    jobs.push(job("r=8 again", 8, 1, Some(0.3)));
    jobs.push(job("base", 0, 0, Some(0.1)));
    let board = board(jobs);
    let found = pivot(&board, "lora.rank", "seed", &board.metric_named("t").unwrap());
    assert_eq!(found.rows, [8, 16, 100].map(Value::Integer));
    assert_eq!((found.base, found.cells[0][0].unwrap().runs), (Some(0.1), 2));
    insta::assert_snapshot!(render_terminal(&pivot_table(&found), None));
}

#[test]
fn a_cell_that_lacks_a_run_is_not_the_best_and_what_finds_no_room_is_said() {
    let board = board(vec![
        job("a", 8, 1, Some(0.2)),
        job("b", 8, 2, Some(0.3)),
        job("c", 16, 1, Some(0.9)),
        job("d", 16, 2, None),
        job("e", 32, 1, None),
    ]);
    // The second key is the same for all: seeds are averaged over.
    let mut board = board;
    board.jobs.iter_mut().for_each(|job| {
        job.settings.insert("lora.alpha".into(), Value::Integer(16));
    });
    let found = pivot(&board, "lora.rank", "lora.alpha", &board.metric_named("t").unwrap());
    assert_eq!(found.rows, [8, 16, 32].map(Value::Integer), "a value whose every run failed keeps its row");
    assert_eq!(found.over, ["seed"]);
    let best: Vec<bool> = found.cells.iter().flatten().flatten().map(|cell| cell.best).collect();
    assert_eq!(best, [true, false]);
    let (table, left) = fitting_pivot(&found, Some(80));
    let text = format!("{}\n{}", render_terminal(&table, Some(80)), pivot_notes(&found).join("; "));
    assert!(left.is_empty());
    insta::assert_snapshot!(text);
    let (narrow, left) = fitting_pivot(&found, Some(20));
    assert!(left[0].contains("not shown the deviations"), "{left:?}");
    assert!(!render_terminal(&narrow, Some(40)).contains('±'));
}

#[test]
fn in_any_order_the_best_row_is_known() {
    let board = board(vec![
        job("r=8 seed=1", 8, 1, Some(0.2)),
        job("r=16 seed=1", 16, 1, Some(0.9)),
        job("r=32 seed=1", 32, 1, Some(0.4)),
        job("r=64 seed=1", 64, 1, Some(f64::NAN)),
        job("r=64 seed=2", 64, 2, Some(0.99)),
        job("base", 0, 0, Some(1.0)),
    ]);
    let view = BoardView { sort: Sort::Key("lora.rank".into()), ..BoardView::of(&board) };
    let cells = rank_cells(&board, &view, cells_of(&board, &view.keys));
    let best = best_cell(&board, &view, &cells).unwrap();
    assert_eq!(board.jobs[best[0]].label, "r=16 seed=1", "one without a number in a seed is not it");
}

#[test]
fn an_objective_within_a_group_has_a_column_and_a_best_row() {
    let mut board = board(vec![job("r=8 seed=1", 8, 1, Some(0.2)), job("r=16 seed=1", 16, 1, Some(0.4))]);
    board.tasks = vec!["group".into()];
    let rows = board_rows(&board);
    assert!(rows[0].best && rows[0].label == "r=16");
}

#[test]
fn a_job_is_compared_with_the_base_of_its_own_dtype_on_as_many_documents() {
    let of = |label: &str, dtype: &str, value: f64| BoardJob {
        id: JobId::from_store(format!("{label}{dtype}")),
        dtype: dtype.into(),
        ..job(label, 8, 1, Some(value))
    };
    let mut board = board(vec![
        of("base", "bf16", 0.3),
        of("base", "fp32", 0.1),
        of("r=8", "fp32", 0.5),
        of("r=9", "bf16", 0.5),
    ]);
    board.jobs[3].settings.insert("lora.rank".into(), Value::Integer(9));
    let difference = |board: &Leaderboard, label: &str| {
        let rows = board_rows(board);
        rows.iter().filter(|row| row.label == label).map(|row| row.scores[0].difference).collect::<Vec<_>>()
    };
    assert_eq!(difference(&board, "r=8"), [Some(0.4)]);
    assert_eq!(difference(&board, "r=9"), [Some(0.2)]);
    assert_eq!(difference(&board, "base"), [None, None]);
    board.jobs[1].scores[0].documents = 7;
    assert_eq!(difference(&board, "r=8"), [None]);
}

#[test]
fn several_sweeps_are_one_board_with_each_job_once() {
    let first = board(vec![job("base", 0, 0, Some(0.1)), job("r=8 seed=1", 8, 1, Some(0.2))]);
    let mut other = board(vec![job("base", 0, 0, Some(0.1)), job("x", 8, 2, Some(0.3))]);
    other.axes = vec!["train.learning_rate".into()];
    other.jobs[1].settings.insert("train.learning_rate".into(), Value::Float(0.5));
    let all = join_boards(vec![first, other]).unwrap();
    assert_eq!(all.jobs.len(), 3);
    assert_eq!(all.axes, ["lora.rank", "seed", "train.learning_rate"]);
    assert_eq!(labels(&board_rows(&all)), ["base", "r=8 lr=0.5", "r=8"]);
}

#[test]
fn sweeps_that_fix_a_key_at_two_values_are_not_seeds_of_each_other() {
    let with = |rate: f64, id: &str, value: f64| {
        let mut job =
            BoardJob { id: JobId::from_store(id.to_owned()), ..job("r=8 seed=1", 8, 1, Some(value)) };
        job.settings.insert("train.learning_rate".into(), Value::Float(rate));
        job
    };
    let base = |task: &str| {
        let mut job = job("base", 0, 0, Some(0.1));
        job.scores[0].task = task.to_owned();
        job
    };
    let first = board(vec![base("t"), with(0.1, "a", 0.2)]);
    let mut other = board(vec![base("u"), with(0.2, "b", 0.3)]);
    other.tasks = vec!["u".into()];
    other.metrics = vec![("u".into(), vec![Metric::Acc])];
    let all = join_boards(vec![first, other]).unwrap();
    assert_eq!(labels(&board_rows(&all)), ["base", "r=8 lr=0.2", "r=8 lr=0.1"]);
    let tasks: Vec<&str> = all.jobs[0].scores.iter().map(|score| score.task.as_str()).collect();
    assert_eq!(tasks, ["t", "u"], "the base has the scores of both");
    let second = board(vec![BoardJob {
        id: JobId::from_store("second".into()),
        model: "n".into(),
        ..job("base", 0, 0, Some(0.5))
    }]);
    let mut named = board(vec![job("base", 0, 0, Some(0.1))]);
    named.jobs[0].settings.insert("model".into(), Value::from("first.gguf"));
    let mut second = second;
    second.jobs[0].settings.insert("model".into(), Value::from("second.gguf"));
    let all = join_boards(vec![named, second]).unwrap();
    assert_eq!(labels(&board_rows(&all)), ["base second.gguf", "base first.gguf"]);
}

#[test]
fn a_metric_is_named_by_its_task_or_in_full() {
    let board = board(Vec::new());
    assert_eq!(board.metric_named("t:acc").unwrap().to_string(), "t:acc");
    let unknown = board.metric_named("t:f1").unwrap_err();
    assert_eq!(unknown.known, ["t:acc"]);
}
