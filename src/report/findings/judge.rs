//! Judging a claim by the results.

use std::collections::HashMap;

use super::claim::{Claim, Expect};
use super::finding::{Finding, FindingRow, Outcome, finding};
use super::measured::{Measure, measured_row};
use super::pairs::jobs_of;
use super::scored::{Scored, scored};
use crate::job::JobId;
use crate::report::board::{BoardView, UnknownMetric};
use crate::stats::holm;
use crate::store::{DocumentValues, Leaderboard};

/// Judges a claim by a board whose settings and scores have been read, and the values by document of the compared jobs. Error: a metric
/// that the sweep does not score.
pub fn judge(
    board: &Leaderboard,
    claim: &Claim,
    values: &HashMap<JobId, Vec<DocumentValues>>,
) -> Result<Finding, UnknownMetric> {
    let pairs = jobs_of(board, claim);
    if pairs.is_empty() {
        return Ok(finding(claim, Outcome::Undecided, "no two jobs to compare".to_owned(), 0, Vec::new()));
    }
    let metrics: Vec<String> = match claim.metrics.as_slice() {
        [] => BoardView::of(board).metrics.iter().map(ToString::to_string).collect(),
        named => named.to_vec(),
    };
    let (mut measures, mut scores): (Vec<FindingRow>, Vec<Scored>) = (Vec::new(), Vec::new());
    for metric in &metrics {
        match Measure::named(metric) {
            Some(measure) => measures.push(measured_row(board, claim, &pairs, (metric, measure))),
            None => scores.push(scored(&pairs, board, &board.metric_named(metric)?, values)),
        }
    }
    let tested: Vec<usize> = (0..scores.len()).filter(|&at| scores[at].row.p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|&at| scores[at].row.p).collect();
    for (&at, adjusted) in tested.iter().zip(holm(&p)) {
        scores[at].row.p = Some(adjusted);
    }
    let rows: Vec<FindingRow> =
        measures.into_iter().chain(scores.into_iter().map(|scored| scored.judge(claim))).collect();
    let (outcome, why) = together(claim, &rows, pairs.len());
    Ok(finding(claim, outcome, why, pairs.len(), rows))
}

/// The outcome over all metrics of a claim. Equality must hold in each, and so must a direction claimed for all; otherwise a direction
/// must hold in one of them, and be reversed in none.
fn together(claim: &Claim, rows: &[FindingRow], pairs: usize) -> (Outcome, String) {
    let names = |of: &dyn Fn(&&FindingRow) -> bool| -> Vec<&str> {
        rows.iter().filter(of).map(|row| row.metric.split(':').next().unwrap_or_default()).collect()
    };
    let with = |outcome: Outcome| names(&|row| row.outcome == outcome && row.first.is_some());
    let (yes, no, open) = (with(Outcome::Confirmed), with(Outcome::Refuted), with(Outcome::Undecided));
    let nothing = names(&|row| row.first.is_none());
    let everywhere = claim.everywhere || matches!(claim.expect, Expect::Equal | Expect::NotBetter);
    let outcome = match (yes.len(), no.len()) {
        (_, 0) if everywhere && yes.len() == rows.len() && !rows.is_empty() => Outcome::Confirmed,
        (_, 1..) if everywhere => Outcome::Refuted,
        (1.., 0) if !everywhere => Outcome::Confirmed,
        (0, 1..) => Outcome::Refuted,
        _ => Outcome::Undecided,
    };
    let mut parts = Vec::new();
    for (words, names) in [
        ("holds for", yes),
        ("contradicted by", no),
        ("the data cannot tell on", open),
        ("no two runs have a value of", nothing),
    ] {
        if !names.is_empty() {
            parts.push(format!("{words} {}", names.join(", ")));
        }
    }
    if rows.is_empty() {
        parts.push("the sweep scores nothing".to_owned());
    }
    let missing = rows.iter().filter(|row| row.first.is_some()).map(|row| row.missing).max().unwrap_or(0);
    if missing > 0 {
        parts.push(format!("{missing} of {pairs} pairs lack a value"));
    }
    if pairs == 1 {
        parts.push("one pair of runs".to_owned());
    }
    (outcome, parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobState, Value};
    use crate::report::findings::Claims;
    use crate::store::{BoardJob, BoardScore, ByDocument, Documents};
    use crate::task::Metric;

    /// A base and jobs of two ranks with two seeds, with these fractions of documents right.
    fn world(parts: [f64; 5]) -> (Leaderboard, HashMap<JobId, Vec<DocumentValues>>) {
        let places = [("base", 0, 0), ("a", 8, 1), ("b", 8, 2), ("c", 16, 1), ("d", 16, 2)];
        let mut values = HashMap::new();
        let jobs = places.into_iter().zip(parts).map(|((name, rank, seed), part)| {
            let documents: ByDocument =
                (0..200).map(|n| (n, f64::from(u8::from((n as f64) < 200.0 * part)))).collect();
            let id = JobId::from_store(name.to_owned());
            let (task, metric) = ("t".to_owned(), Metric::Acc);
            values.insert(
                id.clone(),
                vec![DocumentValues {
                    task: task.clone(),
                    metric,
                    value: part,
                    key: None,
                    documents: Some(Documents::Mean(documents)),
                }],
            );
            let score = BoardScore { task, metric, value: part, stderr: None, documents: 200 };
            BoardJob {
                id,
                is_base: rank == 0,
                imported: false,
                label: name.into(),
                model: "m".into(),
                dtype: "fp32".into(),
                state: JobState::Done,
                reason: None,
                settings: [
                    ("lora.rank".to_owned(), Value::Integer(rank)),
                    ("seed".to_owned(), Value::Integer(seed)),
                ]
                .into(),
                trainable: 1,
                seconds: Some(10.0 * rank as f64),
                work: Default::default(),
                peak_memory: Some(1_000_000),
                losses: None,
                converged: Some(true),
                scores: vec![score],
            }
        });
        let board = Leaderboard {
            sweep: "s".into(),
            version: 1,
            axes: vec!["lora.rank".into(), "seed".into()],
            tasks: vec!["t".into()],
            metrics: vec![("t".into(), vec![Metric::Acc])],
            objective: Some(("t".into(), Metric::Acc)),
            groups: Vec::new(),
            jobs: jobs.collect(),
        };
        (board, values)
    }

    fn outcome(parts: [f64; 5], claim: &str) -> Outcome {
        let (board, values) = world(parts);
        let text = format!("[[claim]]\ntext = 'x'\nsweep = 's'\n{claim}");
        let claims = Claims::parse(&text).unwrap();
        judge(&board, &claims.claims[0], &values).unwrap().outcome
    }

    const RANKS: &str = "first = 'lora.rank == 8'\nsecond = 'lora.rank == 16'\n";

    #[test]
    fn a_difference_in_both_seeds_confirms_or_refutes_and_one_seed_alone_does_not() {
        let better = format!("{RANKS}expect = 'better'");
        assert_eq!(outcome([0.1, 0.3, 0.3, 0.6, 0.6], &better), Outcome::Confirmed);
        assert_eq!(outcome([0.1, 0.6, 0.6, 0.3, 0.3], &better), Outcome::Refuted);
        assert_eq!(outcome([0.1, 0.3, 0.3, 0.3, 0.3], &better), Outcome::Undecided);
        assert_eq!(outcome([0.1, 0.3, 0.5, 0.9, 0.4], &better), Outcome::Undecided, "the seeds disagree");
        assert_eq!(
            outcome([0.1, 0.6, 0.6, 0.3, 0.3], &format!("{RANKS}expect = 'worse'")),
            Outcome::Confirmed
        );
    }

    #[test]
    fn equal_is_confirmed_only_within_the_bound() {
        let equal = format!("{RANKS}expect = 'equal'\nwithin = 0.05");
        assert_eq!(outcome([0.1, 0.5, 0.5, 0.5, 0.5], &equal), Outcome::Confirmed);
        assert_eq!(outcome([0.1, 0.3, 0.3, 0.6, 0.6], &equal), Outcome::Refuted);
        assert_eq!(outcome([0.1, 0.5, 0.5, 0.54, 0.54], &equal), Outcome::Undecided);
        // One seed gains what the other loses: the means are equal, but no pair is.
        assert_eq!(outcome([0.1, 0.5, 0.5, 0.7, 0.3], &equal), Outcome::Refuted);
        let not_better = format!("{RANKS}expect = 'not_better'");
        assert_eq!(outcome([0.1, 0.6, 0.6, 0.3, 0.3], &not_better), Outcome::Confirmed);
        assert_eq!(outcome([0.1, 0.3, 0.3, 0.6, 0.6], &not_better), Outcome::Refuted);
    }

    #[test]
    fn the_base_is_compared_with_every_job_and_measures_by_their_factor() {
        let base = "first = 'base'\nsecond = 'lora.rank == 8'\nexpect = 'better'";
        assert_eq!(outcome([0.1, 0.6, 0.6, 0.3, 0.3], base), Outcome::Confirmed);
        let time = |expect: &str, factor: f64| {
            format!("{RANKS}metrics = ['time']\nexpect = '{expect}'\nfactor = {factor:?}")
        };
        assert_eq!(outcome([0.5; 5], &time("higher", 1.5)), Outcome::Confirmed);
        assert_eq!(outcome([0.5; 5], &time("higher", 3.0)), Outcome::Undecided);
        assert_eq!(outcome([0.5; 5], &time("lower", 1.5)), Outcome::Refuted);
        let faster = |expect: &str| format!("{RANKS}metrics = ['time']\nexpect = '{expect}'");
        assert_eq!(outcome([0.5; 5], &faster("worse")), Outcome::Confirmed, "less time is better");
        assert_eq!(outcome([0.5; 5], &faster("equal")), Outcome::Refuted);
        let converged = format!("{RANKS}metrics = ['converged']\nexpect = 'lower'");
        assert_eq!(outcome([0.5; 5], &converged), Outcome::Refuted);
    }

    #[test]
    fn what_is_no_claim_is_told_with_its_line() {
        let wrong = Claims::parse(
            "[[claim]]\ntext = 'x'\nsweep = 's'\nfirst = 'lora.rnk == 8'\nsecond = 'base'\nexpect = 'equal'\n",
        );
        let error = wrong.unwrap_err().to_string();
        assert!(error.contains("line 4") && error.contains("lora.rank"), "{error}");
        let (board, values) = world([0.5; 5]);
        let claims = Claims::parse(&format!(
            "[[claim]]\ntext = 'x'\nsweep = 's'\n{RANKS}metrics = ['u']\nexpect = 'equal'"
        ))
        .unwrap();
        assert!(judge(&board, &claims.claims[0], &values).is_err());
    }

    /// The outcome after a change to the jobs.
    fn changed(
        claim: &str,
        change: impl Fn(&mut Leaderboard, &mut HashMap<JobId, Vec<DocumentValues>>),
    ) -> Finding {
        let (mut board, mut values) = world([0.1, 0.3, 0.3, 0.6, 0.6]);
        change(&mut board, &mut values);
        let claims = Claims::parse(&format!("[[claim]]\ntext = 'x'\nsweep = 's'\n{claim}")).unwrap();
        judge(&board, &claims.claims[0], &values).unwrap()
    }

    #[test]
    fn a_run_that_diverged_did_not_converge_and_one_of_many_is_enough_where_some_are_meant() {
        let some = format!("{RANKS}metrics = ['converged']\nexpect = 'lower'\npairs = 'any'");
        let diverge = |board: &mut Leaderboard| {
            board.jobs[3].state = JobState::Diverged;
            board.jobs[3].converged = None;
        };
        assert_eq!(changed(&some, |board, _| diverge(board)).outcome, Outcome::Confirmed);
        assert_eq!(changed(&some, |_, _| ()).outcome, Outcome::Refuted);
        let every = format!("{RANKS}metrics = ['converged']\nexpect = 'lower'");
        assert_eq!(changed(&every, |board, _| diverge(board)).outcome, Outcome::Undecided);
        // Jobs still to be run may contradict it.
        let waiting = changed(&some, |board, _| board.jobs[4].converged = None);
        assert_eq!(waiting.outcome, Outcome::Undecided);
        assert!(waiting.why.contains("1 of 2 pairs lack a value"), "{}", waiting.why);
    }

    #[test]
    fn a_metric_that_a_pair_lacks_is_told_and_equality_is_not_concluded_without_it() {
        let equal = format!("{RANKS}expect = 'equal'\nwithin = 0.9");
        let lacks = changed(&equal, |_, values| {
            values.remove(&JobId::from_store("d".to_owned()));
        });
        assert_eq!((lacks.outcome, lacks.rows[0].missing), (Outcome::Undecided, 1));
        let none = changed(&equal, |_, values| values.clear());
        assert_eq!((none.outcome, none.rows[0].first), (Outcome::Undecided, None));
        assert!(none.why.contains("no two runs have a value of t"), "{}", none.why);
        // The existing pairs decide a direction.
        let better = changed(&format!("{RANKS}expect = 'better'"), |_, values| {
            values.remove(&JobId::from_store("d".to_owned()));
        });
        assert_eq!(better.outcome, Outcome::Confirmed);
    }

    #[test]
    fn where_one_pair_is_enough_it_must_be_certain_among_all() {
        let any = format!("{RANKS}expect = 'worse'\npairs = 'any'");
        assert_eq!(outcome([0.1, 0.5, 0.5, 0.8, 0.2], &any), Outcome::Confirmed);
        assert_eq!(outcome([0.1, 0.5, 0.5, 0.8, 0.5], &any), Outcome::Undecided);
        assert_eq!(outcome([0.1, 0.5, 0.5, 0.8, 0.8], &any), Outcome::Refuted);
    }

    #[test]
    fn a_bound_is_broken_only_by_what_lies_wholly_beyond_it() {
        let by = |part: f64| {
            outcome([0.1, 0.3, 0.3, part, part], &format!("{RANKS}expect = 'not_better'\nwithin = 0.1"))
        };
        assert_eq!((by(0.3), by(0.42), by(0.6)), (Outcome::Confirmed, Outcome::Undecided, Outcome::Refuted));
    }

    #[test]
    fn few_documents_without_a_flip_do_not_show_that_two_are_equal() {
        let few = |count: usize| {
            let equal = format!("{RANKS}expect = 'equal'\nwithin = 0.02");
            changed(&equal, |_, values| {
                for document_values in values.values_mut().flatten() {
                    let Some(Documents::Mean(documents)) = &mut document_values.documents else { continue };
                    *documents = (0..count).map(|n| (n, 1.0)).collect();
                }
            })
        };
        assert_eq!((few(5).outcome, few(200).outcome), (Outcome::Undecided, Outcome::Confirmed));
    }

    #[test]
    fn seeds_are_compared_each_with_each_and_a_base_with_the_jobs_that_train_it() {
        let pairs =
            |claim: &str, change: &dyn Fn(&mut Leaderboard)| changed(claim, |board, _| change(board)).pairs;
        let seeds = "first = 'seed > 0'\nsecond = 'seed > 0'\nexpect = 'equal'";
        assert_eq!(pairs(seeds, &|_| ()), 2, "one pair of seeds for each rank");
        let base = "first = 'base'\nsecond = 'lora.rank == 8'\nexpect = 'better'";
        assert_eq!(pairs(base, &|_| ()), 2);
        assert_eq!(pairs(base, &|board| board.jobs[1].model = "other".into()), 1);
    }

    #[test]
    fn a_claim_about_everything_needs_every_metric() {
        let two = |claim: &str| {
            changed(claim, |board, values| {
                board.metrics[0].1.push(Metric::AccNorm);
                for job_values in values.values_mut() {
                    // The same in every job.
                    let all: ByDocument = (0..200).map(|n| (n, f64::from(n as u32 % 2))).collect();
                    let metric = Metric::AccNorm;
                    let acc_norm = DocumentValues {
                        metric,
                        documents: Some(Documents::Mean(all)),
                        ..job_values[0].clone()
                    };
                    job_values.push(acc_norm);
                }
            })
        };
        let better = format!("{RANKS}metrics = ['t:acc', 't:acc_norm']\nexpect = 'better'");
        assert_eq!(two(&better).outcome, Outcome::Confirmed);
        assert_eq!(two(&format!("{better}\neverywhere = true")).outcome, Outcome::Undecided);
    }
}
