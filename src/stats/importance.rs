//! Which axes of a grid mattered, and how much.

use std::collections::{HashMap, HashSet};

use super::fit::Fit;
use super::mean;

/// The cells of a grid: the level of each axis, and the mean of the cell's seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Factorial {
    /// Names of the axes.
    pub axes: Vec<String>,
    /// Levels, one for each axis, and the mean.
    pub cells: Vec<(Vec<usize>, f64)>,
}

/// The effect of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisEffect {
    /// Its name; several if one determines the others, so that their effects cannot be separated.
    pub axes: Vec<String>,
    /// Fraction of the variance of the cells' means that it explains, from 0 to 1.
    pub importance: f64,
    /// Degrees of freedom: number of levels less one; in a grid with holes, only those not determined by other axes.
    pub freedom: usize,
    /// Its levels, ascending.
    pub levels: Vec<LevelEffect>,
}

/// The interaction of two axes, beyond their main effects.
#[derive(Debug, Clone, PartialEq)]
pub struct PairEffect {
    /// Their names.
    pub axes: (String, String),
    /// Fraction of the variance of the cells' means, from 0 to 1.
    pub importance: f64,
    /// Degrees of freedom in a fit of the cells.
    pub freedom: usize,
}

/// The effect of a level.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelEffect {
    /// The level of each of the axes.
    pub levels: Vec<usize>,
    /// Mean of its cells; in a grid with holes, the least-squares mean with the other axes distributed as in all cells.
    pub mean: f64,
    /// Number of its cells.
    pub cells: usize,
}

/// Decomposition of the variance of a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// Whether every combination of levels exists. Only then do the fractions add up, interactions included.
    pub complete: bool,
    /// The axes, the most important first; those with one level are 0.
    pub axes: Vec<AxisEffect>,
    /// For a complete grid: the interactions of pairs of axes, the most important first.
    pub pairs: Vec<PairEffect>,
    /// The unexplained fraction.
    pub rest: f64,
    /// Sum of squares of the cells' means around their mean.
    pub squares: f64,
}

/// Decomposes the variance of the cells' means. Complete grid: functional analysis of variance (Hooker 2007; Hutter, Hoos and
/// Leyton-Brown 2014), exact, since every combination exists. Grid with holes: least squares on the existing cells; the fraction of an
/// axis is what the fit loses without it. None for fewer than two cells, or if a mean is not finite.
pub fn importance(grid: &Factorial) -> Option<Importance> {
    if grid.cells.len() < 2 || grid.cells.iter().any(|(_, value)| !value.is_finite()) {
        return None;
    }
    let groups = aliases(grid);
    let levels = combined(grid, &groups);
    let values: Vec<f64> = grid.cells.iter().map(|(_, value)| *value).collect();
    let varied: Vec<usize> = (0..groups.len()).filter(|&g| distinct(&levels, g) > 1).collect();
    let found = if is_complete(&levels, &varied) {
        complete(&levels, &values, &varied)
    } else {
        fitted(&levels, &values, &varied)
    };
    let name = |g: usize| groups[g].iter().map(|&axis| grid.axes[axis].clone()).collect::<Vec<_>>();
    let mut axes: Vec<AxisEffect> = (0..groups.len())
        .map(|g| AxisEffect {
            axes: name(g),
            importance: found.main.get(&g).map_or(0.0, |part| part.share),
            freedom: found.main.get(&g).map_or(0, |part| part.freedom),
            levels: level_effects(
                grid,
                &groups[g],
                &marginal(&levels, found.adjusted.get(&g).unwrap_or(&values), g),
                &levels,
                g,
            ),
        })
        .collect();
    axes.sort_by(|a, b| b.importance.total_cmp(&a.importance));
    let pair = |(a, b, part): (usize, usize, Part)| PairEffect {
        axes: (name(a).join(" + "), name(b).join(" + ")),
        importance: part.share,
        freedom: part.freedom,
    };
    let mut pairs: Vec<PairEffect> = found.pairs.into_iter().map(pair).collect();
    pairs.sort_by(|a, b| b.importance.total_cmp(&a.importance));
    let centre = mean(&values)?;
    let squares = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some(Importance { complete: found.complete, axes, pairs, rest: found.rest, squares })
}

/// Means at each level of a group, with the levels of its axes.
fn level_effects(
    grid: &Factorial,
    group: &[usize],
    means: &[(usize, f64, usize)],
    levels: &[Vec<usize>],
    place: usize,
) -> Vec<LevelEffect> {
    let of = |(level, mean, cells): &(usize, f64, usize)| {
        let first = levels.iter().position(|cell| cell[place] == *level).unwrap_or_default();
        let group_levels = group.iter().map(|&axis| grid.cells[first].0[axis]).collect();
        LevelEffect { levels: group_levels, mean: *mean, cells: *cells }
    };
    let mut found: Vec<LevelEffect> = means.iter().map(of).collect();
    found.sort_by(|a, b| a.levels.cmp(&b.levels));
    found
}

/// A fraction of the variance, and its degrees of freedom.
#[derive(Debug, Clone, Copy)]
struct Part {
    share: f64,
    freedom: usize,
}

struct Parts {
    complete: bool,
    main: HashMap<usize, Part>,
    pairs: Vec<(usize, usize, Part)>,
    rest: f64,
    /// For a grid with holes: for each group, the value of each cell if only that group varied.
    adjusted: HashMap<usize, Vec<f64>>,
}

/// Largest sum of squares of such values that counts as zero: sums of equal numbers differ in their last digits.
fn nothing(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    values.len() as f64 * (1e-12 * largest).powi(2)
}

/// Groups of aliased axes. Two axes are aliased if one determines the other: they partition the cells alike, or one partition refines the
/// other, as in a zip of two lists of which one repeats a value.
fn aliases(grid: &Factorial) -> Vec<Vec<usize>> {
    let levels: Vec<Vec<usize>> = grid.cells.iter().map(|(cell, _)| cell.clone()).collect();
    let combinations = |axes: &[usize]| {
        let seen: HashSet<Vec<usize>> =
            levels.iter().map(|cell| axes.iter().map(|&axis| cell[axis]).collect()).collect();
        seen.len()
    };
    let mut groups: Vec<(Vec<usize>, usize)> =
        (0..grid.axes.len()).map(|axis| (vec![axis], combinations(&[axis]))).collect();
    let mut at = 0;
    while at < groups.len() {
        let says = |(other, count): &(Vec<usize>, usize)| {
            let (axes, own_count) = &groups[at];
            // A constant axis is an alias of no other.
            *count > 1
                && *own_count > 1
                && combinations(&[axes.as_slice(), other].concat()) == *count.max(own_count)
        };
        match (at + 1..groups.len()).find(|&other| says(&groups[other])) {
            Some(other) => {
                let (axes, count) = groups.remove(other);
                groups[at].0.extend(axes);
                groups[at].1 = groups[at].1.max(count);
                // The larger group may determine an earlier one.
                at = 0;
            }
            None => at += 1,
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_iter().map(|(axes, _)| axes).collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups.sort();
    groups
}

/// For each cell, the number of its combination of each group's levels.
fn combined(grid: &Factorial, groups: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut known: Vec<HashMap<Vec<usize>, usize>> = vec![HashMap::new(); groups.len()];
    let of_cell = |(levels, _): &(Vec<usize>, f64)| {
        let number = |(group, known): (&Vec<usize>, &mut HashMap<Vec<usize>, usize>)| {
            let next = known.len();
            *known.entry(group.iter().map(|&axis| levels[axis]).collect()).or_insert(next)
        };
        groups.iter().zip(&mut known).map(number).collect()
    };
    grid.cells.iter().map(of_cell).collect()
}

fn distinct(levels: &[Vec<usize>], axis: usize) -> usize {
    let mut axis_levels: Vec<usize> = levels.iter().map(|cell| cell[axis]).collect();
    axis_levels.sort_unstable();
    axis_levels.dedup();
    axis_levels.len()
}

/// Whether every combination of the varied axes' levels occurs exactly once.
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
    let mut pairs: Vec<(usize, f64)> =
        levels.iter().zip(values).map(|(cell, value)| (cell[axis], *value)).collect();
    pairs.sort_by_key(|(level, _)| *level);
    let groups = pairs.chunk_by(|a, b| a.0 == b.0);
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
    let is_something = total > nothing(values) / values.len() as f64;
    let share = |part: f64| if is_something { (part / total).min(1.0) } else { 0.0 };
    // For each cell, the contribution of its level of each axis.
    let mut added: HashMap<usize, Vec<f64>> = HashMap::new();
    for &axis in varied {
        let means: HashMap<usize, f64> = marginal(levels, values, axis)
            .into_iter()
            .map(|(level, mean, _)| (level, mean - centre))
            .collect();
        added.insert(axis, levels.iter().map(|cell| means[&cell[axis]]).collect());
    }
    let own_freedom = |axis: usize| distinct(levels, axis) - 1;
    let main: HashMap<usize, Part> = added
        .iter()
        .map(|(&axis, contributions)| {
            (axis, Part { share: share(variance(contributions)), freedom: own_freedom(axis) })
        })
        .collect();
    let mut pairs = Vec::new();
    for (n, &a) in varied.iter().enumerate() {
        for &b in &varied[n + 1..] {
            let mut sums: HashMap<(usize, usize), (f64, usize)> = HashMap::new();
            for (cell, value) in levels.iter().zip(values) {
                let sum = sums.entry((cell[a], cell[b])).or_default();
                *sum = (sum.0 + value, sum.1 + 1);
            }
            let beyond: Vec<f64> = (0..levels.len())
                .map(|at| {
                    let (sum, count) = sums[&(levels[at][a], levels[at][b])];
                    sum / count as f64 - centre - added[&a][at] - added[&b][at]
                })
                .collect();
            let freedom = own_freedom(a) * own_freedom(b);
            pairs.push((a, b, Part { share: share(variance(&beyond)), freedom }));
        }
    }
    let parts = main.values().chain(pairs.iter().map(|(_, _, part)| part));
    let explained: f64 = parts.map(|part| part.share).sum();
    let rest = if is_something { (1.0 - explained).max(0.0) } else { 0.0 };
    Parts { complete: true, main, pairs, rest, adjusted: HashMap::new() }
}

/// Least squares: the fraction of an axis is what the fit loses without it. If the cells form blocks without a common level, the
/// difference between blocks cannot be attributed to axes, and no mean is adjusted.
fn fitted(levels: &[Vec<usize>], values: &[f64], varied: &[usize]) -> Parts {
    let centre = mean(values).unwrap_or_default();
    let centred: Vec<f64> = values.iter().map(|value| value - centre).collect();
    let all = Fit::of(levels, varied, &centred);
    let total = Fit::of(levels, &[], &centred).residual;
    let is_something = total > nothing(values);
    let share = |part: f64| if is_something { (part / total).clamp(0.0, 1.0) } else { 0.0 };
    let (mut main, mut adjusted) = (HashMap::new(), HashMap::new());
    for &axis in varied {
        let others: Vec<usize> = varied.iter().copied().filter(|other| *other != axis).collect();
        let without = Fit::of(levels, &others, &centred);
        let freedom = all.rank.saturating_sub(without.rank);
        main.insert(axis, Part { share: share(without.residual - all.residual), freedom });
        if all.is_whole {
            // The contribution of the axis to each cell, less its average.
            let added = all.added(levels, axis);
            let average = mean(&added).unwrap_or_default();
            adjusted.insert(axis, added.iter().map(|part| centre + part - average).collect());
        }
    }
    Parts { complete: false, main, pairs: Vec::new(), rest: share(all.residual), adjusted }
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
        found.axes.iter().find(|effect| effect.axes.iter().any(|name| name == axis)).unwrap().importance
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
        assert!(found.pairs.iter().all(|pair| pair.importance < 1e-12) && found.rest < 1e-12);
        let level = |level, mean| LevelEffect { levels: vec![level], mean, cells: 2 };
        assert_eq!(found.axes[0].levels, [level(0, 0.5), level(1, 3.5)]);
    }

    #[test]
    fn an_exclusive_or_is_all_interaction() {
        let cells: [(&[usize], f64); 4] = [(&[0, 0], 0.0), (&[0, 1], 1.0), (&[1, 0], 1.0), (&[1, 1], 0.0)];
        let found = importance(&grid(&["a", "b"], &cells)).unwrap();
        assert_eq!((of(&found, "a"), of(&found, "b")), (0.0, 0.0));
        assert!((found.pairs[0].importance - 1.0).abs() < 1e-12);
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
    fn an_axis_within_another_is_named_with_it() {
        // A zip of three lists, of which the first repeats a value: the optimizer's effect cannot be determined.
        let cells: [(&[usize], f64); 6] = [
            (&[0, 0, 0], 0.5),
            (&[0, 1, 0], 0.6),
            (&[1, 2, 0], 0.1),
            (&[0, 0, 1], 0.55),
            (&[0, 1, 1], 0.65),
            (&[1, 2, 1], 0.15),
        ];
        let found = importance(&grid(&["optimizer", "rate", "rank"], &cells)).unwrap();
        assert_eq!(found.axes[0].axes, ["optimizer", "rate"]);
        assert!(found.complete && of(&found, "rate") > 0.9 && found.rest < 1e-9, "{found:?}");
        let levels: Vec<&[usize]> =
            found.axes[0].levels.iter().map(|level| level.levels.as_slice()).collect();
        assert_eq!(levels, [&[0, 0][..], &[0, 1], &[1, 2]]);
        // A constant axis is an alias of none, and blocks without a common level are a grid with holes.
        let found = importance(&grid(&["fixed", "a"], &[(&[0, 0], 0.1), (&[0, 1], 0.2)])).unwrap();
        assert_eq!(found.axes.len(), 2);
        let blocks: [(&[usize], f64); 5] =
            [(&[0, 0], 0.1), (&[0, 1], 0.3), (&[1, 0], 0.2), (&[1, 1], 0.5), (&[2, 2], 0.9)];
        let found = importance(&grid(&["a", "b"], &blocks)).unwrap();
        assert!(!found.complete && found.axes.len() == 2, "{found:?}");
        assert_eq!(found.axes[0].levels[2].mean, 0.9, "the cells' own");
    }

    #[test]
    fn the_best_level_of_a_grid_with_holes_is_that_of_the_fit() {
        // Level 1 of the first axis adds 0.1, and occurs only where the second axis costs 1.
        let cells: [(&[usize], f64); 3] = [(&[0, 0], 0.0), (&[0, 1], 1.0), (&[1, 0], 0.1)];
        let found = importance(&grid(&["a", "b"], &cells)).unwrap();
        let effect = found.axes.iter().find(|effect| effect.axes == ["a"]).unwrap();
        assert!((effect.levels[1].mean - effect.levels[0].mean - 0.1).abs() < 1e-12, "{effect:?}");
        assert_eq!((effect.levels[0].cells, effect.levels[1].cells), (2, 1));
    }

    #[test]
    fn equal_cells_of_any_number_have_nothing_to_split() {
        let three = |value: f64| importance(&grid(&["a"], &[(&[0], value), (&[1], value), (&[2], value)]));
        for value in [0.1, 0.35, 1e-9, 3e8, 0.0] {
            let found = three(value).unwrap();
            assert_eq!((of(&found, "a"), found.rest), (0.0, 0.0), "{value}");
        }
        // An ulp is not a difference; one in a million is.
        let cells: [(&[usize], f64); 3] = [(&[0, 0], 0.1 + 0.2), (&[0, 1], 0.3), (&[1, 0], 0.3)];
        let found = importance(&grid(&["a", "b"], &cells)).unwrap();
        assert_eq!((of(&found, "a"), of(&found, "b"), found.rest), (0.0, 0.0, 0.0));
        let cells: [(&[usize], f64); 2] = [(&[0], 0.3), (&[1], 0.300_000_3)];
        assert!((of(&importance(&grid(&["a"], &cells)).unwrap(), "a") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn equal_cells_have_nothing_to_split_and_one_cell_is_no_grid() {
        let flat: [(&[usize], f64); 2] = [(&[0], 0.5), (&[1], 0.5)];
        let found = importance(&grid(&["a"], &flat)).unwrap();
        assert_eq!((of(&found, "a"), found.rest), (0.0, 0.0));
        assert_eq!(importance(&grid(&["a"], &flat[..1])), None);
    }
}
