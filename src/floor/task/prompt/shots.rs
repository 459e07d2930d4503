//! Few-shot examples, selected as in lm_eval.

use crate::data::Row;
use crate::python::PythonRandom;
use crate::task::definition::task::{Sampler, Shots};

/// Examples for successive documents: a random sampler keeps its state.
pub(in crate::task) struct Examples<'a> {
    shots: &'a Shots,
    pool: &'a [Row],
    random: PythonRandom,
}

impl<'a> Examples<'a> {
    pub(in crate::task) fn new(shots: &'a Shots, pool: &'a [Row], seed: u64) -> Self {
        Self { shots, pool, random: PythonRandom::new(seed) }
    }

    /// The examples of a document. Error: too few available.
    pub(in crate::task) fn of(&mut self, document: &Row) -> Result<Vec<&'a Row>, String> {
        let count = self.shots.count as usize;
        if count == 0 {
            return Ok(Vec::new());
        }
        let is_document = |row: &&Row| self.shots.excludes_own && *row == document;
        let few = || format!("{count} examples requested, {} available", self.pool.len());
        let mut chosen: Vec<&Row> = match self.shots.sampler {
            Sampler::FirstN => self.pool.iter().filter(|row| !is_document(row)).collect(),
            Sampler::Random => {
                // One extra, so the document itself can be removed.
                let drawn = count + usize::from(self.shots.excludes_own);
                let places = self.random.sample(self.pool.len(), drawn).ok_or_else(few)?;
                let rows: Vec<&Row> =
                    places.into_iter().map(|at| &self.pool[at]).filter(|row| !is_document(row)).collect();
                if rows.len() < count {
                    // Equal documents were removed too: draw from the remaining ones.
                    let others: Vec<&Row> = self.pool.iter().filter(|row| !is_document(row)).collect();
                    let places = self.random.sample(others.len(), count).ok_or_else(few)?;
                    places.into_iter().map(|at| others[at]).collect()
                } else {
                    rows
                }
            }
        };
        if chosen.len() < count {
            return Err(few());
        }
        chosen.truncate(count);
        Ok(chosen)
    }
}
