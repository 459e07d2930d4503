//! A document ready to be scored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::Row;
use crate::task::prompt::request::Request;

/// The gold answer of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gold {
    /// Indices of the correct choices, counted from 0; usually one.
    Choices(Vec<usize>),
    /// The only continuation.
    Target,
    /// Whether each choice is true.
    True(Vec<bool>),
    /// The target of a generated answer.
    Answer(Value),
    /// Several targets of a generated answer, any of which is right.
    Answers(Vec<Value>),
    /// A whole text, and the divisors of its log-likelihood.
    Text {
        /// Whitespace-separated pieces.
        words: usize,
        /// Bytes of UTF-8.
        bytes: usize,
    },
}

/// A document ready to be scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its index in the task, counted from 0.
    pub id: usize,
    /// One request per choice, followed by each choice without a context if a metric needs it; or one for the target.
    pub requests: Vec<Request>,
    /// The choices as in the document, without delimiter; empty without choices.
    pub choices: Vec<String>,
    /// The gold answer.
    pub gold: Gold,
    /// Its source row.
    pub row: Row,
    /// Its target, printed as in Python.
    pub target: String,
    /// Whether one of its examples has the same question.
    pub is_shown: bool,
}

impl Default for Document {
    fn default() -> Self {
        let (requests, choices, row) = (Vec::new(), Vec::new(), Row::new());
        Self { id: 0, requests, choices, gold: Gold::Target, row, target: String::new(), is_shown: false }
    }
}
