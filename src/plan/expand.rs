//! Axes × settings → the settings of each job.

use crate::job::{KEYS, Origin, Settings, Value};
use crate::spec::{EvalError, MAX_JOBS, Problem, SpecError, SweepSpec};

/// The resolved settings of every job, the last axis varying fastest: defaults, then the file, then axes, then derived
/// keys. Errors: too many jobs (refused before any is made), a derived value that its key does not take, a batch that
/// micro-batches do not divide.
pub fn expand(spec: &SweepSpec) -> Result<Vec<Settings>, SpecError> {
    let sizes = spec.axes.iter().map(|axis| axis.values.len() as u64);
    let count = sizes.clone().try_fold(1u64, u64::checked_mul).filter(|count| *count <= MAX_JOBS);
    let Some(count) = count else {
        let exact = sizes.map(u128::from).try_fold(1u128, u128::checked_mul);
        let count = exact.map_or_else(|| "more than 10^38".to_owned(), |count| count.to_string());
        return Err(spec.error(Problem::TooMany { count }, spec.axes[0].span.clone()));
    };
    let base = defaults(spec);
    (0..count).map(|number| resolve(spec, &base, number)).collect()
}

fn defaults(spec: &SweepSpec) -> Settings {
    let mut settings = Settings::new();
    for key in KEYS {
        if let Some(default) = key.default.and_then(default_value) {
            // The table's own defaults are of their kind; a test walks them all.
            settings.set(key, key.kind.check(&default).unwrap_or(default), Origin::Default);
        }
        if let Some(set) = spec.settings.get(key.path) {
            settings.set(key, set.value.clone(), set.origin.clone());
        }
    }
    settings
}

/// A default as TOML spells it.
fn default_value(text: &str) -> Option<Value> {
    let table: toml::Table = format!("v = {text}").parse().ok()?;
    table.get("v")?.clone().try_into().ok()
}

fn resolve(spec: &SweepSpec, base: &Settings, number: u64) -> Result<Settings, SpecError> {
    let mut settings = base.clone();
    let mut rest = number;
    for axis in spec.axes.iter().rev() {
        let length = axis.values.len() as u64;
        settings.set(axis.key, axis.values[(rest % length) as usize].clone(), Origin::Axis);
        rest /= length;
    }
    for derive in &spec.derive {
        let checked =
            derive.expression.evaluate(&settings).and_then(|value| Ok(derive.key.kind.check(&value)?));
        match checked {
            Ok(value) => settings.set(derive.key, value, Origin::Derived { expression: derive.text.clone() }),
            Err(error) => return Err(evaluation_error(spec, derive.key.path, error, derive.span.clone())),
        }
    }
    let integer = |path| match settings.get(path).map(|setting| &setting.value) {
        Some(Value::Integer(n)) => *n as u64,
        _ => 1,
    };
    let (batch, micro) = (integer("train.batch_size"), integer("train.micro_batch_size"));
    if batch % micro != 0 {
        return Err(spec.error(Problem::Batch { batch, micro }, 0..0));
    }
    Ok(settings)
}

fn evaluation_error(
    spec: &SweepSpec,
    path: &str,
    error: EvalError,
    span: std::ops::Range<usize>,
) -> SpecError {
    spec.error(Problem::Evaluation { path: path.to_owned(), error }, span)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::spec::SourceText;

    fn spec(rest: &str) -> SweepSpec {
        let text = format!("name = 'a'\nmodel = 'm'\ndata = 'd'\n{rest}");
        SweepSpec::parse(SourceText::new(Path::new("a.toml"), &text)).unwrap()
    }

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in KEYS {
            if let Some(text) = key.default {
                let value = default_value(text).unwrap_or_else(|| panic!("{}", key.path));
                assert!(key.kind.check(&value).is_ok(), "{}", key.path);
            }
        }
    }

    #[test]
    fn derived_alpha_follows_the_rank_of_each_cell() {
        let jobs = expand(&spec("[axes]\n'lora.rank' = [8, 16]\n[derive]\n'lora.alpha' = '2 * lora.rank'\n"))
            .unwrap();
        let alphas: Vec<String> =
            jobs.iter().map(|job| job.get("lora.alpha").unwrap().value.to_string()).collect();
        assert_eq!(alphas, ["16", "32"]);
    }

    #[test]
    fn a_product_beyond_any_number_is_refused_before_it_is_made() {
        let values: Vec<String> = (1..=4000).map(|n| n.to_string()).collect();
        let list = values.join(", ");
        let axes = [
            "seed",
            "lora.rank",
            "train.batch_size",
            "train.iterations",
            "train.warmup_steps",
            "train.max_seq_length",
        ];
        let lists: Vec<String> = axes
            .iter()
            .map(|axis| {
                let list = if *axis == "train.max_seq_length" {
                    list.replacen("1, 2, 3, 4, 5, 6, 7, ", "", 1)
                } else {
                    list.clone()
                };
                format!("'{axis}' = [{list}]\n")
            })
            .collect();
        let error = expand(&spec(&format!("[axes]\n{}", lists.concat()))).unwrap_err();
        let SpecError::Problems { problems, .. } = error else { panic!() };
        assert!(matches!(problems[0].0, Problem::TooMany { .. }), "{problems:?}");
    }

    #[test]
    fn a_fraction_where_a_whole_number_is_wanted_is_an_error() {
        let error = expand(&spec("[derive]\n'lora.rank' = 'lora.alpha / 3'\n")).unwrap_err();
        let SpecError::Problems { problems, .. } = error else { panic!() };
        assert!(problems[0].0.to_string().contains("expected a whole number"), "{problems:?}");
    }

    proptest! {
        #[test]
        fn the_expansion_is_exactly_the_product(
            seeds in prop::collection::btree_set(0i64..50, 1..6),
            ranks in prop::collection::btree_set(1i64..50, 1..6),
        ) {
            let list = |set: &BTreeSet<i64>| set.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            let jobs = expand(&spec(&format!("[axes]\nseed = [{}]\n'lora.rank' = [{}]\n", list(&seeds), list(&ranks)))).unwrap();
            let cells: BTreeSet<(String, String)> = jobs.iter().map(|job| {
                let get = |path| job.get(path).unwrap().value.to_string();
                (get("seed"), get("lora.rank"))
            }).collect();
            prop_assert_eq!(jobs.len(), seeds.len() * ranks.len());
            prop_assert_eq!(cells.len(), jobs.len());
        }
    }
}
