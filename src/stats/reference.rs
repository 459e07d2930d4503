//! Agrees with scipy and statsmodels on the cases of tests/reference/stats.json, which make_stats.py writes.

use serde_json::Value as Json;

use super::{Factorial, PairEffect, PairedTest, exchanged, holm, importance, paired, welch};

fn cases(name: &str) -> Vec<Json> {
    let all: Json = serde_json::from_str(include_str!("../../tests/reference/stats.json")).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn numbers(value: &Json) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(value: f64, wanted: f64, relative: f64) {
    assert!((value - wanted).abs() <= relative * wanted.abs() + 1e-13, "{value} is not {wanted}");
}

/// Compares every case of a paired test; p within a relative error, or, if p is drawn, within sampling error.
fn check_paired(name: &str, test: PairedTest) {
    for case in cases(name) {
        let found = paired(&numbers(&case["first"]), &numbers(&case["second"])).unwrap();
        assert_eq!(found.test, test);
        let wanted = case["p"].as_f64().unwrap();
        if test == (PairedTest::SignFlip { exact: false }) {
            // Six standard errors of 9,999 draws, plus the error of the normal approximation.
            let error = 6.0 * (wanted * (1.0 - wanted) / 9_999.0).sqrt() + 0.002;
            assert!((found.p - wanted).abs() < error, "{} is not {wanted}", found.p);
        } else {
            close(found.p, wanted, 1e-10);
        }
        let (low, high) = found.interval.unwrap();
        let ends = numbers(&case["interval"]);
        close(low, ends[0], 1e-9);
        close(high, ends[1], 1e-9);
    }
}

#[test]
fn mcnemars_test_is_that_of_statsmodels() {
    check_paired("mcnemar", PairedTest::McNemar);
}

#[test]
fn few_signs_are_counted_as_scipy_counts_them() {
    check_paired("sign_flip", PairedTest::SignFlip { exact: true });
}

#[test]
fn many_signs_are_drawn_and_come_close_to_the_normal_approximation() {
    check_paired("sign_flip_drawn", PairedTest::SignFlip { exact: false });
}

#[test]
fn documents_are_exchanged_as_scipy_exchanges_them() {
    let parts = |side: &Json| side.as_array().unwrap().iter().map(numbers).collect::<Vec<Vec<f64>>>();
    for case in cases("exchange") {
        let perplexity = |sums: &[f64]| (-sums[0] / sums[1]).exp();
        let found = exchanged(&parts(&case["first"]), &parts(&case["second"]), perplexity).unwrap();
        assert_eq!(found.test, PairedTest::Exchange { exact: true });
        close(found.difference, case["difference"].as_f64().unwrap(), 1e-12);
        close(found.p, case["p"].as_f64().unwrap(), 1e-12);
        let (ends, interval) = (numbers(&case["interval"]), found.interval.unwrap());
        close(interval.0, ends[0], 1e-9);
        close(interval.1, ends[1], 1e-9);
    }
}

#[test]
fn welchs_test_is_that_of_scipy() {
    for case in cases("welch") {
        let found = welch(&numbers(&case["first"]), &numbers(&case["second"])).unwrap();
        let ends = numbers(&case["interval"]);
        close(found.p, case["p"].as_f64().unwrap(), 1e-9);
        close(found.interval.0, ends[0], 1e-8);
        close(found.interval.1, ends[1], 1e-8);
    }
}

#[test]
fn holms_adjustment_is_that_of_statsmodels() {
    for case in cases("holm") {
        for (adjusted, wanted) in holm(&numbers(&case["p"])).into_iter().zip(numbers(&case["adjusted"])) {
            close(adjusted, wanted, 1e-12);
        }
    }
}

#[test]
fn importance_is_the_share_of_the_squares_that_statsmodels_finds() {
    for case in cases("anova") {
        let cells = case["cells"].as_array().unwrap().iter().zip(numbers(&case["values"]));
        let levels = |cell: &Json| numbers(cell).into_iter().map(|level| level as usize).collect();
        let axes = case["axes"].as_array().unwrap().iter().map(|axis| axis.as_str().unwrap().to_owned());
        let grid =
            Factorial { axes: axes.collect(), cells: cells.map(|(cell, y)| (levels(cell), y)).collect() };
        let found = importance(&grid).unwrap();
        assert_eq!(Some(found.complete), case["complete"].as_bool());
        for (axis, share) in case["importance"].as_object().unwrap() {
            let effect = found.axes.iter().find(|effect| effect.axes == [axis.as_str()]).unwrap();
            close(effect.importance, share.as_f64().unwrap(), 1e-9);
        }
        for (axis, added) in case["added"].as_object().into_iter().flatten() {
            let effect = found.axes.iter().find(|effect| effect.axes == [axis.as_str()]).unwrap();
            assert_eq!(effect.levels.len(), added.as_array().unwrap().len());
            for (level, wanted) in effect.levels.iter().zip(numbers(added)) {
                close(level.mean - effect.levels[0].mean, wanted, 1e-9);
            }
        }
        for (pair, share) in case["pairs"].as_object().into_iter().flatten() {
            let effect = found.pairs.iter().find(|PairEffect { axes: (a, b), .. }| {
                format!("{a}:{b}") == *pair || format!("{b}:{a}") == *pair
            });
            close(effect.unwrap().importance, share.as_f64().unwrap(), 1e-9);
        }
    }
}
