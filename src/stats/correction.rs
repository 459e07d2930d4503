//! Correction for multiple tests.

/// Holm's step-down adjustment (1979): adjusted p-values that can be compared with one level, in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    holm_of(p, p.len())
}

/// [`holm`] for some p-values of a family of `family` tests; the other p-values must not be smaller than these.
pub fn holm_of(p: &[f64], family: usize) -> Vec<f64> {
    assert!(p.len() <= family, "a family has at least its own tests");
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0f64;
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max(p[at] * (family - rank) as f64).min(1.0);
        adjusted[at] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_is_multiplied_by_all_and_order_is_kept() {
        assert_eq!(holm(&[0.04, 0.01, 0.03]), [0.06, 0.03, 0.06]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
        assert_eq!(holm_of(&[0.01, 0.04], 3), [0.03, 0.08]);
    }
}
