//! `[axes]` and `[zip.*]`.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use toml::de::DeValue;

use super::{Item, Name, Parser};
use crate::job::{Key, Value};
use crate::sweep_file::error::Problem;
use crate::sweep_file::sweep::{Axis, Zip};

/// The text of a number, in which zero has no sign: both zeros are equal.
fn without_sign_of_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.parse() == Ok(0.0) => rest.to_owned(),
        _ => text,
    }
}

impl Parser<'_> {
    pub(super) fn axis(&mut self, name: &Name<'_>, item: &Item<'_>) {
        let Some(key) = self.key(name.get_ref(), name.span()) else { return };
        let Some(values) = self.values(key, item) else { return };
        // By their text, since an axis may have 100,000 values; those of one key are of one kind.
        let mut seen = HashSet::new();
        for (value, span) in &values {
            if !seen.insert(without_sign_of_zero(value.to_string())) {
                let (path, value) = (key.path.to_owned(), value.to_string());
                self.problem(Problem::TwiceInAxis { path, value }, span.clone());
            }
        }
        let values = values.into_iter().map(|(value, _)| value).collect();
        self.axes.push(Axis { key, values, span: name.span() });
    }

    pub(super) fn zip(&mut self, name: &Name<'_>, item: &Item<'_>) {
        let DeValue::Table(table) = item.get_ref() else {
            return self.form(
                name.get_ref(),
                "no section",
                "a pair as [zip.name] with a list for each key",
                item.span(),
            );
        };
        let mut columns: Vec<(&'static Key, Vec<Value>, usize)> = Vec::new();
        for (path, item) in table {
            let Some(key) = self.key(path.get_ref(), path.span()) else { continue };
            let Some(values) = self.values(key, item) else { continue };
            columns.push((key, values.into_iter().map(|(value, _)| value).collect(), path.span().start));
        }
        columns.sort_by_key(|(_, _, start)| *start);
        let columns: Vec<(&'static Key, Vec<Value>)> =
            columns.into_iter().map(|(key, values, _)| (key, values)).collect();
        let Some((first, values)) = columns.first() else {
            return self.problem(Problem::EmptyAxis { path: format!("zip.{}", name.get_ref()) }, name.span());
        };
        let (first, wanted) = (first.path.to_owned(), values.len());
        let unequal = columns.iter().find(|(_, values)| values.len() != wanted);
        if let Some((key, values)) = unequal {
            let (name_text, path) = (name.get_ref().to_string(), key.path.to_owned());
            let found = values.len();
            return self
                .problem(Problem::ZipLength { name: name_text, path, found, first, wanted }, name.span());
        }
        self.zips.push(Zip { name: name.get_ref().as_ref().into(), columns, span: name.span() });
    }

    /// The checked values of an axis with their locations. `None`: not a list, empty, or a value that the key does not accept.
    fn values(&mut self, key: &'static Key, item: &Item<'_>) -> Option<Vec<(Value, Range<usize>)>> {
        let path = key.path;
        let DeValue::Array(items) = item.get_ref() else {
            self.form(path, "no list", "an axis as a list of values", item.span());
            return None;
        };
        if items.is_empty() {
            self.problem(Problem::EmptyAxis { path: path.to_owned() }, item.span());
            return None;
        }
        let values: Vec<Option<(Value, Range<usize>)>> =
            items.iter().map(|item| self.value(key, item).map(|value| (value, item.span()))).collect();
        values.into_iter().collect()
    }

    /// Only one of axes, pairs and expressions may control a key; rules set only keys that none of them controls.
    pub(super) fn check_control(&mut self) {
        let mut controlled: BTreeMap<&'static str, &'static str> = BTreeMap::new();
        let axes = self.axes.iter().map(|axis| (axis.key, "[axes]", axis.span.clone()));
        let zips = self
            .zips
            .iter()
            .flat_map(|zip| zip.columns.iter().map(|(key, _)| (*key, "[zip]", zip.span.clone())));
        let derived = self.derive.iter().map(|derive| (derive.key, "[derive]", derive.span.clone()));
        let controls: Vec<(&Key, &'static str, Range<usize>)> = axes.chain(zips).chain(derived).collect();
        for (key, by, span) in controls {
            if let Some(first) = controlled.insert(key.path, by) {
                let path = key.path.to_owned();
                self.problem(Problem::SetTwice { path, first, second: by }, span);
            }
        }
        let rules = self
            .when
            .iter()
            .flat_map(|rule| rule.set.iter().map(|(key, _)| (key.path, rule.condition.span.clone())));
        let rules: Vec<(&'static str, Range<usize>)> = rules.collect();
        for (path, span) in rules {
            if let Some(first) = controlled.get(path) {
                self.problem(Problem::SetTwice { path: path.to_owned(), first, second: "[[when]]" }, span);
            }
        }
        for (first, second) in [("train.epochs", "train.iterations"), ("train.iterations", "train.epochs")] {
            if controlled.contains_key(first)
                && let Some(span) = self.places.get(second).cloned()
            {
                self.problem(Problem::Exclusive { first, second }, span);
            }
        }
    }
}
