//! How far the cells of a grid differ by chance alone, and whether an effect exceeds that.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, FisherSnedecor};

use super::mean;

/// The scores of a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct CellScores {
    /// The score of each seed.
    pub seeds: Vec<f64>,
    /// Standard error over documents of each seed's score, if known.
    pub errors: Vec<f64>,
}

/// The source of the noise estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseSource {
    /// The spread of the seeds within cells.
    Seeds,
    /// Standard errors over documents: no cell has two seeds.
    Documents,
}

/// Noise of the cells' means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Noise {
    /// Its source.
    pub source: NoiseSource,
    /// Variance of a cell's mean by chance alone.
    pub variance: f64,
    /// Degrees of freedom of the variance; none for standard errors over documents, which count as exact.
    pub freedom: Option<usize>,
}

/// The noise of cells: the variance within cells, pooled and divided by the harmonic mean of the numbers of seeds (unweighted-means
/// analysis, Yates 1934; exact if all cells have equally many seeds). If no cell has two seeds, the mean square of the standard errors
/// over documents. None if neither is known for every cell.
pub fn noise_of(cells: &[CellScores]) -> Option<Noise> {
    let freedom: usize = cells.iter().map(|cell| cell.seeds.len().saturating_sub(1)).sum();
    if freedom == 0 {
        let known = |cell: &CellScores| cell.errors.first().copied().filter(|error| error.is_finite());
        let squares: Option<Vec<f64>> = cells.iter().map(|cell| Some(known(cell)?.powi(2))).collect();
        let variance = mean(&squares?)?;
        return Some(Noise { source: NoiseSource::Documents, variance, freedom: None });
    }
    let within: f64 = cells
        .iter()
        .filter_map(|cell| {
            let centre = mean(&cell.seeds)?;
            Some(cell.seeds.iter().map(|value| (value - centre).powi(2)).sum::<f64>())
        })
        .sum();
    let inverse: Vec<f64> = cells.iter().map(|cell| 1.0 / cell.seeds.len() as f64).collect();
    let variance = within / freedom as f64 * mean(&inverse)?;
    variance.is_finite().then_some(Noise { source: NoiseSource::Seeds, variance, freedom: Some(freedom) })
}

impl Noise {
    /// Probability of such a sum of squares of the cells' means, or a larger one, by chance alone: Fisher's F test against the seeds, the
    /// chi-squared test against standard errors over documents. Never 0. `freedom` of the effect; none if it is 0.
    pub fn p(&self, squares: f64, freedom: usize) -> Option<f64> {
        if freedom == 0 || !squares.is_finite() {
            return None;
        }
        if self.variance <= 0.0 {
            // Without any spread of scores, every difference is an effect.
            return Some(if squares > 0.0 { f64::MIN_POSITIVE } else { 1.0 });
        }
        let ratio = squares / self.variance;
        let p = match self.freedom {
            Some(within) => {
                let distribution = FisherSnedecor::new(freedom as f64, within as f64).ok()?;
                distribution.sf(ratio / freedom as f64)
            }
            None => ChiSquared::new(freedom as f64).ok()?.sf(ratio),
        };
        Some(p.clamp(f64::MIN_POSITIVE, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(seeds: &[f64], errors: &[f64]) -> CellScores {
        CellScores { seeds: seeds.to_vec(), errors: errors.to_vec() }
    }

    #[test]
    fn two_cells_of_three_seeds_have_the_p_of_students_t() {
        // F with one degree of freedom is t squared: scipy.stats.ttest_ind([1, 2, 4], [3, 5, 9]).
        let cells = [cell(&[1.0, 2.0, 4.0], &[]), cell(&[3.0, 5.0, 9.0], &[])];
        let noise = noise_of(&cells).unwrap();
        assert_eq!((noise.source, noise.freedom), (NoiseSource::Seeds, Some(4)));
        let (a, b) = (7.0 / 3.0, 17.0 / 3.0);
        let squares = 2.0 * f64::powi((b - a) / 2.0, 2);
        assert!((noise.p(squares, 1).unwrap() - 0.166_232_75).abs() < 1e-6, "{:?}", noise.p(squares, 1));
    }

    #[test]
    fn without_a_second_seed_the_documents_are_the_noise_and_without_them_there_is_none() {
        let noise = noise_of(&[cell(&[0.5], &[0.03]), cell(&[0.6], &[0.01])]).unwrap();
        assert_eq!((noise.source, noise.freedom), (NoiseSource::Documents, None));
        assert!((noise.variance - 0.0005).abs() < 1e-15);
        assert_eq!(noise_of(&[cell(&[0.5], &[0.03]), cell(&[0.6], &[])]), None);
        assert_eq!(noise_of(&[]), None);
    }

    #[test]
    fn seeds_without_spread_make_every_difference_one() {
        let noise = noise_of(&[cell(&[0.5, 0.5], &[]), cell(&[0.6, 0.6], &[])]).unwrap();
        assert_eq!((noise.p(0.005, 1), noise.p(0.0, 1)), (Some(f64::MIN_POSITIVE), Some(1.0)));
        assert_eq!(noise.p(0.005, 0), None, "an axis with one value has no effect to test");
    }
}
