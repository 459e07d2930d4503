//! Types and ranges of keys.

use crate::jinja::TemplateDate;
use crate::job::value::{Value, ValueError};

/// The type and range of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyKind {
    /// `true` or `false`.
    Bool,
    /// A whole number of at least `min` and at most `max`.
    Integer {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
    },
    /// A finite number with `min` ≤ x ≤ `max`, or `min` < x where `open` is set.
    Number {
        /// Smallest allowed value.
        min: f64,
        /// Largest allowed value.
        max: f64,
        /// Whether `min` itself is refused.
        open: bool,
    },
    /// Any nonempty string.
    Text,
    /// A model: a string.
    Model,
    /// A template: a string.
    Template,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A set of these words; `"all"` stands for every one.
    ChoiceSet(&'static [&'static str]),
    /// A nonempty list of strings.
    TextList,
    /// A set of strings, possibly empty.
    Texts,
    /// Two numbers in [0, 1).
    Betas,
    /// A date as YYYY-MM-DD.
    Date,
}

/// The type of a value in expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Bool,
    /// Any number.
    Number,
    /// A string.
    Text,
    /// A list of numbers.
    Numbers,
    /// A list of strings.
    Texts,
}

impl ValueType {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Numbers => "a list of numbers",
            Self::Texts => "a list of strings",
        }
    }
}

pub(super) const fn integer(min: i64, max: i64) -> KeyKind {
    KeyKind::Integer { min, max }
}

pub(super) const fn number(min: f64, max: f64) -> KeyKind {
    KeyKind::Number { min, max, open: false }
}

/// A number above 0.
pub(super) const fn positive(max: f64) -> KeyKind {
    KeyKind::Number { min: 0.0, max, open: true }
}

impl KeyKind {
    /// The accepted values, in words.
    pub fn expected(&self) -> String {
        let words = |list: &[&str]| list.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
        match *self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { min, max: i64::MAX } => format!("a whole number of at least {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max, open: true } => format!("a number above {min} and at most {max}"),
            Self::Number { min, max, open: false } => format!("a number from {min} to {max}"),
            Self::Text | Self::Model | Self::Template => "a string that is not empty".to_owned(),
            Self::Choice(list) => format!("one of {}", words(list)),
            Self::ChoiceSet(list) => {
                format!("\"all\", \"all-linear\", or a list of {} (or of q_proj, v_proj, …)", words(list))
            }
            Self::TextList | Self::Texts => "a list of strings".to_owned(),
            Self::Betas => "two numbers from 0 to below 1".to_owned(),
            Self::Date => "a date such as \"2025-01-01\"".to_owned(),
        }
    }

    /// Its type in expressions.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Bool => ValueType::Bool,
            Self::Integer { .. } | Self::Number { .. } => ValueType::Number,
            Self::Text | Self::Model | Self::Template | Self::Choice(_) | Self::Date => ValueType::Text,
            Self::ChoiceSet(_) | Self::TextList | Self::Texts => ValueType::Texts,
            Self::Betas => ValueType::Numbers,
        }
    }

    /// Candidate words for a typo's suggestion.
    pub fn words(&self) -> &'static [&'static str] {
        match self {
            Self::Choice(list) | Self::ChoiceSet(list) => list,
            _ => &[],
        }
    }

    /// Checks a value and normalizes it: integers become floats where numbers are expected, sets are sorted (words in
    /// the table's order), `"all"` is expanded. Errors: [`ValueError`].
    pub fn check(&self, value: &Value) -> Result<Value, ValueError> {
        self.accept(value).ok_or_else(|| ValueError { wanted: self.expected(), found: value.describe() })
    }

    fn accept(&self, value: &Value) -> Option<Value> {
        match (*self, value) {
            (Self::Bool, Value::Bool(_)) => Some(value.clone()),
            (Self::Integer { min, max }, Value::Integer(n)) => (min..=max).contains(n).then(|| value.clone()),
            (Self::Number { min, max, open }, value) => {
                let x = value.as_f64()?;
                let above = if open { x > min } else { x >= min };
                // Adding 0 turns −0 into 0, so equal numbers have one form.
                (x.is_finite() && above && x <= max).then_some(Value::Float(x + 0.0))
            }
            (Self::Text | Self::Model | Self::Template, Value::Text(t)) => {
                (!t.trim().is_empty()).then(|| value.clone())
            }
            (Self::Date, Value::Text(t)) => TemplateDate::parse(t).map(|date| Value::Text(date.to_string())),
            (Self::Choice(list), Value::Text(t)) => list.contains(&t.as_str()).then(|| value.clone()),
            (Self::ChoiceSet(list), Value::Text(t)) if t == ALL_LINEAR => {
                // PEFT excludes the head.
                Some(Value::List(
                    list.iter().filter(|word| **word != "head").map(|w| Value::from(*w)).collect(),
                ))
            }
            (Self::ChoiceSet(list), Value::Text(t)) if t == "all" => {
                Some(Value::List(list.iter().map(|w| Value::from(*w)).collect()))
            }
            (Self::ChoiceSet(list), Value::List(items)) => choice_set(list, items),
            (Self::TextList, Value::List(items)) => texts(items).filter(|_| !items.is_empty()),
            (Self::Texts, Value::List(items)) => texts(items),
            (Self::Betas, Value::List(items)) => {
                let numbers: Vec<f64> = items.iter().map(Value::as_f64).collect::<Option<_>>()?;
                let good = numbers.len() == 2 && numbers.iter().all(|x| (0.0..1.0).contains(x));
                good.then(|| Value::List(numbers.into_iter().map(Value::Float).collect()))
            }
            _ => None,
        }
    }
}

fn texts(items: &[Value]) -> Option<Value> {
    let good = items.iter().all(|item| item.as_text().is_some_and(|text| !text.trim().is_empty()));
    let twice = items.iter().enumerate().any(|(at, item)| items[..at].contains(item));
    (good && !twice).then(|| Value::List(items.to_vec()))
}

/// PEFT's name for every linear layer except the head.
const ALL_LINEAR: &str = "all-linear";
/// PEFT's module names, by layer kind.
const MODULES: &[(&str, &[&str])] = &[
    ("query", &["q_proj"]),
    ("key", &["k_proj"]),
    ("value", &["v_proj"]),
    ("projection", &["o_proj"]),
    ("mlp", &["gate_proj", "up_proj", "down_proj"]),
    ("head", &["lm_head"]),
];

/// The layers in a list of words or module names, in the table's order. None: an unknown name, or only some of the
/// modules that are adapted together.
fn choice_set(list: &'static [&'static str], items: &[Value]) -> Option<Value> {
    let texts: Vec<&str> = items.iter().map(Value::as_text).collect::<Option<_>>()?;
    let modules =
        |word: &str| MODULES.iter().find(|(layer, _)| *layer == word).map_or(&[][..], |(_, names)| *names);
    let is_known = |text: &&str| list.iter().any(|word| word == text || modules(word).contains(text));
    if texts.is_empty() || !texts.iter().all(is_known) {
        return None;
    }
    let mut chosen = Vec::new();
    for word in list {
        let named = modules(word).iter().filter(|name| texts.contains(name)).count();
        if texts.contains(word) || (named > 0 && named == modules(word).len()) {
            chosen.push(Value::from(*word));
        } else if named > 0 {
            return None;
        }
    }
    Some(Value::List(chosen))
}
