//! TOML → [`SweepSpec`]. All problems are collected, then reported in the file's order.

mod axes;
mod options;
mod rules;
mod slurm;

pub(in crate::sweep_file) use options::EVENTS;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, SpecError};
use super::slurm::Slurm;
use super::source::SourceText;
use super::sweep::{
    Axis, Condition, Derive, FinalEval, Keep, KeepAdapters, Notify, SampleSpec, SweepSpec, Track, When, Zip,
};
use crate::job::{Key, Origin, Settings, SweepName, Value, find_key, nearest_key, replaced_by};

/// Sections that hold configuration keys.
const SECTIONS: &[&str] = &["train", "lora"];
/// Keys of the root that `[eval]` takes too.
const OF_EVAL: &[&str] = &[
    "num_fewshot",
    "limit",
    "objective",
    "prompt_profile",
    "softmax",
    "apply_chat_template",
    "fewshot_as_multiturn",
    "system_instruction",
    "gen_kwargs",
];
/// Other names at the root.
const ROOT_WORDS: &[&str] = &[
    "name",
    "train",
    "lora",
    "axes",
    "zip",
    "derive",
    "when",
    "exclude",
    "keep",
    "final",
    "samples",
    "notify",
    "track",
    "slurm",
    "data_sets",
];

type Item<'a> = Spanned<DeValue<'a>>;
type Name<'a> = Spanned<std::borrow::Cow<'a, str>>;

fn read_stdin() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)?;
    Ok(bytes)
}

impl SweepSpec {
    /// Reads and checks a file, or standard input if the path is `-`. Errors: see [`SpecError`]; all problems of the file at once.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let bytes = if path == Path::new("-") { read_stdin() } else { std::fs::read(path) };
        let bytes = bytes.map_err(|source| SpecError::Io { path: path.to_owned(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let bytes = error.as_bytes();
            let found = match bytes {
                [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "UTF-16".to_owned(),
                _ => {
                    let at = error.utf8_error().valid_up_to();
                    let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
                    format!("an 8-bit encoding such as Latin-1 (byte 0x{:02X} in line {line})", bytes[at])
                }
            };
            SpecError::Encoding { path: path.to_owned(), found }
        })?;
        Self::parse(SourceText::new(path, &text))
    }

    /// Checks the content of a file. Errors: as [`SweepSpec::read`].
    pub fn parse(source: SourceText) -> Result<Self, SpecError> {
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
        if table.get_ref().is_empty() {
            let problem = Problem::Empty(vec!["name", "model", "data"]);
            return Err(SpecError::Problems {
                source_text: Box::new(source),
                problems: vec![(problem, 0..0)],
            });
        }
        let mut parser = Parser::new(&source);
        parser.root(table.get_ref());
        parser.check_control();
        parser.check_required();
        let derive = parser.order_derived();
        match parser.name.take() {
            Some(name) if parser.problems.is_empty() => {
                parser.axes.sort_by_key(|axis| axis.span.start);
                parser.zips.sort_by_key(|zip| zip.span.start);
                Ok(Self {
                    name,
                    settings: parser.settings,
                    trains: parser.trains,
                    axes: parser.axes,
                    zips: parser.zips,
                    when: parser.when,
                    derive,
                    exclude: parser.exclude,
                    keep: parser.keep,
                    final_eval: parser.final_eval,
                    samples: parser.samples,
                    notify: parser.notify,
                    track: parser.track,
                    slurm: parser.slurm,
                    data_sets: parser.data_sets,
                    notes: parser.notes,
                    source,
                })
            }
            _ => {
                let mut problems = parser.problems;
                problems.sort_by_key(|(_, span)| span.start);
                let source = source.without(&parser.secrets);
                Err(SpecError::Problems { source_text: Box::new(source), problems })
            }
        }
    }

    /// Overrides a key for every job, as `--set key=value` does: replaces an axis, pair or expression of that key. The value is TOML, or
    /// a bare string. Error: an unknown key or a value that it does not accept.
    pub fn set(&mut self, path: &str, text: &str) -> Result<(), Problem> {
        let unknown =
            || Problem::UnknownKey { path: path.to_owned(), nearest: nearest_key(path).map(str::to_owned) };
        let key = find_key(path).ok_or_else(unknown)?;
        let value = DeValue::parse(text).ok().and_then(|value| plain(value.get_ref()).ok());
        let value = value.unwrap_or_else(|| Value::Text(text.to_owned()));
        let checked = checked(key, &value)?;
        self.axes.retain(|axis| axis.key.path != key.path);
        self.derive.retain(|derive| derive.key.path != key.path);
        for zip in &mut self.zips {
            zip.columns.retain(|(column, _)| column.path != key.path);
        }
        self.zips.retain(|zip| !zip.is_empty());
        for rule in &mut self.when {
            rule.set.retain(|(set, _)| set.path != key.path);
        }
        if path == "train.iterations" {
            self.settings.unset("train.epochs");
        }
        self.settings.set(key, checked, Origin::CommandLine);
        Ok(())
    }
}

struct Parser<'a> {
    source: &'a SourceText,
    name: Option<SweepName>,
    settings: Settings,
    trains: bool,
    axes: Vec<Axis>,
    zips: Vec<Zip>,
    when: Vec<When>,
    derive: Vec<Derive>,
    exclude: Vec<Condition>,
    keep: Keep,
    final_eval: Option<FinalEval>,
    samples: Option<SampleSpec>,
    notify: Option<Notify>,
    slurm: Option<Slurm>,
    track: Option<Track>,
    data_sets: BTreeMap<String, PathBuf>,
    /// Byte range of each key that the root and the sections set.
    places: BTreeMap<&'static str, Range<usize>>,
    problems: Vec<(Problem, Range<usize>)>,
    /// Valid constructs that should be written differently.
    notes: Vec<String>,
    /// Byte ranges that no message may show.
    secrets: Vec<Range<usize>>,
}

impl<'a> Parser<'a> {
    fn new(source: &'a SourceText) -> Self {
        Self {
            source,
            name: None,
            settings: Settings::new(),
            trains: true,
            axes: Vec::new(),
            zips: Vec::new(),
            when: Vec::new(),
            derive: Vec::new(),
            exclude: Vec::new(),
            keep: Keep { adapters: KeepAdapters::All, max_disk: None },
            final_eval: None,
            samples: None,
            notify: None,
            slurm: None,
            track: None,
            data_sets: BTreeMap::new(),
            places: BTreeMap::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            secrets: Vec::new(),
        }
    }

    fn problem(&mut self, problem: Problem, span: Range<usize>) {
        self.problems.push((problem, span));
    }

    fn form(&mut self, path: &str, found: &'static str, wanted: &'static str, span: Range<usize>) {
        self.problem(Problem::Form { path: path.to_owned(), found, wanted }, span);
    }

    fn root(&mut self, root: &DeTable<'_>) {
        for (name, item) in root {
            let path = name.get_ref().as_ref();
            match (path, item.get_ref()) {
                ("name", value) => self.read_name(value, item.span()),
                ("train", DeValue::Boolean(trains)) => self.trains = *trains,
                (section, DeValue::Table(table)) if SECTIONS.contains(&section) => {
                    for (name, item) in table {
                        self.setting(&format!("{section}.{}", name.get_ref()), name.span(), item);
                    }
                }
                ("eval", DeValue::Table(table)) => self.read_eval(table),
                ("axes", DeValue::Table(table)) => {
                    table.iter().for_each(|(name, item)| self.axis(name, item))
                }
                ("zip", DeValue::Table(table)) => table.iter().for_each(|(name, item)| self.zip(name, item)),
                ("derive", DeValue::Table(table)) => {
                    table.iter().for_each(|(name, item)| self.derived(name, item))
                }
                ("when", DeValue::Array(rules)) => rules.iter().for_each(|rule| self.when_rule(rule)),
                ("exclude", DeValue::Array(rules)) => rules.iter().for_each(|rule| self.exclude_rule(rule)),
                ("keep", DeValue::Table(table)) => self.read_keep(table),
                ("final", DeValue::Table(table)) => self.read_final(table, item.span()),
                ("samples", DeValue::Table(table)) => self.read_samples(table, item.span()),
                ("notify", DeValue::Table(table)) => self.read_notify(table),
                ("track", DeValue::Table(table)) => self.read_track(table),
                ("slurm", DeValue::Table(table)) => self.read_slurm(table, item.span()),
                ("data_sets", DeValue::Table(table)) => self.read_data_sets(table),
                ("when" | "exclude", _) => {
                    self.form(path, "no list of rules", "each rule as [[when]] or [[exclude]]", item.span())
                }
                (word, _) if ROOT_WORDS.contains(&word) => {
                    self.form(path, "no section", "it as a section, [name] with its keys below", item.span());
                }
                (path, _) => self.setting(path, name.span(), item),
            }
        }
    }

    /// `[eval]`: the tasks, and keys of the root that decide how they are scored.
    fn read_eval(&mut self, table: &DeTable<'_>) {
        for (name, item) in table {
            match name.get_ref().as_ref() {
                "tasks" => self.setting("eval", name.span(), item),
                key if OF_EVAL.contains(&key) => self.setting(key, name.span(), item),
                other => {
                    let nearest = OF_EVAL.iter().min_by_key(|key| strsim::levenshtein(key, other));
                    let nearest = nearest.map(|key| format!("eval.{key}"));
                    self.problem(Problem::UnknownKey { path: format!("eval.{other}"), nearest }, name.span());
                }
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
            self.problem(Problem::UnknownKey { path: path.to_owned(), nearest: nearest_name(path) }, span);
        }
        if let Some(path_now) = replaced_by(path) {
            self.notes.push(format!("'{path}' is now '{path_now}'; both are accepted"));
        }
        key
    }

    /// The checked value of a key, or a problem.
    fn value(&mut self, key: &'static Key, item: &Item<'_>) -> Option<Value> {
        let result = match plain(item.get_ref()) {
            Ok(value) => checked(key, &value),
            Err(found) => {
                let wanted = "a number, a string, true or false, or a list of these";
                Err(Problem::Form { path: key.path.to_owned(), found, wanted })
            }
        };
        result.map_err(|problem| self.problem(problem, item.span())).ok()
    }

    fn setting(&mut self, path: &str, span: Range<usize>, item: &Item<'_>) {
        let Some(key) = self.key(path, span.clone()) else { return };
        if self.settings.value(key.path).is_some() {
            let second = key.other_spelling().unwrap_or(key.path);
            return self.problem(Problem::Exclusive { first: key.path, second }, span);
        }
        self.places.insert(key.path, span);
        if let Some(value) = self.value(key, item) {
            let (line, _) = self.source.place(item.span().start);
            self.settings.set(key, value, Origin::File { line });
        }
    }

    /// A string, or a problem.
    fn text(&mut self, path: &str, item: &Item<'_>) -> Option<String> {
        let text = item.get_ref().as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
        if text.is_none() {
            self.form(path, "not a string", "a string in quotes", item.span());
        }
        text
    }

    /// A list of strings, or a problem.
    fn texts(&mut self, path: &str, item: &Item<'_>) -> Option<Vec<String>> {
        let texts = item.get_ref().as_array().and_then(|items| {
            items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.form(path, "not a list of strings", "a list of strings", item.span());
        }
        texts
    }

    fn check_required(&mut self) {
        let is_told = |problems: &[(Problem, Range<usize>)], path: &str| {
            problems.iter().any(|(problem, _)| match problem {
                Problem::Name { .. } => path == "name",
                Problem::Value { path: p, .. }
                | Problem::Form { path: p, .. }
                | Problem::EmptyAxis { path: p } => p == path,
                _ => false,
            })
        };
        let mut required = vec!["model"];
        if self.trains {
            required.push("data");
        }
        let controlled = |key: &str| {
            self.settings.get(key).is_some()
                || self.axes.iter().any(|axis| axis.key.path == key)
                || self.zips.iter().any(|zip| zip.columns.iter().any(|(column, _)| column.path == key))
                || self.derive.iter().any(|derive| derive.key.path == key)
        };
        let mut missing: Vec<&str> = required.into_iter().filter(|key| !controlled(key)).collect();
        if self.name.is_none() {
            missing.insert(0, "name");
        }
        for path in missing {
            if !is_told(&self.problems, path) {
                self.problem(Problem::Missing { path: path.to_owned() }, 0..0);
            }
        }
        if let (Some(_), Some(epochs)) =
            (self.places.get("train.iterations"), self.places.get("train.epochs"))
        {
            let (first, second) = ("train.iterations", "train.epochs");
            let span = epochs.clone();
            self.problem(Problem::Exclusive { first, second }, span);
        }
    }
}

/// The nearest key, or the nearest other name at the root.
fn nearest_name(path: &str) -> Option<String> {
    let near = |word: &&&str| strsim::damerau_levenshtein(word, path) <= 1;
    let word = ROOT_WORDS.iter().find(near).map(|word| (*word).to_owned());
    word.or_else(|| nearest_key(path).map(str::to_owned))
}

/// The value in its key's canonical form. Error: [`Problem::Value`] with the nearest word.
fn checked(key: &'static Key, value: &Value) -> Result<Value, Problem> {
    key.kind.check(value).map_err(|error| {
        let words: Vec<&str> = match value {
            Value::Text(text) => vec![text],
            Value::List(items) => items.iter().filter_map(Value::as_text).collect(),
            _ => Vec::new(),
        };
        let unknown = words.into_iter().find(|word| !key.kind.words().contains(word)).unwrap_or_default();
        let near =
            key.kind.words().iter().map(|word| (strsim::damerau_levenshtein(word, unknown), *word)).min();
        let nearest =
            near.filter(|(d, _)| !unknown.is_empty() && *d <= 1 + unknown.len() / 3).map(|(_, word)| word);
        Problem::Value { path: key.path.to_owned(), error, nearest }
    })
}

/// A TOML value as a configuration value; the error names its type.
fn plain(value: &DeValue<'_>) -> Result<Value, &'static str> {
    Ok(match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            Value::Integer(
                i64::from_str_radix(&digits, number.radix()).map_err(|_| "an integer beyond 64 bits")?,
            )
        }
        DeValue::Float(number) => {
            Value::Float(number.as_str().replace('_', "").parse().map_err(|_| "no number")?)
        }
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| plain(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Datetime(_) => return Err("a date"),
        DeValue::Table(_) => return Err("a table"),
    })
}
