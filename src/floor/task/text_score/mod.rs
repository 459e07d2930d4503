//! Compares generated texts with references: BLEU, chrF and TER equal to those of Python's `sacrebleu`, ROUGE equal
//! to that of `rouge_score`, with the options that lm_eval chooses.
//!
//! A corpus metric is computed from sums over documents: `statistics` gives a document's contribution, from the
//! generated text (the hypothesis) and the references; `score` gives the metric of the sums. A document without
//! references is compared with one empty reference.
//!
//! Lower case and categories of characters follow the Unicode tables of Rust and of the crate `regex`. Characters
//! that Unicode got after the tables of the one or the other program can make a difference: letters for TER, symbols
//! for BLEU's international tokenizer.

pub mod bleu;
pub mod chrf;
mod edit_distance;
mod ngrams;
pub mod rouge;
pub mod ter;
mod tokenizer;
