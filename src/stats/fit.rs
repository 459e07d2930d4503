//! Least squares on the levels of axes.

/// A level and the levels of some axes, fitted to the cells by least squares.
pub(super) struct Fit {
    /// The columns that are not made up of those before: the axis and level of each, none for the mean; and its coefficient.
    terms: Vec<(Option<(usize, usize)>, f64)>,
    /// The squares that are left.
    pub(super) residual: f64,
}

impl Fit {
    /// The columns are made orthogonal one after another (modified Gram and Schmidt); one that the others make up adds nothing.
    pub(super) fn of(levels: &[Vec<usize>], axes: &[usize], values: &[f64]) -> Self {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let (mut basis, mut upper, mut terms): (Vec<Vec<f64>>, Vec<Vec<f64>>, Vec<_>) = Default::default();
        let mut rest = values.to_vec();
        let mut along_rest = Vec::new();
        for term in terms_of(levels, axes) {
            let mut column: Vec<f64> = levels
                .iter()
                .map(|cell| f64::from(u8::from(term.is_none_or(|(axis, level)| cell[axis] == level))))
                .collect();
            let before = dot(&column, &column);
            let mut along = Vec::new();
            for own in &basis {
                let part = dot(own, &column);
                column.iter_mut().zip(own).for_each(|(x, b)| *x -= part * b);
                along.push(part);
            }
            let size = dot(&column, &column);
            if size <= 1e-10 * before {
                continue;
            }
            along.push(size.sqrt());
            column.iter_mut().for_each(|x| *x /= size.sqrt());
            let part = dot(&column, &rest);
            rest.iter_mut().zip(&column).for_each(|(x, b)| *x -= part * b);
            along_rest.push(part);
            basis.push(column);
            upper.push(along);
            terms.push(term);
        }
        // The coefficients, the last one first.
        let mut coefficients = along_rest;
        for at in (0..terms.len()).rev() {
            let later: f64 = (at + 1..terms.len()).map(|later| upper[later][at] * coefficients[later]).sum();
            coefficients[at] = (coefficients[at] - later) / upper[at][at];
        }
        Self { terms: terms.into_iter().zip(coefficients).collect(), residual: dot(&rest, &rest) }
    }

    /// What the fit adds to each cell for its levels of these axes.
    pub(super) fn added(&self, levels: &[Vec<usize>], axes: &[usize]) -> Vec<f64> {
        let of_cell = |cell: &Vec<usize>| {
            let own = self.terms.iter().filter(|(term, _)| {
                term.is_some_and(|(axis, level)| axes.contains(&axis) && cell[axis] == level)
            });
            own.map(|(_, coefficient)| coefficient).sum()
        };
        levels.iter().map(of_cell).collect()
    }
}

/// The mean, and each level but the first of each axis.
fn terms_of(levels: &[Vec<usize>], axes: &[usize]) -> Vec<Option<(usize, usize)>> {
    let mut terms = vec![None];
    for &axis in axes {
        let mut own: Vec<usize> = levels.iter().map(|cell| cell[axis]).collect();
        own.sort_unstable();
        own.dedup();
        terms.extend(own.into_iter().skip(1).map(|level| Some((axis, level))));
    }
    terms
}

/// How many columns a mean and these axes' levels come to.
pub(super) fn rank(levels: &[Vec<usize>], axes: &[usize]) -> usize {
    Fit::of(levels, axes, &vec![0.0; levels.len()]).terms.len()
}
