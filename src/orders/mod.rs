//! What a job needs to run, as its row in the queue holds it: whoever claims it reads no sweep file and plans nothing again.

mod wants;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{BaseForm, Digest, JobConfig, JobId, ModelIdentity, SubjectKey};

pub use wants::{OrderedSample, OrderedSamples, OrderedTask, SweepWants};

/// Version of the stored form. An order of a newer version is not run.
pub const ORDER_VERSION: u32 = 1;

/// A job, ready to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobOrder {
    /// Version of this form.
    pub version: u32,
    /// The job.
    pub id: JobId,
    /// What it produces scores of.
    pub subject: SubjectKey,
    /// What it does.
    pub work: OrderedWork,
    /// The base model.
    pub model: OrderedModel,
    /// How the base model is held.
    pub form: BaseForm,
    /// Tokens that it trains on; 0 where it trains nothing.
    pub train_tokens: u64,
    /// Training speed that it was planned with, in tokens per second.
    pub tokens_per_second: f64,
    /// What each sweep wants of it, by the sweep's name.
    pub sweeps: BTreeMap<String, SweepWants>,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderedWork {
    /// Scores the base model.
    Base,
    /// Scores an adapter in a folder outside the results.
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
    /// What it is: a model with another identity is not used.
    pub identity: ModelIdentity,
}

/// Where a base model is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelLocation {
    /// A file or folder.
    Path(PathBuf),
    /// The snapshot of a hub's model in the cache of this machine.
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

    /// The digest that stands for the subject.
    pub fn key(&self) -> Digest {
        self.subject.digest()
    }
}
