//! Rows of named columns, independent of any output format: results of SQL queries and exports.

use std::fmt::Write;

use serde::Serialize;

/// A value of a frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Datum {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer, exact to 64 bits.
    Integer(i64),
    /// Any other number; non-finite numbers are `null` in JSON.
    Real(f64),
    /// A string.
    Text(String),
}

impl Datum {
    /// A datum, or null.
    pub fn maybe<T>(value: Option<T>, kind: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, kind)
    }

    /// As a string, numbers in their shortest exact spelling; empty for null and non-finite numbers.
    pub fn plain(&self) -> String {
        let mut text = String::new();
        self.push_plain(&mut text);
        text
    }

    /// Approximate memory in bytes.
    pub(in crate::store) fn size(&self) -> usize {
        let text = if let Self::Text(text) = self { text.len() } else { 0 };
        size_of::<Self>() + text
    }

    /// Appends [`Datum::plain`] to a string.
    pub fn push_plain(&self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Null => Ok(()),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Real(number) if !number.is_finite() => Ok(()),
            // With a point or an exponent, so that it reads back as a float.
            Self::Real(number) => write!(out, "{number:?}"),
            Self::Text(text) => out.write_str(text),
        };
    }
}

/// Rows of named columns; each row is as long as the list of columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Datum>>,
}
