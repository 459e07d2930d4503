//! How many rows a pass has, so that a row's results do not depend on the others.

use tch::{Device, Kind, Tensor};

use super::Model;
use super::batch::filled;

/// Rows of a pass whose products are always of one size.
const TILE: i64 = 64;

/// Rows of the check: small, medium and large passes.
const CHECKED: [i64; 6] = [16, 32, 48, 64, 128, 192];
const MOST: i64 = 256;

/// The number of rows that passes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowRule {
    /// Filled up to a few sizes: on this CPU a row of a product depends on itself alone from the smallest of them on.
    Filled,
    /// Always this many, because it does not.
    Fixed(i64),
}

impl RowRule {
    /// Rows of a pass with this many tokens.
    pub(crate) fn rows(self, tokens: i64) -> i64 {
        match self {
            Self::Filled => filled(tokens),
            Self::Fixed(rows) => rows.max(tokens),
        }
    }

    /// The budget of a pass, within the tokens that fit into it.
    pub(crate) fn within(self, token_budget: usize) -> usize {
        match self {
            Self::Filled => token_budget,
            Self::Fixed(rows) => token_budget.min(rows as usize),
        }
    }

    /// The rule for products that do or do not depend on the number of rows.
    fn of(is_independent: bool) -> Self {
        if is_independent { Self::Filled } else { Self::Fixed(TILE) }
    }
}

impl Model {
    /// The rule for this model on this CPU, found by trying its matrices once. Only single and double precision promise equal bits.
    pub(crate) fn row_rule(&self) -> RowRule {
        *self.row_rule.get_or_init(|| {
            let promises = self.device() == Device::Cpu && matches!(self.kind, Kind::Float | Kind::Double);
            let rule = RowRule::of(!promises || tch::no_grad(|| self.has_independent_rows()));
            if rule != RowRule::Filled {
                tracing::info!(
                    "products of this CPU depend on their number of rows: passes have {TILE} rows each"
                );
            }
            rule
        })
    }

    fn has_independent_rows(&self) -> bool {
        let layers = self.blocks.first().map(|block| block.groups()).into_iter().flatten();
        layers.chain([&self.head]).all(|group| {
            let width = group.input_width();
            let low_rank = numbers([8, width], self.kind);
            are_independent(width, self.kind, &|x| group.forward(x, None))
                && are_independent(width, self.kind, &|x| x.matmul(&low_rank.tr()))
        })
    }
}

/// Whether the first rows of a product are the same to the bit for any number of rows.
fn are_independent(width: i64, kind: Kind, product: &dyn Fn(&Tensor) -> Tensor) -> bool {
    let x = numbers([MOST, width], kind);
    let whole = product(&x);
    CHECKED.iter().all(|rows| product(&x.narrow(0, 0, *rows)).equal(&whole.narrow(0, 0, *rows)))
}

/// Numbers between −1 and 1 without a pattern.
fn numbers(shape: [i64; 2], kind: Kind) -> Tensor {
    let count = shape[0] * shape[1];
    (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.618).sin().to_kind(kind).view(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_changes_with_its_rows_is_found() {
        let plain = numbers([8, 40], Kind::Float);
        assert!(are_independent(40, Kind::Float, &|x| x.matmul(&plain.tr())));
        let grows = |x: &Tensor| x.matmul(&plain.tr()) * (1.0 + 1e-6 * x.size()[0] as f64);
        assert!(!are_independent(40, Kind::Float, &grows));
    }

    #[test]
    fn a_fixed_rule_bounds_passes_and_fills_them() {
        let fixed = RowRule::of(false);
        assert_eq!((fixed.rows(3), fixed.within(1024), fixed.within(8)), (64, 64, 8));
        assert_eq!((RowRule::of(true).rows(17), RowRule::of(true).within(1024)), (32, 1024));
    }
}
