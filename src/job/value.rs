//! Values of configuration keys: what TOML, expressions and axes have in common.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A value of a configuration key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, exact to 64 bits.
    Integer(i64),
    /// Any other finite number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Value>),
}

/// Why a value does not have the type that is wanted.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("expected {wanted}, found {found}")]
pub struct ValueError {
    /// What would have been right, in words.
    pub wanted: String,
    /// What was there, in words.
    pub found: String,
}

impl Value {
    /// The value's type with its value, in words, for error messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Bool(b) => format!("the boolean {b}"),
            Self::Integer(n) => format!("the integer {n}"),
            Self::Float(x) => format!("the number {x}"),
            Self::Text(t) => format!("the text \"{t}\""),
            Self::List(items) if items.is_empty() => "an empty list".to_owned(),
            Self::List(_) => format!("the list {self}"),
        }
    }

    /// The number that this is, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// The text that this is, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As TOML spells it: texts in quotes.
    pub fn to_toml(&self) -> String {
        match self {
            // The common case, kept quick: a grid spells a hundred thousand settings.
            Self::Text(text)
                if text.bytes().all(|b| matches!(b, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) =>
            {
                format!("\"{text}\"")
            }
            Self::Text(text) => toml::Value::String(text.clone()).to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_toml).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Float(x) => format!("{x:?}"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Value {
    /// For people: texts bare, small and large numbers with an exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => b.fmt(f),
            Self::Integer(n) => n.fmt(f),
            Self::Float(x) if *x != 0.0 && (x.abs() < 1e-3 || x.abs() >= 1e9) => write!(f, "{x:e}"),
            Self::Float(x) => x.fmt(f),
            Self::Text(t) => f.write_str(t),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Integer(n)
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<&str> for Value {
    fn from(t: &str) -> Self {
        Self::Text(t.to_owned())
    }
}
