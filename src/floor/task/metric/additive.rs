//! Aggregates that depend on documents only through sums of a few numbers per document: used to exchange documents
//! between two systems if a metric is not a mean.

use crate::task::metric::aggregate::{Classes, DocumentValue, brier, statistic};
use crate::task::metric::kind::{Aggregation, Metric};
use crate::task::text_score::{bleu, chrf, ter};

/// Maximum number of classes with summed counts.
const CLASSES: usize = 16;

/// Computes a metric from sums over documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Additive {
    aggregation: Aggregation,
    /// The classes, for class-based metrics.
    classes: Vec<i64>,
}

impl Additive {
    /// For these documents, of all compared systems. None for a median, and for too many classes.
    pub fn of<'a>(
        aggregation: Aggregation,
        documents: impl Iterator<Item = &'a DocumentValue>,
    ) -> Option<Self> {
        let mut classes = Vec::new();
        match aggregation {
            Aggregation::Median => return None,
            Aggregation::F1
            | Aggregation::WeightedF1
            | Aggregation::MacroF1
            | Aggregation::MicroF1
            | Aggregation::ThreeClassF1
            | Aggregation::MatthewsCorrcoef => {
                classes = documents.flat_map(|value| [value.part(0) as i64, value.part(1) as i64]).collect();
                classes.sort_unstable();
                classes.dedup();
            }
            Aggregation::Mean
            | Aggregation::Nanmean
            | Aggregation::Perplexity
            | Aggregation::WeightedPerplexity
            | Aggregation::BitsPerByte
            | Aggregation::BrierScore
            | Aggregation::FlatMean
            | Aggregation::Bleu
            | Aggregation::Chrf
            | Aggregation::ChrfPlusPlus
            | Aggregation::Ter => {}
        }
        (classes.len() <= CLASSES).then_some(Self { aggregation, classes })
    }

    /// A document's contribution to the sums.
    pub fn parts(&self, value: &DocumentValue) -> Vec<f64> {
        match self.aggregation {
            Aggregation::Nanmean if value.part(0).is_nan() => vec![0.0, 0.0],
            Aggregation::Mean | Aggregation::Nanmean | Aggregation::Perplexity => vec![value.part(0), 1.0],
            Aggregation::WeightedPerplexity | Aggregation::BitsPerByte => vec![value.part(0), value.part(1)],
            Aggregation::BrierScore => vec![brier(value), 1.0],
            Aggregation::F1
            | Aggregation::WeightedF1
            | Aggregation::MacroF1
            | Aggregation::MicroF1
            | Aggregation::ThreeClassF1
            | Aggregation::MatthewsCorrcoef => {
                let document_pair = (value.part(0) as i64, value.part(1) as i64);
                let is_own = |pair| f64::from(u8::from(pair == document_pair));
                self.pairs().map(is_own).collect()
            }
            Aggregation::FlatMean => {
                let parts = value.parts();
                vec![parts.iter().sum(), parts.len() as f64]
            }
            Aggregation::Bleu | Aggregation::Chrf | Aggregation::ChrfPlusPlus | Aggregation::Ter => {
                value.parts().to_vec()
            }
            Aggregation::Median => Vec::new(),
        }
    }

    /// The metric's value from sums.
    pub fn value(&self, sums: &[f64]) -> f64 {
        let ratio = || sums[0] / sums[1];
        match self.aggregation {
            Aggregation::Mean | Aggregation::Nanmean | Aggregation::BrierScore | Aggregation::FlatMean => {
                ratio()
            }
            Aggregation::Bleu => bleu::score(sums),
            Aggregation::Chrf | Aggregation::ChrfPlusPlus => chrf::score(sums),
            Aggregation::Ter => ter::score(sums),
            Aggregation::Perplexity | Aggregation::WeightedPerplexity => (-ratio()).exp(),
            Aggregation::BitsPerByte => -ratio() / std::f64::consts::LN_2,
            Aggregation::F1 => self.counted(sums).binary_f1(),
            Aggregation::WeightedF1 => self.counted(sums).weighted_f1(),
            Aggregation::MacroF1 => self.counted(sums).macro_f1(),
            Aggregation::MicroF1 => self.counted(sums).micro_f1(),
            Aggregation::ThreeClassF1 => self.counted(sums).three_class_f1(),
            Aggregation::MatthewsCorrcoef => self.counted(sums).correlation(),
            Aggregation::Median => f64::NAN,
        }
    }

    /// Pairs of gold and predicted class.
    fn pairs(&self) -> impl Iterator<Item = (i64, i64)> {
        self.classes.iter().flat_map(|gold| self.classes.iter().map(move |chosen| (*gold, *chosen)))
    }

    fn counted(&self, sums: &[f64]) -> Classes {
        Classes::counted(self.pairs().zip(sums.iter().copied()))
    }
}

/// The document column that reproduces this value of a metric, and how: documents are stored in the task's order of
/// metrics, scores by name. None if no column does.
pub fn column_of(
    metric: Metric,
    documents: &[(usize, Vec<DocumentValue>)],
    value: f64,
) -> Option<(usize, Aggregation)> {
    let columns = documents.first()?.1.len();
    if documents.iter().any(|(_, values)| values.len() != columns) {
        return None;
    }
    let natural = metric.natural();
    let others = Aggregation::ALL.into_iter().filter(|how| how.fits(metric) && *how != natural);
    let ways = std::iter::once(natural).chain(others);
    let mut places = ways.flat_map(|how| (0..columns).map(move |column| (column, how)));
    let has_shape = |column: usize, how: Aggregation| {
        documents.iter().all(|(_, values)| match &values[column] {
            DocumentValue::Number(_) => how.is_of_numbers(),
            DocumentValue::Parts(_) => !how.is_of_numbers(),
        })
    };
    places.find(|(column, how)| {
        if !has_shape(*column, *how) {
            return false;
        }
        let statistic = statistic(*how, &mut documents.iter().map(|(_, values)| &values[*column]));
        (statistic - value).abs() <= 1e-9 * value.abs().max(1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: &[f64]) -> DocumentValue {
        DocumentValue::Parts(parts.to_vec())
    }

    /// From the sums, and from the documents themselves.
    fn both(aggregation: Aggregation, documents: &[DocumentValue]) -> (f64, f64) {
        let additive = Additive::of(aggregation, documents.iter()).unwrap();
        let mut sums: Vec<f64> = Vec::new();
        for parts in documents.iter().map(|document| additive.parts(document)) {
            sums.resize(parts.len(), 0.0);
            sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
        (additive.value(&sums), statistic(aggregation, &mut documents.iter()))
    }

    #[test]
    fn sums_of_parts_come_to_what_the_documents_come_to() {
        let classes = [
            parts(&[0.0, 0.0]),
            parts(&[1.0, 1.0]),
            parts(&[1.0, 0.0]),
            parts(&[0.0, 1.0]),
            parts(&[1.0, 1.0]),
        ];
        let weighted = [parts(&[-10.0, 4.0]), parts(&[-6.0, 2.0]), parts(&[-1.0, 1.0])];
        let chances = [parts(&[0.0, 0.5, 0.25, 0.25]), parts(&[2.0, 0.5, 0.25, 0.25])];
        let numbers = [-1.5, -2.5, -0.25].map(DocumentValue::Number);
        for (aggregation, documents) in [
            (Aggregation::Mean, numbers.as_slice()),
            (Aggregation::Perplexity, &numbers),
            (Aggregation::WeightedPerplexity, &weighted),
            (Aggregation::BitsPerByte, &weighted),
            (Aggregation::BrierScore, &chances),
            (Aggregation::F1, &classes),
            (Aggregation::WeightedF1, &classes),
            (Aggregation::MatthewsCorrcoef, &classes),
        ] {
            let (summed, whole) = both(aggregation, documents);
            assert!((summed - whole).abs() < 1e-14, "{aggregation:?}: {summed} is not {whole}");
        }
        let holed = [DocumentValue::Number(0.5), DocumentValue::Number(f64::NAN)];
        assert_eq!(both(Aggregation::Nanmean, &holed), (0.5, 0.5));
        assert!(Additive::of(Aggregation::Median, numbers.iter()).is_none());
    }

    #[test]
    fn a_metric_is_the_column_and_the_way_that_come_to_its_value() {
        let row = |ll: f64, right: f64| vec![DocumentValue::Number(ll), DocumentValue::Number(right)];
        let documents = [(0, row(-1.0, 1.0)), (3, row(-3.0, 0.0))];
        assert_eq!(column_of(Metric::Acc, &documents, 0.5), Some((1, Aggregation::Mean)));
        assert_eq!(column_of(Metric::Perplexity, &documents, 2f64.exp()), Some((0, Aggregation::Perplexity)));
        assert_eq!(column_of(Metric::Acc, &documents, 0.9), None);
        // With correct answers F1 would be 0 too.
        let never = [
            (0, vec![DocumentValue::Number(1.0), parts(&[1.0, 0.0])]),
            (1, vec![DocumentValue::Number(0.0), parts(&[0.0, 0.0])]),
        ];
        assert_eq!(column_of(Metric::F1, &never, 0.0), Some((1, Aggregation::F1)));
        assert_eq!(column_of(Metric::Acc, &never, 0.5), Some((0, Aggregation::Mean)));
        assert_eq!(column_of(Metric::Acc, &[], 0.0), None);
    }
}
