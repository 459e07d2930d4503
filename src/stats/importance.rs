//! Which axis of a grid mattered, and how much.

use std::collections::HashMap;

use super::mean;

/// The cells of a grid: the level of each axis, and the mean of the cell's seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Factorial {
    /// Names of the axes.
    pub axes: Vec<String>,
    /// Levels, one for each axis, and the mean.
    pub cells: Vec<(Vec<usize>, f64)>,
}

/// What an axis does.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisEffect {
    /// Its name; several where they vary together, so that nobody can tell them apart.
    pub axes: Vec<String>,
    /// Part of the variance of the cells' means that it explains, from 0 to 1.
    pub importance: f64,
    /// Mean of the cells at each level that there is, with their number; ascending.
    pub levels: Vec<(usize, f64, usize)>,
}

/// The parts of the variance of a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// Whether every combination of levels is there. Only then do the parts add up, interactions included.
    pub complete: bool,
    /// The axes, the most important first; those with one level are 0.
    pub axes: Vec<AxisEffect>,
    /// Of a complete grid: what pairs of axes explain beyond each of them, the most important first.
    pub pairs: Vec<(String, String, f64)>,
    /// What nothing of this explains.
    pub rest: f64,
}

/// Splits the variance of the cells' means. A complete grid: the functional analysis of variance (Hooker 2007; Hutter, Hoos and
/// Leyton-Brown 2014), exact, since every combination is there. A grid with holes: least squares on the cells that are there, and an
/// axis' part is what the fit loses without it. None of fewer than two cells, or where a mean is not finite.
pub fn importance(grid: &Factorial) -> Option<Importance> {
    if grid.cells.len() < 2 || grid.cells.iter().any(|(_, value)| !value.is_finite()) {
        return None;
    }
    let groups = aliases(grid);
    let levels: Vec<Vec<usize>> =
        grid.cells.iter().map(|(own, _)| groups.iter().map(|group| own[group[0]]).collect()).collect();
    let values: Vec<f64> = grid.cells.iter().map(|(_, value)| *value).collect();
    let varied: Vec<usize> = (0..groups.len()).filter(|&g| distinct(&levels, g) > 1).collect();
    let mut found = if is_complete(&levels, &varied) {
        complete(&levels, &values, &varied)
    } else {
        fitted(&levels, &values, &varied)
    };
    let name = |g: usize| groups[g].iter().map(|&axis| grid.axes[axis].clone()).collect::<Vec<_>>();
    let mut axes: Vec<AxisEffect> = (0..groups.len())
        .map(|g| AxisEffect {
            axes: name(g),
            importance: found.main.remove(&g).unwrap_or(0.0),
            levels: marginal(&levels, &values, g),
        })
        .collect();
    axes.sort_by(|a, b| b.importance.total_cmp(&a.importance));
    let mut pairs: Vec<(String, String, f64)> = found
        .pairs
        .into_iter()
        .map(|(a, b, part)| (name(a).join(" + "), name(b).join(" + "), part))
        .collect();
    pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
    Some(Importance { complete: found.complete, axes, pairs, rest: found.rest })
}

struct Parts {
    complete: bool,
    main: HashMap<usize, f64>,
    pairs: Vec<(usize, usize, f64)>,
    rest: f64,
}

/// Axes by what they vary with: two that cut the cells alike are one.
fn aliases(grid: &Factorial) -> Vec<Vec<usize>> {
    let partition = |axis: usize| -> Vec<usize> {
        // Levels renamed in the order of their first cell.
        let mut names: HashMap<usize, usize> = HashMap::new();
        let cells = grid.cells.iter();
        cells
            .map(|(levels, _)| {
                let next = names.len();
                *names.entry(levels[axis]).or_insert(next)
            })
            .collect()
    };
    let mut groups: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    for axis in 0..grid.axes.len() {
        let own = partition(axis);
        let varies = own.iter().any(|level| *level > 0);
        match groups.iter_mut().find(|(known, _)| varies && *known == own) {
            Some((_, axes)) => axes.push(axis),
            None => groups.push((own, vec![axis])),
        }
    }
    groups.into_iter().map(|(_, axes)| axes).collect()
}

fn distinct(levels: &[Vec<usize>], axis: usize) -> usize {
    let mut own: Vec<usize> = levels.iter().map(|cell| cell[axis]).collect();
    own.sort_unstable();
    own.dedup();
    own.len()
}

/// Whether every combination of the varied axes' levels is there once.
fn is_complete(levels: &[Vec<usize>], varied: &[usize]) -> bool {
    let mut seen: Vec<Vec<usize>> =
        levels.iter().map(|cell| varied.iter().map(|&axis| cell[axis]).collect()).collect();
    seen.sort_unstable();
    seen.dedup();
    let all = varied.iter().try_fold(1usize, |all, &axis| all.checked_mul(distinct(levels, axis)));
    seen.len() == levels.len() && all == Some(levels.len())
}

/// Mean at each level of an axis, with the number of cells.
fn marginal(levels: &[Vec<usize>], values: &[f64], axis: usize) -> Vec<(usize, f64, usize)> {
    let mut own: Vec<(usize, f64)> =
        levels.iter().zip(values).map(|(cell, value)| (cell[axis], *value)).collect();
    own.sort_by_key(|(level, _)| *level);
    let groups = own.chunk_by(|a, b| a.0 == b.0);
    groups
        .map(|group| {
            let sum: f64 = group.iter().map(|(_, value)| value).sum();
            (group[0].0, sum / group.len() as f64, group.len())
        })
        .collect()
}

fn complete(levels: &[Vec<usize>], values: &[f64], varied: &[usize]) -> Parts {
    let centre = mean(values).unwrap_or_default();
    let variance = |parts: &[f64]| parts.iter().map(|part| part * part).sum::<f64>() / parts.len() as f64;
    let total = variance(&values.iter().map(|value| value - centre).collect::<Vec<_>>());
    let share = |part: f64| if total > 0.0 { part / total } else { 0.0 };
    // For each cell, what its level of each axis adds.
    let mut added: HashMap<usize, Vec<f64>> = HashMap::new();
    for &axis in varied {
        let means: HashMap<usize, f64> = marginal(levels, values, axis)
            .into_iter()
            .map(|(level, mean, _)| (level, mean - centre))
            .collect();
        added.insert(axis, levels.iter().map(|cell| means[&cell[axis]]).collect());
    }
    let main: HashMap<usize, f64> = added.iter().map(|(&axis, own)| (axis, share(variance(own)))).collect();
    let mut pairs = Vec::new();
    for (n, &a) in varied.iter().enumerate() {
        for &b in &varied[n + 1..] {
            let mut sums: HashMap<(usize, usize), (f64, usize)> = HashMap::new();
            for (cell, value) in levels.iter().zip(values) {
                let own = sums.entry((cell[a], cell[b])).or_default();
                *own = (own.0 + value, own.1 + 1);
            }
            let beyond: Vec<f64> = (0..levels.len())
                .map(|at| {
                    let (sum, count) = sums[&(levels[at][a], levels[at][b])];
                    sum / count as f64 - centre - added[&a][at] - added[&b][at]
                })
                .collect();
            pairs.push((a, b, share(variance(&beyond))));
        }
    }
    let explained: f64 = main.values().sum::<f64>() + pairs.iter().map(|pair| pair.2).sum::<f64>();
    let rest = if total > 0.0 { (1.0 - explained).max(0.0) } else { 0.0 };
    Parts { complete: true, main, pairs, rest }
}

fn fitted(levels: &[Vec<usize>], values: &[f64], varied: &[usize]) -> Parts {
    let total = residual(levels, values, &[]);
    let all = residual(levels, values, varied);
    let share = |part: f64| if total > 0.0 { (part / total).max(0.0) } else { 0.0 };
    let without = |axis: usize| -> f64 {
        let others: Vec<usize> = varied.iter().copied().filter(|other| *other != axis).collect();
        residual(levels, values, &others)
    };
    let main = varied.iter().map(|&axis| (axis, share(without(axis) - all))).collect();
    Parts { complete: false, main, pairs: Vec::new(), rest: share(all) }
}

/// What is left of the squares when a level and these axes' levels are fitted: the values less their projection on the columns,
/// made orthogonal one after another; a column that the others make up adds nothing.
fn residual(levels: &[Vec<usize>], values: &[f64], axes: &[usize]) -> f64 {
    let mut columns: Vec<Vec<f64>> = vec![vec![1.0; values.len()]];
    for &axis in axes {
        for (level, ..) in marginal(levels, values, axis).into_iter().skip(1) {
            columns.push(levels.iter().map(|cell| f64::from(u8::from(cell[axis] == level))).collect());
        }
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut rest = values.to_vec();
    for mut column in columns {
        let before = dot(&column, &column);
        for own in &basis {
            let along = dot(own, &column);
            column.iter_mut().zip(own).for_each(|(x, b)| *x -= along * b);
        }
        let size = dot(&column, &column);
        if size <= 1e-10 * before {
            continue;
        }
        column.iter_mut().for_each(|x| *x /= size.sqrt());
        let along = dot(&column, &rest);
        rest.iter_mut().zip(&column).for_each(|(x, b)| *x -= along * b);
        basis.push(column);
    }
    dot(&rest, &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(axes: &[&str], cells: &[(&[usize], f64)]) -> Factorial {
        Factorial {
            axes: axes.iter().map(|axis| (*axis).to_owned()).collect(),
            cells: cells.iter().map(|(levels, value)| (levels.to_vec(), *value)).collect(),
        }
    }

    fn of(found: &Importance, axis: &str) -> f64 {
        found.axes.iter().find(|own| own.axes.iter().any(|name| name == axis)).unwrap().importance
    }

    #[test]
    fn a_sum_of_two_axes_is_split_between_them() {
        // 3a + b, a and b in {0, 1}: variances 9/4 and 1/4.
        let found = importance(&grid(
            &["a", "b", "fixed"],
            &[(&[0, 0, 0], 0.0), (&[0, 1, 0], 1.0), (&[1, 0, 0], 3.0), (&[1, 1, 0], 4.0)],
        ))
        .unwrap();
        assert!(found.complete);
        assert!((of(&found, "a") - 0.9).abs() < 1e-12 && (of(&found, "b") - 0.1).abs() < 1e-12);
        assert_eq!((of(&found, "fixed"), found.axes[0].axes[0].as_str()), (0.0, "a"));
        assert!(found.pairs.iter().all(|pair| pair.2 < 1e-12) && found.rest < 1e-12);
        assert_eq!(found.axes[0].levels, [(0, 0.5, 2), (1, 3.5, 2)]);
    }

    #[test]
    fn an_exclusive_or_is_all_interaction() {
        let cells: [(&[usize], f64); 4] = [(&[0, 0], 0.0), (&[0, 1], 1.0), (&[1, 0], 1.0), (&[1, 1], 0.0)];
        let found = importance(&grid(&["a", "b"], &cells)).unwrap();
        assert_eq!((of(&found, "a"), of(&found, "b")), (0.0, 0.0));
        assert!((found.pairs[0].2 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn axes_that_vary_together_are_named_together_and_a_hole_is_fitted_around() {
        let zipped: [(&[usize], f64); 4] =
            [(&[0, 0, 0], 1.0), (&[0, 0, 1], 2.0), (&[1, 1, 0], 5.0), (&[1, 1, 1], 6.0)];
        let found = importance(&grid(&["optimizer", "rate", "seed"], &zipped)).unwrap();
        assert_eq!(found.axes[0].axes, ["optimizer", "rate"]);
        assert!(found.complete && (of(&found, "rate") - 16.0 / 17.0).abs() < 1e-12);
        let holed: [(&[usize], f64); 3] = [(&[0, 0], 0.0), (&[0, 1], 1.0), (&[1, 0], 3.0)];
        let found = importance(&grid(&["a", "b"], &holed)).unwrap();
        assert!(!found.complete && found.rest < 1e-12 && of(&found, "a") > of(&found, "b"));
    }

    #[test]
    fn equal_cells_have_nothing_to_split_and_one_cell_is_no_grid() {
        let flat: [(&[usize], f64); 2] = [(&[0], 0.5), (&[1], 0.5)];
        let found = importance(&grid(&["a"], &flat)).unwrap();
        assert_eq!((of(&found, "a"), found.rest), (0.0, 0.0));
        assert_eq!(importance(&grid(&["a"], &flat[..1])), None);
    }
}
