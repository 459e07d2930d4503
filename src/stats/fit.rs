//! Least squares on the levels of axes.

use std::collections::HashMap;

/// An intercept and the levels of some axes, fitted to the cells by least squares.
pub(super) struct Fit {
    /// The coefficient of each level of each axis that is not a linear combination of earlier ones; the first level of an axis has none.
    coefficients: HashMap<(usize, usize), f64>,
    /// Residual sum of squares.
    pub(super) residual: f64,
    /// Whether every level has its own coefficient.
    pub(super) is_whole: bool,
    /// Number of fitted coefficients.
    pub(super) rank: usize,
}

impl Fit {
    /// Uses the normal equations: their entries are counts of cells, so that even many levels make a small system. Values should have a
    /// mean near 0.
    pub(super) fn of(levels: &[Vec<usize>], axes: &[usize], values: &[f64]) -> Self {
        let terms = terms_of(levels, axes);
        let place: HashMap<(usize, usize), usize> =
            terms.iter().enumerate().filter_map(|(at, term)| Some(((*term)?, at))).collect();
        let columns_of = |cell: &Vec<usize>| -> Vec<usize> {
            let places = axes.iter().filter_map(|&axis| place.get(&(axis, cell[axis])).copied());
            std::iter::once(0).chain(places).collect()
        };
        let mut products = vec![vec![0.0; terms.len()]; terms.len()];
        let mut sums = vec![0.0; terms.len()];
        for (cell, value) in levels.iter().zip(values) {
            let columns = columns_of(cell);
            for &a in &columns {
                sums[a] += value;
                columns.iter().for_each(|&b| products[a][b] += 1.0);
            }
        }
        let solved = solve(&products, &sums);
        let residual = levels.iter().zip(values).map(|(cell, value)| {
            let fitted: f64 = columns_of(cell).into_iter().filter_map(|at| solved[at]).sum();
            (value - fitted).powi(2)
        });
        let coefficients =
            terms.iter().zip(&solved).filter_map(|(term, coefficient)| Some(((*term)?, (*coefficient)?)));
        Self {
            residual: residual.sum(),
            is_whole: solved.iter().all(Option::is_some),
            rank: solved.iter().flatten().count(),
            coefficients: coefficients.collect(),
        }
    }

    /// The fitted contribution of each cell's level of an axis.
    pub(super) fn added(&self, levels: &[Vec<usize>], axis: usize) -> Vec<f64> {
        let of_cell =
            |cell: &Vec<usize>| self.coefficients.get(&(axis, cell[axis])).copied().unwrap_or_default();
        levels.iter().map(of_cell).collect()
    }
}

/// Solves a symmetric system by Cholesky decomposition. An unknown whose column depends on earlier ones has a zero pivot and gets no
/// value.
fn solve(products: &[Vec<f64>], sums: &[f64]) -> Vec<Option<f64>> {
    let size = sums.len();
    // Rows of the upper triangle, each with its index and its right-hand side.
    let mut rows: Vec<(usize, Vec<f64>, f64)> = Vec::new();
    for at in 0..size {
        let mut reduced = products[at].clone();
        let mut right = sums[at];
        for (_, row, side) in &rows {
            let factor = row[at];
            if factor != 0.0 {
                reduced.iter_mut().zip(row).skip(at).for_each(|(x, y)| *x -= factor * y);
                right -= factor * side;
            }
        }
        if reduced[at] > 1e-9 * products[at][at] {
            let root = reduced[at].sqrt();
            reduced.iter_mut().for_each(|x| *x /= root);
            rows.push((at, reduced, right / root));
        }
    }
    let mut solved = vec![None; size];
    for (at, row, side) in rows.iter().rev() {
        let later: f64 = (at + 1..size).filter_map(|other| Some(row[other] * solved[other]?)).sum();
        solved[*at] = Some((side - later) / row[*at]);
    }
    solved
}

/// The intercept, and each level but the first of each axis.
fn terms_of(levels: &[Vec<usize>], axes: &[usize]) -> Vec<Option<(usize, usize)>> {
    let mut terms = vec![None];
    for &axis in axes {
        let mut axis_levels: Vec<usize> = levels.iter().map(|cell| cell[axis]).collect();
        axis_levels.sort_unstable();
        axis_levels.dedup();
        terms.extend(axis_levels.into_iter().skip(1).map(|level| Some((axis, level))));
    }
    terms
}
