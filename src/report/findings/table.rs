//! Findings as tables.

use super::finding::{Finding, FindingRow};
use crate::report::table::{Cell, Column, Table};

/// One row per claim.
pub fn findings_table(findings: &[Finding]) -> Table {
    let columns = vec![
        Column::text("claim"),
        Column::text("outcome"),
        Column::text("why"),
        Column::number("pairs", None).weighing(2),
        Column::text("sweep").weighing(1),
    ];
    let row = |finding: &Finding| {
        vec![
            Cell::Text(finding.text.clone()),
            Cell::Text(finding.outcome.as_str().to_owned()),
            Cell::Text(finding.why.clone()),
            Cell::Count(finding.pairs as u64),
            Cell::Text(finding.sweep.clone()),
        ]
    };
    Table { columns, rows: findings.iter().map(row).collect() }
}

/// A time or memory with its unit, anything else as a score.
fn shown(metric: &str, value: f64) -> Cell {
    match metric {
        "time" => Cell::Text(format!("{} s", Cell::Number(value, 1).show())),
        "memory" => Cell::Text(format!("{} GB", Cell::Number(value / 1e9, 3).show())),
        _ => Cell::Number(value, 3),
    }
}

/// One row per metric of each claim.
pub fn finding_rows_table(findings: &[Finding]) -> Table {
    let columns = vec![
        Column::text("claim"),
        Column::text("metric"),
        Column::number("first", None),
        Column::number("second", None),
        Column::number("difference", None),
        Column::text("95 %").weighing(3),
        Column::number("p (Holm)", None).weighing(4),
        Column::text("outcome"),
    ];
    let of = |finding: &Finding| {
        let row = |finding_row: &FindingRow| {
            let number =
                |value: Option<f64>| value.map_or(Cell::Missing, |value| shown(&finding_row.metric, value));
            let interval = finding_row.interval.map_or(Cell::Missing, |(low, high)| {
                Cell::Text(format!("{} to {}", Cell::Number(low, 3).show(), Cell::Number(high, 3).show()))
            });
            vec![
                Cell::Text(finding.text.clone()),
                Cell::Text(finding_row.metric.clone()),
                number(finding_row.first),
                number(finding_row.second),
                match (finding_row.metric.as_str(), finding_row.difference) {
                    ("time" | "memory", Some(value)) if value > 0.0 => {
                        Cell::Text(format!("+{}", shown(&finding_row.metric, value).show()))
                    }
                    ("time" | "memory", difference) => number(difference),
                    (_, difference) => Cell::maybe_signed(difference, 3),
                },
                interval,
                finding_row.p.map_or(Cell::Missing, |p| Cell::Text(crate::report::comparison::show_p(p))),
                Cell::Text(finding_row.outcome.as_str().to_owned()),
            ]
        };
        finding.rows.iter().map(row).collect::<Vec<_>>()
    };
    Table { columns, rows: findings.iter().flat_map(of).collect() }
}
