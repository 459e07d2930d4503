//! TOML → [`SweepSpec`].

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, SpecError};
use super::expression::Expression;
use super::source::SourceText;
use crate::job::{Key, Origin, Settings, SweepName, Value, find_key, nearest_key};

/// Keys of the root that are no configuration keys.
const ROOT_ONLY: &[&str] = &["name"];
/// Sections that hold configuration keys.
const SECTIONS: &[&str] = &["train", "lora"];

/// Keys that have one value in a sweep.
const NO_AXIS: &[&str] = &["model", "eval", "limit", "objective", "train.dtype"];

/// An axis: a key and the values that it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The key.
    pub key: &'static Key,
    /// Its values, checked and distinct, at least one.
    pub values: Vec<Value>,
    /// Its place in the text.
    pub span: Range<usize>,
}

/// A key that is computed from others.
#[derive(Debug, Clone, PartialEq)]
pub struct Derive {
    /// The key.
    pub key: &'static Key,
    /// How.
    pub expression: Expression,
    /// The expression as written.
    pub text: String,
    /// Its place in the text.
    pub span: Range<usize>,
}

/// A checked sweep file.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepSpec {
    /// The sweep's name.
    pub name: SweepName,
    /// The file's text.
    pub source: SourceText,
    /// What the root and the sections set.
    pub settings: Settings,
    /// The axes, in the file's order; the last varies fastest.
    pub axes: Vec<Axis>,
    /// Derived keys, each after those that it needs.
    pub derive: Vec<Derive>,
}

impl SweepSpec {
    /// Reads and checks a file. Errors: see [`SpecError`]; all problems of the file at once.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let bytes = std::fs::read(path).map_err(|source| SpecError::Io { path: path.to_owned(), source })?;
        let text = String::from_utf8(bytes).map_err(|_| SpecError::Encoding { path: path.to_owned() })?;
        Self::parse(SourceText::new(path, &text))
    }

    /// Checks a text. Errors: as [`SweepSpec::read`].
    pub fn parse(source: SourceText) -> Result<Self, SpecError> {
        let mut parser = Parser::default();
        let table = match DeTable::parse(source.text()) {
            Ok(table) => table,
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let problem = Problem::Toml { message: error.message().to_owned() };
                return Err(SpecError::Problems {
                    source_text: Box::new(source),
                    problems: vec![(problem, span)],
                });
            }
        };
        parser.root(table.get_ref(), &source);
        let derive = parser.order_derived();
        parser.check_required();
        match parser.name.take() {
            Some(name) if parser.problems.is_empty() => {
                parser.axes.sort_by_key(|axis| axis.span.start);
                Ok(Self { name, settings: parser.settings, axes: parser.axes, derive, source })
            }
            _ => {
                parser.problems.sort_by_key(|(_, span)| span.start);
                Err(SpecError::Problems { source_text: Box::new(source), problems: parser.problems })
            }
        }
    }

    /// The folder that relative paths of the file start from.
    pub fn folder(&self) -> PathBuf {
        let folder = self.source.path().parent().map(Path::to_owned).unwrap_or_default();
        if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }
    }

    /// Overrides a key for every job, as `--set key=value` does: an axis or expression of that key gives way. The value
    /// is TOML, or a bare text. Error: an unknown key or a value that it does not take.
    pub fn set(&mut self, path: &str, text: &str) -> Result<(), Problem> {
        let unknown =
            || Problem::UnknownKey { path: path.to_owned(), nearest: nearest_key(path).map(str::to_owned) };
        let key = find_key(path).ok_or_else(unknown)?;
        let value = DeValue::parse(text).ok().and_then(|value| plain(value.get_ref()).ok());
        let value = value.unwrap_or_else(|| Value::Text(text.to_owned()));
        let checked =
            key.kind.check(&value).map_err(|error| Problem::Value { path: path.to_owned(), error })?;
        self.axes.retain(|axis| axis.key.path != key.path);
        self.derive.retain(|derive| derive.key.path != key.path);
        self.settings.set(key, checked, Origin::CommandLine);
        Ok(())
    }

    /// A problem of this file, as an error.
    pub fn error(&self, problem: Problem, span: Range<usize>) -> SpecError {
        SpecError::Problems { source_text: Box::new(self.source.clone()), problems: vec![(problem, span)] }
    }
}

type Table<'a> = DeTable<'a>;
type Item<'a> = Spanned<DeValue<'a>>;

#[derive(Default)]
struct Parser {
    name: Option<SweepName>,
    settings: Settings,
    axes: Vec<Axis>,
    derive: Vec<Derive>,
    problems: Vec<(Problem, Range<usize>)>,
}

impl Parser {
    fn problem(&mut self, problem: Problem, span: Range<usize>) {
        self.problems.push((problem, span));
    }

    fn root(&mut self, root: &Table<'_>, source: &SourceText) {
        for (name, item) in root {
            match (name.get_ref().as_ref(), item.get_ref()) {
                ("name", value) => self.read_name(value, item.span()),
                (section, DeValue::Table(table)) if SECTIONS.contains(&section) => {
                    for (name, item) in table {
                        self.setting(&format!("{section}.{}", name.get_ref()), name.span(), item, source);
                    }
                }
                ("axes", DeValue::Table(table)) => {
                    table.iter().for_each(|(name, item)| self.axis(name, item));
                }
                ("derive", DeValue::Table(table)) => {
                    table.iter().for_each(|(name, item)| self.derived(name, item));
                }
                (section @ ("train" | "lora" | "axes" | "derive"), _) => {
                    let found = "not a section: write it as [name]";
                    self.problem(Problem::Unusable { path: section.to_owned(), found }, item.span());
                }
                (path, _) => self.setting(path, name.span(), item, source),
            }
        }
    }

    fn read_name(&mut self, value: &DeValue<'_>, span: Range<usize>) {
        let text = value.as_str().unwrap_or_default();
        match SweepName::new(text) {
            Ok(name) => self.name = Some(name),
            Err(_) => self.problem(Problem::Name { name: text.to_owned() }, span),
        }
    }

    fn key(&mut self, path: &str, span: Range<usize>) -> Option<&'static Key> {
        let key = find_key(path);
        if key.is_none() {
            let words = ROOT_ONLY.iter().chain(SECTIONS).chain(&["axes", "derive"]);
            let word = words.copied().find(|word| strsim::damerau_levenshtein(word, path) <= 1);
            let nearest = nearest_key(path).or(word).map(str::to_owned);
            self.problem(Problem::UnknownKey { path: path.to_owned(), nearest }, span);
        }
        key
    }

    /// The checked value of a key, or a problem.
    fn value(&mut self, key: &'static Key, item: &Item<'_>) -> Option<Value> {
        let path = key.path.to_owned();
        let problem = match plain(item.get_ref()) {
            Ok(value) => match key.kind.check(&value) {
                Ok(value) => return Some(value),
                Err(error) => Problem::Value { path, error },
            },
            Err(found) => Problem::Unusable { path, found },
        };
        self.problem(problem, item.span());
        None
    }

    fn setting(&mut self, path: &str, span: Range<usize>, item: &Item<'_>, source: &SourceText) {
        let Some(key) = self.key(path, span) else { return };
        if let Some(value) = self.value(key, item) {
            let (line, _) = source.place(item.span().start);
            self.settings.set(key, value, Origin::File { line });
        }
    }

    fn axis(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, item: &Item<'_>) {
        let Some(key) = self.key(name.get_ref(), name.span()) else { return };
        let path = key.path.to_owned();
        if NO_AXIS.contains(&key.path) {
            return self.problem(Problem::NoAxis { path }, name.span());
        }
        let DeValue::Array(items) = item.get_ref() else {
            let found = "no list: an axis is a list of values";
            return self.problem(Problem::Unusable { path, found }, item.span());
        };
        if items.is_empty() {
            return self.problem(Problem::EmptyAxis { path }, item.span());
        }
        let mut values: Vec<Value> = Vec::new();
        for item in items.iter() {
            let Some(value) = self.value(key, item) else { continue };
            if values.contains(&value) {
                let value = value.to_string();
                self.problem(Problem::TwiceInAxis { path: path.clone(), value }, item.span());
            } else {
                values.push(value);
            }
        }
        self.axes.push(Axis { key, values, span: name.span() });
    }

    fn derived(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, item: &Item<'_>) {
        let Some(key) = self.key(name.get_ref(), name.span()) else { return };
        let path = key.path.to_owned();
        let DeValue::String(text) = item.get_ref() else {
            let found = "no text: write the expression in quotes";
            return self.problem(Problem::Unusable { path, found }, item.span());
        };
        match Expression::parse(text) {
            Ok(expression) => {
                let text = text.to_string();
                self.derive.push(Derive { key, expression, text, span: item.span() });
            }
            Err((error, within)) => {
                // The text starts after one quote; an escape before the place would move it, and expressions need none.
                let start = item.span().start + 1;
                let span = start + within.start..start + within.end;
                self.problem(Problem::Expression { path, error }, span);
            }
        }
    }

    /// Sorts derived keys so that each comes after those that it needs, and finds keys that two things set.
    fn order_derived(&mut self) -> Vec<Derive> {
        let derive = std::mem::take(&mut self.derive);
        for entry in &derive {
            if self.axes.iter().any(|axis| axis.key.path == entry.key.path) {
                let path = entry.key.path.to_owned();
                self.problem(
                    Problem::SetTwice { path, first: "[axes]", second: "[derive]" },
                    entry.span.clone(),
                );
            }
        }
        let mut ordered: Vec<Derive> = Vec::new();
        let mut waiting = derive;
        while !waiting.is_empty() {
            let ready = |entry: &Derive| {
                entry.expression.keys().iter().all(|key| !waiting.iter().any(|other| other.key.path == *key))
            };
            let Some(at) = waiting.iter().position(ready) else {
                let keys = waiting.iter().map(|entry| entry.key.path.to_owned()).collect();
                self.problem(Problem::Cycle { keys }, waiting[0].span.clone());
                break;
            };
            ordered.push(waiting.remove(at));
        }
        ordered
    }

    fn check_required(&mut self) {
        if self.name.is_none()
            && !self.problems.iter().any(|(problem, _)| matches!(problem, Problem::Name { .. }))
        {
            self.problem(Problem::Missing { path: "name" }, 0..0);
        }
        for path in ["model", "data"] {
            let set = self.settings.get(path).is_some() || self.axes.iter().any(|axis| axis.key.path == path);
            let mentioned =
                |problem: &Problem| matches!(problem, Problem::Value { path: p, .. } if p == path);
            if !set && !self.problems.iter().any(|(problem, _)| mentioned(problem)) {
                self.problem(Problem::Missing { path }, 0..0);
            }
        }
    }
}

/// A TOML value as a configuration value; the error says what it is instead.
fn plain(value: &DeValue<'_>) -> Result<Value, &'static str> {
    Ok(match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            Value::Integer(i64::from_str_radix(&digits, number.radix()).map_err(|_| "beyond 64 bits")?)
        }
        DeValue::Float(number) => {
            let parsed: f64 = number.as_str().replace('_', "").parse().map_err(|_| "no number")?;
            Value::Float(parsed)
        }
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| plain(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Datetime(_) => return Err("a date"),
        DeValue::Table(_) => return Err("a table"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "name = 'a'\nmodel = 'm'\ndata = 'd'\n";

    fn parse(rest: &str) -> Result<SweepSpec, SpecError> {
        SweepSpec::parse(SourceText::new(Path::new("a.toml"), &format!("{GOOD}{rest}")))
    }

    fn problems(rest: &str) -> Vec<String> {
        match parse(rest) {
            Err(SpecError::Problems { problems, .. }) => {
                problems.iter().map(|(p, _)| p.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn axes_keep_the_files_order() {
        let spec =
            parse("[axes]\n'train.learning_rate' = [1e-3]\n'lora.rank' = [8, 16]\nseed = [1]\n").unwrap();
        let paths: Vec<&str> = spec.axes.iter().map(|axis| axis.key.path).collect();
        assert_eq!(paths, ["train.learning_rate", "lora.rank", "seed"]);
    }

    #[test]
    fn several_problems_are_told_at_once() {
        let found =
            problems("sead = 1\n[train]\nlearning_rate = -1\n[axes]\nseed = []\n'lora.rank' = [8, 8]\n");
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn one_value_in_two_spellings_is_twice_in_an_axis() {
        assert_eq!(
            problems("[axes]\n'train.learning_rate' = [1e-4, 0.0001]"),
            ["the axis 'train.learning_rate' has 1e-4 twice"]
        );
    }

    #[test]
    fn derived_keys_that_need_each_other_are_a_cycle() {
        let found = problems("[derive]\n'lora.alpha' = 'lora.rank'\n'lora.rank' = 'lora.alpha'\n");
        assert_eq!(found, ["the derived keys need each other: lora.alpha → lora.rank"]);
    }

    #[test]
    fn set_replaces_an_axis() {
        let mut spec = parse("[axes]\nseed = [1, 2]\n").unwrap();
        spec.set("seed", "7").unwrap();
        assert!(spec.axes.is_empty());
        assert_eq!(spec.settings.get("seed").unwrap().value, Value::Integer(7));
        assert!(matches!(spec.set("sed", "7"), Err(Problem::UnknownKey { .. })));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z\"'\\[\\]=., 0-9\n{}]{0,120}") {
            let _ = SweepSpec::parse(SourceText::new(Path::new("a.toml"), &text));
        }
    }
}
