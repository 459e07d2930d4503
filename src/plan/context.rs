//! The environment of a plan.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::data::DataRoots;
use crate::device::DeviceKind;
use crate::hub::Cache;
use crate::job::{DType, Digest, JobId};
use crate::pretrained::FileDigests;
use crate::task::TaskIndex;

/// The environment of a plan.
pub struct PlanContext<'a> {
    /// Local data; the sweep file's own `[data_sets]` are added to it.
    pub roots: DataRoots,
    /// Digests of files.
    pub digests: &'a mut dyn FileDigests,
    /// The kind of device that will run the jobs.
    pub device: DeviceKind,
    /// Models downloaded from a hub.
    pub models: Cache,
    /// The names of tasks.
    pub tasks: Arc<TaskIndex>,
    /// Folder of encoded rows, if it exists.
    pub cache: Option<PathBuf>,
    /// Floating-point operations per second of the device's matrix products in a dtype; none if they cannot be measured.
    pub product_rate: &'a dyn Fn(DType) -> Option<f64>,
    /// Told of each stage before it begins.
    pub watch: &'a mut dyn FnMut(PlanStage),
}

/// What a plan does next. A stage takes from milliseconds to a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanStage {
    /// Reads the sweep file and the database.
    Sweep {
        /// The sweep.
        name: String,
    },
    /// Reads a model's configuration and tokenizer, and hashes its files unless they were hashed before.
    Model {
        /// The model as named in the sweep file.
        name: String,
    },
    /// Reads and encodes the rows of a data set, unless they were encoded before.
    Rows {
        /// The data set as named in the sweep file.
        name: String,
    },
    /// Builds and encodes the documents of a task.
    Documents {
        /// The task.
        name: String,
    },
}

/// Finished work.
#[derive(Debug, Clone, Default)]
pub struct CompletedWork {
    /// Digests of training keys whose adapter exists.
    pub trained: HashSet<Digest>,
    /// Digests of training keys that were trained and whose adapter is no longer on disk.
    pub removed: HashSet<Digest>,
    /// Score keys with scores.
    pub scored: HashSet<Digest>,
    /// Digests of subjects, each with the key of a sample that it has answered.
    pub sampled: HashSet<(Digest, Digest)>,
    /// Measured training throughput in tokens per second, by model identity and dtype.
    pub throughput: HashMap<(Digest, DType), f64>,
    /// The last version of each sweep.
    pub last: HashMap<String, LastVersion>,
}

/// The last version of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastVersion {
    /// Its number.
    pub version: i64,
    /// Its jobs.
    pub jobs: HashSet<JobId>,
    /// Number of its finished jobs whose results were computed with an earlier release's arithmetic.
    pub older: usize,
}
