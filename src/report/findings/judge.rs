//! A claim against the results: over documents by the paired test, over runs by what was measured.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::claim::{Claim, Expect, Side};
use crate::job::{JobId, Origin, Settings, find_key};
use crate::report::board::{BoardView, MetricName, UnknownMetric};
use crate::stats::{holm, mean, paired};
use crate::store::{BoardJob, ByDocument, DocumentValues, Leaderboard};

/// Probability below which a difference is believed, after the correction for several tasks.
const LEVEL: f64 = 0.05;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The results bear it out.
    Confirmed,
    /// They say otherwise.
    Refuted,
    /// They do not tell.
    Undecided,
}

impl Outcome {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
        }
    }
}

/// A claim with what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The claim.
    pub text: String,
    /// The sweep.
    pub sweep: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
    /// Pairs of jobs that are equal in everything that the claim does not name.
    pub pairs: usize,
    /// Each metric.
    pub rows: Vec<FindingRow>,
}

/// A metric of a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FindingRow {
    /// `task:metric`, or what was measured.
    pub metric: String,
    /// Mean of the first jobs.
    pub first: f64,
    /// Of the second.
    pub second: f64,
    /// The second less the first.
    pub difference: f64,
    /// Where that lies with 95 % confidence over documents.
    pub interval: Option<(f64, f64)>,
    /// Probability by chance, after Holm's correction over the claim's metrics.
    pub p: Option<f64>,
    /// What this metric alone says.
    pub outcome: Outcome,
}

/// A claim about a sweep that has not been run.
pub fn not_run(claim: &Claim) -> Finding {
    finding(claim, Outcome::Undecided, "the sweep has not been run".to_owned(), 0, Vec::new())
}

fn finding(claim: &Claim, outcome: Outcome, why: String, pairs: usize, rows: Vec<FindingRow>) -> Finding {
    Finding { text: claim.text.clone(), sweep: claim.sweep.clone(), outcome, why, pairs, rows }
}

/// The pairs of jobs that a claim compares, by their places in the board: equal in every axis that the claim does not name.
pub fn jobs_of(board: &Leaderboard, claim: &Claim) -> Vec<(usize, usize)> {
    let named: Vec<&str> = [claim.first.keys(), claim.second.keys()].concat();
    let axes: Vec<&String> = board.axes.iter().filter(|axis| !named.contains(&axis.as_str())).collect();
    let (first, second) = (side(board, &claim.first), side(board, &claim.second));
    let alike = |a: &BoardJob, b: &BoardJob| {
        !a.is_cell() || !b.is_cell() || axes.iter().all(|axis| a.settings.get(*axis) == b.settings.get(*axis))
    };
    let of = |&b: &usize| {
        let matching = first.iter().filter(move |&&a| alike(&board.jobs[a], &board.jobs[b]) && a != b);
        matching.map(move |&a| (a, b)).collect::<Vec<_>>()
    };
    second.iter().flat_map(of).collect()
}

fn side(board: &Leaderboard, side: &Side) -> Vec<usize> {
    let holds = |job: &BoardJob| match side {
        Side::Base => job.is_base,
        Side::Where(expression) => {
            let mut settings = Settings::new();
            for path in expression.keys() {
                if let (Some(key), Some(value)) = (find_key(path), job.settings.get(path)) {
                    settings.set(key, value.clone(), Origin::Default);
                }
            }
            job.is_cell() && expression.holds(&settings).unwrap_or(false)
        }
    };
    let all = (0..board.jobs.len()).filter(|&at| holds(&board.jobs[at]));
    // Of several untrained models the first is the one that is trained.
    if *side == Side::Base { all.take(1).collect() } else { all.collect() }
}

/// Judges a claim by a board whose settings and scores were read, and the values by document of the jobs that it compares. Error: a
/// metric that the sweep does not score.
pub fn judge(
    board: &Leaderboard,
    claim: &Claim,
    values: &HashMap<JobId, Vec<DocumentValues>>,
) -> Result<Finding, UnknownMetric> {
    let pairs = jobs_of(board, claim);
    if pairs.is_empty() {
        return Ok(finding(claim, Outcome::Undecided, "no two jobs to compare".to_owned(), 0, Vec::new()));
    }
    let mut rows = Vec::new();
    let metrics: Vec<String> = match claim.metrics.as_slice() {
        [] => BoardView::of(board).metrics.iter().map(ToString::to_string).collect(),
        named => named.to_vec(),
    };
    for metric in &metrics {
        rows.extend(match measured(metric) {
            Some(measure) => measured_row(board, claim, &pairs, metric, measure),
            None => scored_row(&pairs, board, &board.metric_named(metric)?, values),
        });
    }
    let tested: Vec<usize> = (0..rows.len()).filter(|&at| rows[at].p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|&at| rows[at].p).collect();
    for (&at, adjusted) in tested.iter().zip(holm(&p)) {
        rows[at].p = Some(adjusted);
        rows[at].outcome = of_scores(claim, board, &rows[at], agrees(board, &pairs, &rows[at]));
    }
    let (outcome, why) = together(claim, &rows, pairs.len());
    Ok(finding(claim, outcome, why, pairs.len(), rows))
}

type Measure = fn(&BoardJob) -> Option<f64>;

/// What a run measures, by its name.
fn measured(name: &str) -> Option<Measure> {
    match name {
        "time" => Some(|job| job.seconds),
        "memory" => Some(|job| job.peak_memory.map(|bytes| bytes as f64)),
        "loss" => Some(|job| job.losses.map(|(_, last)| last)),
        "converged" => Some(|job| job.converged.map(|own| f64::from(u8::from(own)))),
        _ => None,
    }
}

fn measured_row(
    board: &Leaderboard,
    claim: &Claim,
    pairs: &[(usize, usize)],
    metric: &str,
    measure: Measure,
) -> Option<FindingRow> {
    let own: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|&(a, b)| measure(&board.jobs[a]).zip(measure(&board.jobs[b])))
        .filter(|(a, b)| a.is_finite() && b.is_finite())
        .collect();
    let (first, second): (Vec<f64>, Vec<f64>) = own.iter().copied().unzip();
    let (a, b) = (mean(&first)?, mean(&second)?);
    // Every pair must say the same.
    let larger = own.iter().all(|(a, b)| *b >= a * claim.factor && b > a);
    let smaller = own.iter().all(|(a, b)| *a >= b * claim.factor && a > b);
    let same = own.iter().all(|(a, b)| a == b);
    let outcome = match (claim.expect, larger, smaller) {
        (Expect::Higher, true, _) | (Expect::Lower, _, true) => Outcome::Confirmed,
        (Expect::Higher, _, true) | (Expect::Lower, true, _) => Outcome::Refuted,
        (Expect::Higher | Expect::Lower, ..) if same => Outcome::Refuted,
        (Expect::Equal, false, false) => Outcome::Confirmed,
        (Expect::Equal, ..) => Outcome::Refuted,
        _ => Outcome::Undecided,
    };
    Some(FindingRow {
        metric: metric.to_owned(),
        first: a,
        second: b,
        difference: b - a,
        interval: None,
        p: None,
        outcome,
    })
}

/// A metric over the documents that all jobs of the pairs have, each document's value the mean over the pairs.
fn scored_row(
    pairs: &[(usize, usize)],
    board: &Leaderboard,
    name: &MetricName,
    values: &HashMap<JobId, Vec<DocumentValues>>,
) -> Option<FindingRow> {
    let of = |at: usize| {
        let own = values.get(&board.jobs[at].id)?;
        own.iter().find(|own| own.task == name.task && own.metric == name.metric).map(|own| &own.documents)
    };
    let both: Vec<(&ByDocument, &ByDocument)> =
        pairs.iter().map(|&(a, b)| of(a).zip(of(b))).collect::<Option<_>>()?;
    let mut sums: BTreeMap<usize, (f64, f64, usize)> = BTreeMap::new();
    for (first, second) in &both {
        for (document, a) in *first {
            if let Some(b) = second.get(document) {
                let sum = sums.entry(*document).or_default();
                *sum = (sum.0 + a, sum.1 + b, sum.2 + 1);
            }
        }
    }
    let whole = sums.values().filter(|(.., pairs)| *pairs == both.len());
    let count = both.len() as f64;
    let (first, second): (Vec<f64>, Vec<f64>) = whole.map(|(a, b, _)| (a / count, b / count)).unzip();
    let found = paired(&first, &second)?;
    Some(FindingRow {
        metric: name.to_string(),
        first: mean(&first)?,
        second: mean(&second)?,
        difference: found.difference,
        interval: found.interval,
        p: Some(found.p),
        outcome: Outcome::Undecided,
    })
}

/// Whether every pair of runs differs in the same direction: the documents tell two models apart, only other seeds tell two
/// settings apart.
fn agrees(board: &Leaderboard, pairs: &[(usize, usize)], row: &FindingRow) -> bool {
    let Ok(name) = board.metric_named(&row.metric) else { return false };
    let value = |at: usize| board.jobs[at].score(&name.task, name.metric).map(|score| score.value);
    pairs.iter().all(|&(a, b)| value(a).zip(value(b)).is_some_and(|(a, b)| (b - a) * row.difference > 0.0))
}

fn of_scores(claim: &Claim, board: &Leaderboard, row: &FindingRow, agrees: bool) -> Outcome {
    let higher_is_better = board.metric_named(&row.metric).is_ok_and(|name| name.metric.higher_is_better());
    let certain = row.p.is_some_and(|p| p < LEVEL) && row.difference != 0.0 && agrees;
    let better = (row.difference > 0.0) == higher_is_better;
    // The ends of the interval in the direction of better.
    let (worst, best) = match row.interval {
        Some((low, high)) if higher_is_better => (low, high),
        Some((low, high)) => (-high, -low),
        None => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let decided = |expected: bool| match (certain, expected) {
        (true, true) => Outcome::Confirmed,
        (true, false) => Outcome::Refuted,
        _ => Outcome::Undecided,
    };
    match claim.expect {
        Expect::Higher => decided(row.difference > 0.0),
        Expect::Lower => decided(row.difference < 0.0),
        Expect::Better => decided(better),
        Expect::Worse => decided(!better),
        Expect::NotBetter if certain && better && best > claim.within => Outcome::Refuted,
        Expect::NotBetter if best <= claim.within => Outcome::Confirmed,
        Expect::Equal if certain && row.difference.abs() > claim.within => Outcome::Refuted,
        Expect::Equal if worst >= -claim.within && best <= claim.within => Outcome::Confirmed,
        Expect::NotBetter | Expect::Equal => Outcome::Undecided,
    }
}

/// What all metrics of a claim say: equality must hold in each, a direction in one of them and in none the other way.
fn together(claim: &Claim, rows: &[FindingRow], pairs: usize) -> (Outcome, String) {
    let names = |outcome: Outcome| -> Vec<&str> {
        rows.iter()
            .filter(|row| row.outcome == outcome)
            .map(|row| row.metric.split(':').next().unwrap_or_default())
            .collect()
    };
    let (yes, no) = (names(Outcome::Confirmed), names(Outcome::Refuted));
    let everywhere = matches!(claim.expect, Expect::Equal | Expect::NotBetter);
    let outcome = match (yes.len(), no.len()) {
        (_, 0) if everywhere && yes.len() == rows.len() && !rows.is_empty() => Outcome::Confirmed,
        (_, 1..) if everywhere => Outcome::Refuted,
        (1.., 0) if !everywhere => Outcome::Confirmed,
        (0, 1..) => Outcome::Refuted,
        _ => Outcome::Undecided,
    };
    let mut parts = Vec::new();
    if !yes.is_empty() {
        parts.push(format!("so on {}", yes.join(", ")));
    }
    if !no.is_empty() {
        parts.push(format!("not so on {}", no.join(", ")));
    }
    let open = names(Outcome::Undecided);
    if !open.is_empty() {
        parts.push(format!("the data cannot tell on {}", open.join(", ")));
    }
    if rows.is_empty() {
        parts.push("nothing that it names was measured".to_owned());
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
    use crate::store::BoardScore;
    use crate::task::Metric;

    /// A base and jobs of two ranks with two seeds, whose documents are right in these parts.
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
                vec![DocumentValues { task: task.clone(), metric, value: part, documents }],
            );
            let score = BoardScore { task, metric, value: part, stderr: None, documents: 200 };
            BoardJob {
                id,
                is_base: rank == 0,
                imported: false,
                label: name.into(),
                model: "m".into(),
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
        let converged = format!("{RANKS}metrics = ['converged']\nexpect = 'lower'");
        assert_eq!(outcome([0.5; 5], &converged), Outcome::Refuted);
    }

    #[test]
    fn what_is_no_claim_is_told_with_its_line() {
        let wrong = Claims::parse(
            "[[claim]]\ntext = 'x'\nsweep = 's'\nfirst = 'lora.rnk == 8'\nsecond = 'base'\nexpect = 'equal'\n",
        );
        let told = wrong.unwrap_err().to_string();
        assert!(told.contains("line 4") && told.contains("lora.rank"), "{told}");
        let (board, values) = world([0.5; 5]);
        let claims = Claims::parse(&format!(
            "[[claim]]\ntext = 'x'\nsweep = 's'\n{RANKS}metrics = ['u']\nexpect = 'equal'"
        ))
        .unwrap();
        assert!(judge(&board, &claims.claims[0], &values).is_err());
    }
}
