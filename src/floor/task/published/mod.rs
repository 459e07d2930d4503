//! Published functions of task files, reimplemented: none of their Python is run.
//!
//! A function is recognized by the SHA-256 of its module's source, or by a pattern that the whole source matches. What
//! it takes from the source, such as the names of languages, is parsed from there as constants.

mod african;
mod arabic;
mod assignment;
mod bbh;
mod boxed;
mod classes;
mod classics;
mod constants;
mod coqa;
mod documents;
mod drop;
mod expression;
mod field_function;
mod fields;
mod function;
mod hashes;
mod hendrycks_math;
mod ifeval;
mod likelihood;
mod minerva_math;
mod mlqa;
mod mmlu_pro;
mod number_words;
mod patterns;
mod samples;
mod shuffled;
mod squad;
mod subjects;
mod table;
mod text;
mod truthfulqa;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use field_function::FieldFunction;
pub use function::{AggregationFunction, FilterFunction, ResultsFunction, RowsFunction};
pub use mlqa::Language;
pub use samples::SamplesFunction;
pub use squad::{exact as squad_exact, f1 as squad_f1, normalized as squad_normalized};
pub use table::PUBLISHED;
pub(in crate::task) use text::{capitalized, cleaned, strip, uncapitalized};
pub use truthfulqa::Rouge;

pub use crate::data::Row;
use crate::job::Digest;

/// Metrics of a document by name. A value is a number, a Boolean or a list of them.
pub type Scores = Vec<(&'static str, Value)>;

/// What a function computes, by its use in a task file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answered {
    /// `process_docs`.
    Rows(RowsFunction),
    /// `doc_to_text`, `doc_to_target`, `doc_to_choice`, also of `fewshot_config`.
    Field(FieldFunction),
    /// `fewshot_config.samples`.
    Samples(SamplesFunction),
    /// `process_results`.
    Results(ResultsFunction),
    /// `aggregation` of a metric.
    Aggregation(AggregationFunction),
    /// A filter's `function`.
    Filter(FilterFunction),
}

/// A recognized function with what it takes from its module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recognized {
    /// The function.
    pub answered: Answered,
    /// Its constants by name.
    pub constants: Row,
}

/// Sentence-level scores of a text, written elsewhere. Arguments: reference, response.
#[derive(Clone, Copy)]
pub struct TextScores<'a> {
    /// BLEU in percent (sacreBLEU, international tokenizer, exponential smoothing).
    pub bleu: &'a dyn Fn(&str, &str) -> f64,
    /// The F-measure of a ROUGE variant in percent.
    pub rouge: &'a dyn Fn(Rouge, &str, &str) -> f64,
}

/// A Python module of a task file.
#[derive(Clone, Copy)]
pub struct Module<'a> {
    /// Its source.
    pub source: &'a str,
    /// The name of its folder, which some modules take a constant from.
    pub folder: &'a str,
    /// Reads another module by its path from the folder, such as `../lang_libs.py`.
    pub beside: &'a dyn Fn(&str) -> Option<String>,
}

impl Module<'_> {
    /// The function of a name, if it is a published one.
    pub fn recognize(&self, name: &str) -> Option<Recognized> {
        let digest = Digest::of(self.source.as_bytes()).to_string();
        let published = PUBLISHED.iter().find(|(known, function, _)| *known == digest && *function == name);
        if let Some((_, _, answered)) = published {
            let constants = constants::of(*answered, self, name)?;
            return Some(Recognized { answered: *answered, constants });
        }
        patterns::recognize(self.source, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_is_in_the_table_once() {
        for (at, (digest, name, _)) in PUBLISHED.iter().enumerate() {
            assert_eq!(digest.len(), 64);
            let again =
                PUBLISHED[..at].iter().any(|(other, function, _)| other == digest && function == name);
            assert!(!again, "{digest} {name}");
        }
    }

    #[test]
    fn a_changed_module_is_unknown() {
        let module = |source| Module { source, folder: "x", beside: &|_| None };
        let paloma = "def doc_to_target(doc):\n    return str(doc[\"text\"])\n";
        let found = module(paloma).recognize("doc_to_target").map(|found| found.answered);
        assert_eq!(found, Some(Answered::Field(FieldFunction::Page)));
        assert_eq!(module(paloma).recognize("doc_to_text"), None);
        assert_eq!(module(&paloma.replace("text", "page")).recognize("doc_to_target"), None);
    }
}
