//! Everything a job needs to run, as stored in its queue row: a worker reads no sweep file and plans nothing again.

mod wants;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{BaseForm, Digest, JobConfig, JobId, ModelIdentity, SubjectKey};

pub use wants::{OrderedSample, OrderedSamples, OrderedTask, SweepWants};

/// Version of the stored form. An order with a newer version is not run.
pub const ORDER_VERSION: u32 = 1;

/// A job, ready to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobOrder {
    /// Version of this form.
    pub version: u32,
    /// The job.
    pub id: JobId,
    /// The subject that it scores.
    pub subject: SubjectKey,
    /// Its work.
    pub work: OrderedWork,
    /// The base model.
    pub model: OrderedModel,
    /// The form of the base model.
    pub form: BaseForm,
    /// Training tokens; 0 if it trains nothing.
    pub train_tokens: u64,
    /// Planned training throughput, in tokens per second.
    pub tokens_per_second: f64,
    /// The wants of each sweep, by the sweep's name.
    pub sweeps: BTreeMap<String, SweepWants>,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderedWork {
    /// Scores the base model.
    Base,
    /// Scores an adapter in a folder outside the results folder.
    Adapter {
        /// The folder.
        folder: PathBuf,
    },
    /// Trains an adapter and scores it.
    Train {
        /// The configuration, fully resolved.
        config: Box<JobConfig>,
        /// File name of the encoded rows in the cache.
        rows: String,
        /// Tokens of the longest row.
        longest_row: u64,
    },
}

/// The base model of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OrderedModel {
    /// As the user named it.
    pub name: String,
    /// Where it is.
    pub location: ModelLocation,
    /// Its identity: a model with another identity is not used.
    pub identity: ModelIdentity,
}

/// Where a base model is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelLocation {
    /// A file or folder.
    Path(PathBuf),
    /// The snapshot of a hub model in this machine's cache.
    Hub {
        /// `ORG/NAME`.
        name: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

impl JobOrder {
    /// The configuration of a training; none for a job that trains nothing.
    pub fn config(&self) -> Option<&JobConfig> {
        match &self.work {
            OrderedWork::Train { config, .. } => Some(config),
            OrderedWork::Base | OrderedWork::Adapter { .. } => None,
        }
    }

    /// The file name of the encoded rows; none for a job that trains nothing.
    pub fn rows(&self) -> Option<&str> {
        match &self.work {
            OrderedWork::Train { rows, .. } => Some(rows),
            OrderedWork::Base | OrderedWork::Adapter { .. } => None,
        }
    }

    /// The longest row that it trains on, in tokens.
    pub fn longest_row(&self) -> u64 {
        match &self.work {
            OrderedWork::Train { longest_row, .. } => *longest_row,
            OrderedWork::Base | OrderedWork::Adapter { .. } => 0,
        }
    }

    /// The subject's digest.
    pub fn key(&self) -> Digest {
        self.subject.digest()
    }
}
