//! Comparison of two jobs: differing settings, and whether one scores better.

use std::collections::BTreeMap;

use serde::Serialize;

use super::table::{Cell, Column, Table};
use crate::job::{ScoreKey, Value};
use crate::stats::{PairedTest, exchanged, holm, mean, paired};
use crate::store::{DocumentValues, Documents, StoredJob};
use crate::task::{Additive, DocumentValue, Metric};

/// Significance level, after the correction for several tasks.
const LEVEL: f64 = 0.05;

/// A key in which two jobs differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingDifference {
    /// The key.
    pub key: String,
    /// The first job's value.
    pub first: Option<Value>,
    /// The second's.
    pub second: Option<Value>,
}

/// A task on which two jobs are compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskDifference {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Documents that both have scored.
    pub documents: usize,
    /// The first job's value over them.
    pub first: f64,
    /// The second's.
    pub second: f64,
    /// The second less the first.
    pub difference: f64,
    /// The 95 % confidence interval of the difference.
    pub interval: Option<(f64, f64)>,
    /// The test: `mcnemar`, `sign_flip`, `sign_flip_drawn`, `exchange` or `exchange_drawn`.
    pub test: &'static str,
    /// Probability of such a difference by chance.
    pub p: f64,
    /// The same after Holm's correction over all rows.
    pub p_holm: f64,
    /// The scores' keys; none for a group.
    #[serde(skip)]
    pub keys: Option<(ScoreKey, ScoreKey)>,
    /// Number of documents that only the second has right, and that only the first has right, if values are right or wrong.
    pub flips: Option<(usize, usize)>,
    /// Documents that only the second has right; none for a group, whose documents belong to its tasks.
    pub gained: Option<Vec<usize>>,
    /// Documents that only the first has right.
    pub lost: Option<Vec<usize>>,
}

impl TaskDifference {
    /// Whether the difference is significant.
    pub fn is_certain(&self) -> bool {
        self.p_holm < LEVEL && self.difference != 0.0
    }

    /// Whether the second job is better, if the difference is significant.
    fn second_is_better(&self) -> bool {
        (self.difference > 0.0) == self.metric.higher_is_better()
    }
}

/// The keys in which two jobs differ, sorted.
pub fn setting_differences(first: &StoredJob, second: &StoredJob) -> Vec<SettingDifference> {
    let keys: std::collections::BTreeSet<&String> =
        first.settings.keys().chain(second.settings.keys()).collect();
    let value = |job: &StoredJob, key: &String| job.settings.get(key).map(|(value, _)| value.clone());
    let difference = |key: &String| {
        let (a, b) = (value(first, key), value(second, key));
        (a != b).then(|| SettingDifference { key: key.clone(), first: a, second: b })
    };
    keys.into_iter().filter_map(difference).collect()
}

/// A score without a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Untested {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// The first job's value.
    pub first: Option<f64>,
    /// The second's.
    pub second: Option<f64>,
    /// Why.
    pub why: &'static str,
}

/// Compares the values of both jobs on their common documents; and lists scores that cannot be compared.
pub fn task_differences(
    first: &[DocumentValues],
    second: &[DocumentValues],
) -> (Vec<TaskDifference>, Vec<Untested>) {
    let (mut rows, mut untested) = (Vec::new(), Vec::new());
    let same = |a: &DocumentValues, b: &DocumentValues| a.task == b.task && a.metric == b.metric;
    for values in first {
        let other = second.iter().find(|other| same(values, other));
        match other.map_or(Err("only the first job has it"), |other| task_difference(values, other)) {
            Ok(row) => rows.push(row),
            Err(why) => untested.push(Untested {
                task: values.task.clone(),
                metric: values.metric,
                first: Some(values.value),
                second: other.map(|other| other.value),
                why,
            }),
        }
    }
    untested.extend(second.iter().filter(|other| !first.iter().any(|values| same(values, other))).map(
        |other| {
            let (task, metric) = (other.task.clone(), other.metric);
            let why = "only the second job has it";
            Untested { task, metric, first: None, second: Some(other.value), why }
        },
    ));
    let p: Vec<f64> = rows.iter().map(|row| row.p).collect();
    rows.iter_mut().zip(holm(&p)).for_each(|(row, adjusted)| row.p_holm = adjusted);
    (rows, untested)
}

/// The common documents, and their values.
fn in_both<'a, T>(
    first: &'a BTreeMap<usize, T>,
    second: &'a BTreeMap<usize, T>,
) -> (Vec<usize>, Vec<&'a T>, Vec<&'a T>) {
    let both = first.iter().filter_map(|(document, value)| Some((*document, value, second.get(document)?)));
    let (mut documents, mut ones, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (document, value, other) in both {
        documents.push(document);
        ones.push(value);
        others.push(other);
    }
    (documents, ones, others)
}

/// Error: why they cannot be compared.
pub(super) fn task_difference(
    first: &DocumentValues,
    second: &DocumentValues,
) -> Result<TaskDifference, &'static str> {
    let (found, values, flips) = match (&first.documents, &second.documents) {
        (Some(Documents::Mean(by_document)), Some(Documents::Mean(other))) => {
            let (documents, a, b) = in_both(by_document, other);
            let (a, b): (Vec<f64>, Vec<f64>) =
                (a.into_iter().copied().collect(), b.into_iter().copied().collect());
            let values = mean(&a).zip(mean(&b));
            let flipped = |wanted: f64| {
                let pairs = documents.iter().zip(a.iter().zip(&b));
                pairs
                    .filter(|(_, (a, b))| *b - *a == wanted)
                    .map(|(document, _)| *document)
                    .collect::<Vec<_>>()
            };
            (paired(&a, &b), values, Some((flipped(1.0), flipped(-1.0))))
        }
        (Some(Documents::Other(how, by_document)), Some(Documents::Other(other_how, other)))
            if how == other_how =>
        {
            let (_, a, b) = in_both(by_document, other);
            let additive = Additive::of(*how, a.iter().chain(&b).copied()).ok_or("no test is available")?;
            let parts = |documents: Vec<&DocumentValue>| {
                documents.into_iter().map(|document| additive.parts(document)).collect::<Vec<_>>()
            };
            let (a, b) = (parts(a), parts(b));
            let whole = |all_parts: &[Vec<f64>]| {
                let width = all_parts.first().map_or(0, Vec::len);
                let sums: Vec<f64> =
                    (0..width).map(|at| all_parts.iter().map(|parts| parts[at]).sum()).collect();
                (width > 0).then(|| additive.value(&sums))
            };
            (exchanged(&a, &b, |sums| additive.value(sums)), whole(&a).zip(whole(&b)), None)
        }
        (None, _) | (_, None) => return Err("its documents are not in the database"),
        _ => return Err("the two are not made of documents in the same way"),
    };
    let (Some(found), Some((a, b))) = (found, values) else {
        return Err("they have no documents in common, or no number");
    };
    let flips = flips.filter(|_| found.flips.is_some() && first.key.is_some());
    Ok(TaskDifference {
        task: first.task.clone(),
        metric: first.metric,
        documents: found.documents,
        first: a,
        second: b,
        difference: found.difference,
        interval: found.interval,
        test: match found.test {
            PairedTest::McNemar => "mcnemar",
            PairedTest::SignFlip { exact: true } => "sign_flip",
            PairedTest::SignFlip { exact: false } => "sign_flip_drawn",
            PairedTest::Exchange { exact: true } => "exchange",
            PairedTest::Exchange { exact: false } => "exchange_drawn",
        },
        p: found.p,
        p_holm: found.p,
        keys: first.key.zip(second.key),
        flips: found.flips,
        gained: flips.as_ref().map(|(gained, _)| gained.clone()),
        lost: flips.map(|(_, lost)| lost),
    })
}

/// Scores that are not compared, in one line; none if all are.
pub fn untested_line(rows: &[Untested]) -> Option<String> {
    let show = |row: &Untested| format!("{}:{} ({})", row.task, row.metric.as_str(), row.why);
    let names: Vec<String> = rows.iter().take(NAMED).map(show).collect();
    let more = rows.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!rows.is_empty()).then(|| format!("not compared: {}{rest}", names.join(", ")))
}

/// The settings that differ, as a table.
pub fn setting_differences_table(rows: &[SettingDifference]) -> Table {
    let show =
        |value: &Option<Value>| value.as_ref().map_or(Cell::Missing, |value| Cell::Text(value.to_string()));
    let columns = vec![Column::text("key"), Column::text("first"), Column::text("second")];
    let row = |difference: &SettingDifference| {
        vec![Cell::Text(difference.key.clone()), show(&difference.first), show(&difference.second)]
    };
    Table { columns, rows: rows.iter().map(row).collect() }
}

/// The tasks, as a table.
pub fn task_differences_table(rows: &[TaskDifference]) -> Table {
    let columns = vec![
        Column::text("task"),
        Column::number("n", None).weighing(3),
        Column::number("first", None).weighing(5),
        Column::number("second", None).weighing(5),
        Column::number("difference", None),
        Column::text("95 %").weighing(4),
        Column::text("flips").weighing(2),
        Column::number("p", None).weighing(1),
        Column::number("p (Holm)", None),
    ];
    let row = |test: &TaskDifference| {
        let plain = test.metric == Metric::Acc;
        let name = if plain { test.task.clone() } else { format!("{}:{}", test.task, test.metric.as_str()) };
        let interval = test.interval.map_or(Cell::Missing, |(low, high)| {
            Cell::Text(format!("{} to {}", Cell::Number(low, 3).show(), Cell::Number(high, 3).show()))
        });
        let flips =
            test.flips.map_or(Cell::Missing, |(gained, lost)| Cell::Text(format!("+{gained} −{lost}")));
        vec![
            Cell::Text(name),
            Cell::Count(test.documents as u64),
            Cell::Number(test.first, 3),
            Cell::Number(test.second, 3),
            Cell::Number(test.difference, 3),
            interval,
            flips,
            Cell::Text(show_p(test.p)),
            Cell::Text(show_p(test.p_holm)),
        ]
    };
    Table { columns, rows: rows.iter().map(row).collect() }
}

/// A p-value: never shown as 0.
pub(super) fn show_p(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// Most tasks that a sentence names.
const NAMED: usize = 8;

/// In words: which job is better on which tasks, and where they are statistically tied.
pub fn verdict(rows: &[TaskDifference]) -> String {
    if rows.is_empty() {
        return "The jobs have no scored documents in common: they cannot be compared.".to_owned();
    }
    // A task with several compared metrics is named with its metric.
    let several = |task: &str| rows.iter().filter(|row| row.task == task).count() > 1;
    let name = |row: &&TaskDifference| {
        if several(&row.task) { format!("{}:{}", row.task, row.metric.as_str()) } else { row.task.clone() }
    };
    let names = |rows: Vec<&TaskDifference>| {
        let mut names: Vec<String> = rows.iter().map(name).collect();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{rest}", names.join(", "))
    };
    let of = |second: bool| {
        rows.iter().filter(|row| row.is_certain() && row.second_is_better() == second).collect::<Vec<_>>()
    };
    let open: Vec<&TaskDifference> = rows.iter().filter(|row| !row.is_certain()).collect();
    let mut parts = Vec::new();
    for (word, certain) in [("first", of(false)), ("second", of(true))] {
        if !certain.is_empty() {
            parts.push(format!("the {word} is better on {}", names(certain)));
        }
    }
    if !open.is_empty() {
        parts.push(format!("the data cannot tell them apart on {}", names(open)));
    }
    let text = parts.join("; ");
    let mut letters = text.chars();
    let capital = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{capital}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::render_terminal;
    use crate::task::Aggregation;

    fn key() -> ScoreKey {
        ScoreKey(crate::job::Digest::of(b"key"))
    }

    fn values(task: &str, scores: &[f64]) -> DocumentValues {
        let value = scores.iter().sum::<f64>() / scores.len() as f64;
        let documents = scores.iter().copied().enumerate().collect();
        DocumentValues {
            task: task.into(),
            metric: Metric::Acc,
            value,
            key: Some(key()),
            documents: Some(Documents::Mean(documents)),
        }
    }

    #[test]
    fn a_clear_difference_is_told_from_noise() {
        let zeros = [0.0; 40];
        let mut ones = [1.0; 40];
        ones[3] = 0.0;
        let coin: Vec<f64> = (0..40).map(|n| f64::from(n % 2)).collect();
        let turned: Vec<f64> = (0..40).map(|n| f64::from((n + n / 8) % 2)).collect();
        let first = [values("easy", &zeros), values("coin", &coin), values("alone", &coin)];
        let second = [values("easy", &ones), values("coin", &turned)];
        let (rows, untested) = task_differences(&first, &second);
        assert_eq!(untested_line(&untested).unwrap(), "not compared: alone:acc (only the first job has it)");
        assert_eq!(rows.iter().map(TaskDifference::is_certain).collect::<Vec<_>>(), [true, false]);
        assert_eq!(rows[0].gained.as_ref().map(Vec::len), Some(39));
        assert_eq!(verdict(&rows), "The second is better on easy; the data cannot tell them apart on coin.");
        insta::assert_snapshot!(render_terminal(&task_differences_table(&rows), Some(80)));
    }

    #[test]
    fn a_job_against_itself_is_no_difference_and_nothing_in_common_is_said() {
        let job = [values("t", &[0.0, 1.0, 1.0])];
        let (rows, untested) = task_differences(&job, &job);
        assert!(untested.is_empty());
        assert_eq!((rows[0].difference, rows[0].p, rows[0].p_holm), (0.0, 1.0, 1.0));
        assert_eq!(verdict(&rows), "The data cannot tell them apart on t.");
        assert!(verdict(&task_differences(&job, &[values("u", &[1.0])]).0).contains("cannot be compared"));
    }

    #[test]
    fn a_metric_that_is_no_mean_is_compared_by_exchanging_documents_and_less_is_better() {
        let texts = |offset: f64| -> DocumentValues {
            let value = |n: usize| DocumentValue::Parts(vec![-(10.0 + n as f64 + offset), 5.0 + n as f64]);
            let documents: BTreeMap<usize, DocumentValue> = (0..30).map(|n| (n, value(n))).collect();
            let metric = Metric::WordPerplexity;
            let documents = Some(Documents::Other(Aggregation::WeightedPerplexity, documents));
            DocumentValues { task: "texts".into(), metric, value: 0.0, key: Some(key()), documents }
        };
        let (rows, untested) = task_differences(&[texts(2.0)], &[texts(0.0)]);
        assert_eq!((rows[0].test, rows[0].gained.as_ref(), untested.len()), ("exchange_drawn", None, 0));
        assert!(rows[0].difference < 0.0 && rows[0].second < rows[0].first && rows[0].is_certain());
        assert_eq!(verdict(&rows), "The second is better on texts.");
        let other = DocumentValues { documents: None, ..texts(0.0) };
        let (rows, untested) = task_differences(&[texts(0.0)], &[other]);
        assert!(rows.is_empty());
        assert_eq!(untested[0].why, "its documents are not in the database");
    }
}
