//! The wants of sweeps for a job: scores, samples, and its position in the sweep.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::JobOrder;
use crate::job::{Digest, ScoreKey, Softmax};

/// The wants of a sweep for a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepWants {
    /// The sweep's label of the job.
    pub label: String,
    /// Jobs of a higher priority run first.
    pub priority: i64,
    /// Milliseconds since 1970 when the sweep's version was submitted: sweeps of the same priority run in this order.
    pub submitted_ms: i64,
    /// The job's position in the sweep.
    pub position: u64,
    /// The scores.
    pub tasks: Vec<OrderedTask>,
    /// File name of the prompts in the cache; none without samples.
    pub samples: Option<String>,
}

/// A task to score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedTask {
    /// Its name.
    pub task: String,
    /// The key of the scores.
    pub key: ScoreKey,
    /// File name of the documents in the cache.
    pub documents: String,
    /// Number of documents.
    pub count: u64,
    /// Tokens of their requests, each shared prefix once.
    pub tokens: u64,
    /// Dtype in which log-likelihoods are computed.
    pub softmax: Softmax,
    /// One request at a time, no prefix shared.
    #[serde(default)]
    pub exact: bool,
}

/// Prompts that a job answers, as a file of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedSamples {
    /// The prompts.
    pub samples: Vec<OrderedSample>,
    /// Tokens that end an answer.
    pub stop: Vec<u32>,
}

/// A prompt to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedSample {
    /// Digest of the prompt and the length: an existing answer is not generated again.
    pub key: Digest,
    /// Its position in its sweep.
    pub position: u64,
    /// The prompt as the model reads it.
    pub prompt: String,
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// The row's own response; none for a prompt from a sweep file.
    pub wanted: Option<String>,
    /// Most tokens per answer.
    pub max_tokens: u64,
}

impl OrderedSamples {
    /// The content of the file and its name, which is the digest.
    pub fn to_file(&self) -> (String, Vec<u8>) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        (format!("{}.samples", Digest::of(&bytes).prefix(32)), bytes)
    }
}

impl JobOrder {
    /// The wants of the sweep that comes first: by priority, then by time of submission. None: no sweep wants it any more.
    fn first(&self) -> Option<(&String, &SweepWants)> {
        let rank = |wants: &SweepWants| (std::cmp::Reverse(wants.priority), wants.submitted_ms);
        self.sweeps.iter().min_by_key(|(name, wants)| (rank(wants), *name))
    }

    /// Its position in the sweep that wants it first.
    pub fn position(&self) -> u64 {
        self.first().map_or(u64::MAX, |(_, wants)| wants.position)
    }

    /// The turn of its sweep: by priority, then by submission.
    pub fn turn(&self) -> (std::cmp::Reverse<i64>, i64) {
        let first = self.first().map(|(_, wants)| wants);
        first.map_or((std::cmp::Reverse(i64::MIN), i64::MAX), |wants| {
            (std::cmp::Reverse(wants.priority), wants.submitted_ms)
        })
    }

    /// Its priority.
    pub fn priority(&self) -> i64 {
        self.turn().0.0
    }

    /// The sweep that wants it first; empty if there is none.
    pub fn sweep(&self) -> &str {
        self.first().map_or("", |(name, _)| name)
    }

    /// The label in that sweep.
    pub fn label(&self) -> &str {
        self.first().map_or(self.id.as_str(), |(_, wants)| &wants.label)
    }

    /// The scores that any sweep wants, without duplicates.
    pub fn tasks(&self) -> impl Iterator<Item = &OrderedTask> {
        let mut seen = HashSet::new();
        let tasks = self.sweeps.values().flat_map(|wants| &wants.tasks);
        tasks.filter(move |task| seen.insert(task.key))
    }

    /// The prompt files of all sweeps.
    pub fn samples(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        let files = self.sweeps.values().filter_map(|wants| wants.samples.as_deref());
        files.filter(move |file| seen.insert(*file))
    }

    /// The cache files that it reads.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        let documents = self.tasks().map(|task| task.documents.as_str());
        self.rows().into_iter().chain(documents).chain(self.samples())
    }

    /// This order merged with the other sweeps' wants from the job's previous order. A sweep with unchanged wants keeps its turn.
    pub fn joined(mut self, earlier: Self) -> Self {
        for (name, wants) in earlier.sweeps {
            match self.sweeps.get_mut(&name) {
                None => drop(self.sweeps.insert(name, wants)),
                Some(new) => {
                    let same = SweepWants { submitted_ms: new.submitted_ms, ..wants.clone() } == *new;
                    new.submitted_ms = if same { wants.submitted_ms } else { new.submitted_ms };
                }
            }
        }
        self
    }
}
