//! Findings as tables.

use super::judge::Finding;
use crate::report::table::{Cell, Column, Table};

/// A row for each claim.
pub fn findings_table(findings: &[Finding]) -> Table {
    let columns = vec![
        Column::text("claim"),
        Column::text("outcome"),
        Column::text("why"),
        Column::number("pairs", None).weighing(2),
        Column::text("sweep").weighing(1),
    ];
    let row = |own: &Finding| {
        vec![
            Cell::Text(own.text.clone()),
            Cell::Text(own.outcome.as_str().to_owned()),
            Cell::Text(own.why.clone()),
            Cell::Count(own.pairs as u64),
            Cell::Text(own.sweep.clone()),
        ]
    };
    Table { columns, rows: findings.iter().map(row).collect() }
}

/// A row for each metric of each claim.
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
        let row = |own: &super::judge::FindingRow| {
            // Bytes and seconds are large, scores are not.
            let decimals = if own.first.abs() >= 1e6 { 0 } else { 3 };
            let interval = own.interval.map_or(Cell::Missing, |(low, high)| {
                Cell::Text(format!("{} to {}", Cell::Number(low, 3).show(), Cell::Number(high, 3).show()))
            });
            vec![
                Cell::Text(finding.text.clone()),
                Cell::Text(own.metric.clone()),
                Cell::Number(own.first, decimals),
                Cell::Number(own.second, decimals),
                Cell::Signed(own.difference, decimals),
                interval,
                own.p.map_or(Cell::Missing, |p| Cell::Text(crate::report::comparison::show_p(p))),
                Cell::Text(own.outcome.as_str().to_owned()),
            ]
        };
        finding.rows.iter().map(row).collect::<Vec<_>>()
    };
    Table { columns, rows: findings.iter().flat_map(of).collect() }
}
