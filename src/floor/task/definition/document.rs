//! A document ready to be scored.

use serde::{Deserialize, Serialize};

use crate::data::Row;
use crate::task::prompt::request::Request;

/// The right answer of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gold {
    /// The numbers of the right choices, counted from 0; one in most tasks.
    Choices(Vec<usize>),
    /// The one continuation that there is.
    Target,
    /// Which choices are true.
    True(Vec<bool>),
    /// A whole text, and what its log-likelihood is divided by.
    Text {
        /// Pieces between white space.
        words: usize,
        /// Bytes of UTF-8.
        bytes: usize,
    },
}

/// A document ready to be scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its number in the task, counted from 0.
    pub id: usize,
    /// One request for each choice, behind them each choice without a context where a metric wants that; or one for the
    /// target.
    pub requests: Vec<Request>,
    /// The choices as they stand in the document, without delimiter; empty without choices.
    pub choices: Vec<String>,
    /// The right answer.
    pub gold: Gold,
    /// The row that it was made of.
    pub row: Row,
    /// Its target, in Python's spelling.
    pub target: String,
    /// Whether one of its examples asks its question.
    pub is_shown: bool,
}

impl Default for Document {
    fn default() -> Self {
        let (requests, choices, row) = (Vec::new(), Vec::new(), Row::new());
        Self { id: 0, requests, choices, gold: Gold::Target, row, target: String::new(), is_shown: false }
    }
}
