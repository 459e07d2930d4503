//! lm_eval's Markdown table.

use super::files::TaskResult;

/// Headings of the columns.
const HEADINGS: [&str; 9] = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"];

/// The table of tasks, sorted by name; of each task, metrics sorted by name.
pub fn markdown(results: &[TaskResult]) -> String {
    let mut sorted: Vec<&TaskResult> = results.iter().collect();
    sorted.sort_by(|a, b| a.task.name.cmp(&b.task.name));
    let mut rows: Vec<[String; 9]> = Vec::new();
    for result in sorted {
        let mut aggregates = result.aggregates.clone();
        aggregates.sort_by_key(|aggregate| aggregate.metric.as_str());
        for (number, aggregate) in aggregates.iter().enumerate() {
            let first = |text: &str| if number == 0 { text.to_owned() } else { String::new() };
            rows.push([
                first(&result.task.name),
                first(&result.task.version),
                "none".to_owned(),
                result.task.shots.count.to_string(),
                aggregate.metric.as_str().to_owned(),
                if aggregate.metric.higher_is_better() { "↑" } else { "↓" }.to_owned(),
                format!("{:.4}", aggregate.value),
                "±".to_owned(),
                aggregate.stderr.map_or_else(|| "N/A".to_owned(), |stderr| format!("{stderr:.4}")),
            ]);
        }
    }
    let columns: Vec<ColumnText> =
        (0..9).map(|at| ColumnText::of(HEADINGS[at], rows.iter().map(|row| row[at].as_str()))).collect();
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
            && raw.iter().all(|text| number(text) || text.is_empty())
            && raw.iter().any(number);
        // In a column of numbers all have as many decimals as the longest needs; in a mixed one each is bare.
        let decimals = raw
            .iter()
            .filter(|text| number(text))
            .map(|text| bare(text).split_once('.').map_or(0, |(_, d)| d.len()))
            .max();
        let shown: Vec<String> = raw
            .iter()
            .map(|text| match (text.parse::<f64>(), numeric) {
                (Ok(value), true) => format!("{value:.*}", decimals.unwrap_or(0)),
                (Ok(_), false) => bare(text),
                (Err(_), _) => (*text).to_owned(),
            })
            .collect();
        let width = shown
            .iter()
            .map(|text| text.chars().count())
            .chain([heading.chars().count(), 3])
            .max()
            .unwrap_or(3);
        let right = numeric || heading == "Stderr" || heading == "Value";
        let pad = |text: &String| {
            let fill = " ".repeat(width - text.chars().count());
            if right { format!("{fill}{text}") } else { format!("{text}{fill}") }
        };
        let rule = if numeric { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(width) };
        Self { heading: heading.to_owned(), width, rule, cells: shown.iter().map(pad).collect() }
    }
}

/// A number without zeros at its end.
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
        let own = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<String>>();
        assert_eq!(column("Value", &["0.5000"]), ("----:".into(), own(&["  0.5"])));
        assert_eq!(column("Value", &["0.5000", "0.2500"]), ("----:".into(), own(&[" 0.50", " 0.25"])));
        assert_eq!(column("Version", &["1.0"]), ("------:".into(), own(&["      1"])));
        assert_eq!(column("Stderr", &["0.0103"]), ("-----:".into(), own(&["0.0103"])));
        assert_eq!(column("Stderr", &["0.0100", "N/A"]), ("------".into(), own(&["  0.01", "   N/A"])));
    }
}
