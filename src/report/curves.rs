//! Comparison of two loss curves.

use serde::Serialize;

use super::table::{Cell, Column, Table};
use crate::store::CurvePoint;

/// Fractions of a training at which curves are compared.
const PARTS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Both losses at a fraction of the training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurveRow {
    /// Fraction of the steps made, from 0 (the first) to 1 (the last).
    pub part: f64,
    /// The first job's step there.
    pub first_step: i64,
    /// Its loss.
    pub first: Option<f64>,
    /// The second's step there.
    pub second_step: i64,
    /// Its loss.
    pub second: Option<f64>,
}

/// Both curves at the same fractions of their trainings; empty if one was not trained.
pub fn curve_rows(first: &[CurvePoint], second: &[CurvePoint]) -> Vec<CurveRow> {
    if first.is_empty() || second.is_empty() {
        return Vec::new();
    }
    let at = |curve: &[CurvePoint], part: f64| curve[(part * (curve.len() - 1) as f64).round() as usize];
    let row = |part: f64| {
        let (a, b) = (at(first, part), at(second, part));
        CurveRow { part, first_step: a.step, first: a.loss, second_step: b.step, second: b.loss }
    };
    PARTS.map(row).into()
}

/// The rows as a table.
pub fn curves_table(rows: &[CurveRow]) -> Table {
    let columns = vec![
        Column::number("part", Some("%")),
        Column::number("step", None).weighing(1),
        Column::number("first", None),
        Column::number("step", None).weighing(1),
        Column::number("second", None),
        Column::number("difference", None),
    ];
    let row = |curve: &CurveRow| {
        let difference = curve.first.zip(curve.second).map(|(a, b)| b - a);
        vec![
            Cell::Number(100.0 * curve.part, 0),
            Cell::Count(curve.first_step.max(0) as u64),
            Cell::maybe_number(curve.first, 3),
            Cell::Count(curve.second_step.max(0) as u64),
            Cell::maybe_number(curve.second, 3),
            Cell::maybe_signed(difference, 3),
        ]
    };
    Table { columns, rows: rows.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_of_unlike_length_are_compared_at_the_same_parts() {
        let curve = |steps: i64| -> Vec<CurvePoint> {
            let point = |step| CurvePoint {
                step,
                loss: Some(10.0 - step as f64),
                validation_loss: None,
                learning_rate: 0.1,
                seconds: 1.0,
            };
            (1..=steps).map(point).collect()
        };
        let rows = curve_rows(&curve(5), &curve(9));
        assert_eq!(
            rows.iter().map(|row| (row.first_step, row.second_step)).collect::<Vec<_>>(),
            [(1, 1), (2, 3), (3, 5), (4, 7), (5, 9)]
        );
        assert_eq!((rows[4].first, rows[4].second), (Some(5.0), Some(1.0)));
        assert!(curve_rows(&[], &curve(3)).is_empty());
    }
}
