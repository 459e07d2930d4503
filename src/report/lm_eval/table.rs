//! lm_eval's Markdown table.

use super::outcome::{Evaluation, Row};
use crate::task::Metric;

/// Headings of the columns.
const HEADINGS: [&str; 9] = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"];

/// The tables of an evaluation: tasks and groups, and, if a group aggregates over its tasks, groups alone. A task is listed below its
/// group, indented by its depth; metrics are sorted by name.
pub fn markdown(evaluation: &Evaluation) -> String {
    let rows = evaluation.rows();
    let tasks =
        table("Tasks", rows.iter().flat_map(|(depth, row)| lines(evaluation, *depth, *row)).collect());
    let aggregating = |row: &Row<'_>| matches!(row, Row::Group(group) if !group.metrics.is_empty());
    if !rows.iter().any(|(_, row)| aggregating(row)) {
        return tasks;
    }
    let groups = rows.iter().filter(|(_, row)| aggregating(row));
    let groups = table("Groups", groups.flat_map(|(depth, row)| lines(evaluation, *depth, *row)).collect());
    format!("{tasks}\n\n{groups}")
}

/// One value: metric, filter, value, standard error.
type Value = (Metric, String, f64, Option<f64>);

fn lines(evaluation: &Evaluation, depth: usize, row: Row<'_>) -> Vec<[String; 9]> {
    let (alias, version, shots, mut values): (&str, &str, Option<u64>, Vec<Value>) = match row {
        Row::Task(result) => {
            let of = |filter: &String| {
                let (filter, own) = (filter.clone(), filter.clone());
                let generates = result.task.generation.is_some();
                let of = result.aggregates.iter().filter(move |a| !generates || a.metric.filter() == own);
                of.map(move |a| (a.metric.base(), filter.clone(), a.value, a.stderr))
            };
            let task = &result.task;
            (&task.alias, &task.version, Some(task.shots.count), task.filters.iter().flat_map(of).collect())
        }
        Row::Group(group) => {
            let values = evaluation.values(group).into_iter();
            let values =
                values.map(|value| (value.metric, value.filter, value.value, value.stderr)).collect();
            (&group.alias, &group.version, evaluation.shots(group), values)
        }
    };
    values.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
    let name = if depth == 0 { alias.to_owned() } else { format!("{}- {alias}", " ".repeat(depth)) };
    let known = |metric: Metric| match row {
        Row::Task(_) => true,
        Row::Group(group) => evaluation.direction_known(group, metric),
    };
    let line = |(number, (metric, filter, value, stderr)): (usize, Value)| {
        let first = |text: &str| if number == 0 { text.to_owned() } else { String::new() };
        let arrow = match (known(metric), metric.higher_is_better()) {
            (false, _) => "",
            (true, true) => "↑",
            (true, false) => "↓",
        };
        [
            first(&name),
            first(version),
            filter,
            shots.map_or_else(|| " ".to_owned(), |count| count.to_string()),
            metric.as_str().to_owned(),
            arrow.to_owned(),
            format!("{value:.4}"),
            "±".to_owned(),
            stderr.map_or_else(|| "   N/A".to_owned(), |stderr| format!("{stderr:.4}")),
        ]
    };
    values.into_iter().enumerate().map(line).collect()
}

fn table(first: &str, rows: Vec<[String; 9]>) -> String {
    let heading = |at: usize| if at == 0 { first } else { HEADINGS[at] };
    let columns: Vec<ColumnText> =
        (0..9).map(|at| ColumnText::of(heading(at), rows.iter().map(|row| row[at].as_str()))).collect();
    let line = |cells: Vec<String>| format!("|{}|", cells.join("|"));
    let mut lines = vec![
        line(columns.iter().map(|column| centred(&column.heading, column.width)).collect()),
        line(columns.iter().map(|column| column.rule.clone()).collect()),
    ];
    for at in 0..rows.len() {
        lines.push(line(columns.iter().map(|column| column.cells[at].clone()).collect()));
    }
    lines.join("\n")
}

/// A column, its cells padded to one width.
struct ColumnText {
    heading: String,
    width: usize,
    rule: String,
    cells: Vec<String>,
}

impl ColumnText {
    fn of<'a>(heading: &str, cells: impl Iterator<Item = &'a str>) -> Self {
        let raw: Vec<&str> = cells.collect();
        let number = |text: &&str| text.parse::<f64>().is_ok();
        let numeric = !raw.is_empty()
            && raw.iter().all(|text| number(text) || text.trim().is_empty())
            && raw.iter().any(number);
        // Numbers have as many decimals as the longest needs. In a column that also has strings, integers have none; if the first cell is
        // a string, numbers are not changed.
        let decimals = raw
            .iter()
            .filter(|text| number(text))
            .map(|text| bare(text).split_once('.').map_or(0, |(_, d)| d.len()))
            .max();
        let shown: Vec<String> = raw
            .iter()
            .map(|text| match (text.parse::<f64>(), numeric) {
                (Ok(value), false) if value.fract() == 0.0 => bare(text),
                (Ok(_), false) if !raw.first().is_some_and(number) => (*text).to_owned(),
                (Ok(value), _) => format!("{value:.*}", decimals.unwrap_or(0)),
                (Err(_), _) => (*text).to_owned(),
            })
            .collect();
        let width = shown
            .iter()
            .map(|text| text.chars().count())
            .chain([heading.chars().count(), 3])
            .max()
            .unwrap_or(3);
        // Numbers are right-aligned, also in a column with strings.
        let pad = |text: &String| {
            let fill = " ".repeat(width - text.chars().count());
            if number(&text.as_str()) { format!("{fill}{text}") } else { format!("{text}{fill}") }
        };
        let rule = if numeric { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(width) };
        Self { heading: heading.to_owned(), width, rule, cells: shown.iter().map(pad).collect() }
    }
}

/// A number without trailing zeros.
fn bare(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

fn centred(text: &str, width: usize) -> String {
    let left = width - text.chars().count();
    format!("{}{text}{}", " ".repeat(left / 2), " ".repeat(left - left / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_numbers_has_the_decimals_that_its_longest_needs() {
        let column = |heading: &str, cells: &[&str]| {
            let column = ColumnText::of(heading, cells.iter().copied());
            (column.rule, column.cells)
        };
        let texts = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<String>>();
        assert_eq!(column("Value", &["0.5000"]), ("----:".into(), texts(&["  0.5"])));
        assert_eq!(column("Value", &["0.5000", "0.2500"]), ("----:".into(), texts(&[" 0.50", " 0.25"])));
        assert_eq!(column("Version", &["1.0"]), ("------:".into(), texts(&["      1"])));
        assert_eq!(column("Stderr", &["0.0103"]), ("-----:".into(), texts(&["0.0103"])));
        assert_eq!(column("Stderr", &["0.0100", "   N/A"]), ("------".into(), texts(&["  0.01", "   N/A"])));
        let mixed = |cells: &[&str]| column("Stderr", cells).1;
        assert_eq!(mixed(&["0.1890", "   N/A", "0.1508", "0.0000"])[0], "0.1890");
        assert_eq!(mixed(&["0.1890", "10.2000", "   N/A"]), texts(&[" 0.189", "10.200", "   N/A"]));
        assert_eq!(mixed(&["   N/A", "0.1890"])[1], "0.1890");
        assert_eq!(mixed(&["1.0000", "0.5000", "   N/A"])[0], "     1");
        assert_eq!(column("n-shot", &["0", " "]), ("-----:".into(), texts(&["     0", "      "])));
        assert_eq!(column("Version", &["N/A", "3.0"]), ("-------".into(), texts(&["N/A    ", "      3"])));
    }
}
