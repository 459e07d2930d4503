//! The ticks of an axis.

/// Most ticks.
const MOST: f64 = 6.0;

/// Round numbers that cover a range: 1, 2 or 5 times a power of ten apart. The first is at or below `low`, the last at or above `high`.
pub(super) fn covering(low: f64, high: f64) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) * 0.1 };
    let (low, high) = if high > low { (low, high) } else { (low - span / 2.0, high + span / 2.0) };
    let rough = span / (MOST - 1.0);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let first = (low / step).floor();
    let last = (high / step).ceil();
    // Integer multiples of the step, so that 0.3 is rarely 0.30000000000000004.
    (0..=(last - first) as usize).map(|n| (first + n as f64) * step).collect()
}

/// Ticks of a logarithmic axis: powers of two, or of four if there are many, for ranks and the like; for numbers below one, 1, 2 and 5
/// times powers of ten. The first is at or below `low`, the last at or above `high`.
pub(super) fn multiplying(low: f64, high: f64) -> Vec<f64> {
    if low < 1.0 {
        let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let all: Vec<f64> =
            decades.flat_map(|n| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(n))).collect();
        // With tolerance, for numbers that are ticks themselves.
        let first = all.iter().rposition(|tick| *tick <= low * (1.0 + 1e-9)).unwrap_or_default();
        let last = all.iter().position(|tick| *tick >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
        return all[first..=last.max(first + 1).min(all.len() - 1)].to_vec();
    }
    let (first, last) = (low.log2().floor() as i32, high.log2().ceil() as i32);
    let step = if last - first > 9 { 2 } else { 1 };
    let mut marks: Vec<f64> = (first..=last).step_by(step).map(|power| 2f64.powi(power)).collect();
    if marks[marks.len() - 1] < high {
        marks.push(2f64.powi(last + 1));
    }
    marks
}

/// A tick's number, without insignificant digits.
pub(super) fn show(value: f64) -> String {
    let text =
        if value != 0.0 && value.abs() < 0.001 { format!("{value:.1e}") } else { format!("{value:.4}") };
    match text.split_once('.') {
        Some((whole, _)) if !text.contains('e') => {
            let text = text.trim_end_matches('0').trim_end_matches('.');
            if text.is_empty() || text == "-" || text == "-0" {
                whole.trim_start_matches('-').to_owned()
            } else {
                text.to_owned()
            }
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn marks_are_round_numbers() {
        let shown = |marks: Vec<f64>| marks.into_iter().map(show).collect::<Vec<_>>();
        assert_eq!(shown(covering(0.31, 0.47)), ["0.3", "0.35", "0.4", "0.45", "0.5"]);
        assert_eq!(shown(covering(1.0, 50.0)), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(shown(multiplying(8.0, 256.0)), ["8", "16", "32", "64", "128", "256"]);
        assert_eq!(
            shown(multiplying(3e-4, 0.1)),
            ["2.0e-4", "5.0e-4", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"]
        );
        assert_eq!(shown(vec![-0.00001, 1e-4, 300.0]), ["-1.0e-5", "1.0e-4", "300"]);
    }

    proptest! {
        #[test]
        fn multiplying_marks_cover_any_range(low in 1e-6f64..1e4, factor in 1.0f64..1e5) {
            let marks = multiplying(low, low * factor);
            prop_assert!(marks[0] <= low * (1.0 + 1e-9) && *marks.last().unwrap() >= low * factor * (1.0 - 1e-9), "{:?}", marks);
            prop_assert!(!marks.is_empty() && marks.windows(2).all(|pair| pair[0] < pair[1]));
        }

        #[test]
        fn marks_cover_any_range_and_are_few(low in -1e6f64..1e6, span in 0.0f64..1e6) {
            let marks = covering(low, low + span);
            prop_assert!(marks[0] <= low && *marks.last().unwrap() >= low + span);
            prop_assert!(marks.len() >= 2 && marks.len() <= 9, "{:?}", marks);
        }
    }
}
