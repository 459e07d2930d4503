//! Rows of named columns, before any syntax: what SQL answers, and what is exported.

use std::fmt::Write;

use serde::Serialize;

/// A value of a frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Datum {
    /// Nothing there.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number, exact to 64 bits.
    Integer(i64),
    /// Any other number; one that is not finite is spelled `null` in JSON.
    Real(f64),
    /// A text.
    Text(String),
}

impl Datum {
    /// A datum, or nothing.
    pub fn maybe<T>(value: Option<T>, kind: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, kind)
    }

    /// As a text, numbers in their shortest exact spelling; empty for nothing and for what is no number.
    pub fn plain(&self) -> String {
        let mut text = String::new();
        self.push_plain(&mut text);
        text
    }

    /// About how many bytes of memory it takes.
    pub(in crate::store) fn size(&self) -> usize {
        let text = if let Self::Text(text) = self { text.len() } else { 0 };
        size_of::<Self>() + text
    }

    /// Adds [`Datum::plain`] to a text.
    pub fn push_plain(&self, out: &mut String) {
        // A string takes every write.
        let _ = match self {
            Self::Null => Ok(()),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Real(number) if !number.is_finite() => Ok(()),
            // With a point or an exponent, so that it reads back as what it is.
            Self::Real(number) => write!(out, "{number:?}"),
            Self::Text(text) => out.write_str(text),
        };
    }
}

/// Rows of named columns; each row is as long as the columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Datum>>,
}
