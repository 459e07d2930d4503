//! What a plan needs to know of its surroundings.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::data::DataRoots;
use crate::device::DeviceKind;
use crate::hub::Cache;
use crate::job::{DType, Digest, JobId};
use crate::pretrained::FileDigests;
use crate::task::TaskIndex;

/// What a plan needs to know of its surroundings.
pub struct PlanContext<'a> {
    /// Local data; the sweep file's own `[data_sets]` are added to it.
    pub roots: DataRoots,
    /// Digests of files.
    pub digests: &'a mut dyn FileDigests,
    /// The kind of device that will run the jobs.
    pub device: DeviceKind,
    /// Models that a hub gave.
    pub models: Cache,
    /// The names of tasks.
    pub tasks: Arc<TaskIndex>,
    /// Folder of encoded rows, if it is there.
    pub cache: Option<PathBuf>,
}

/// What is done already.
#[derive(Debug, Clone, Default)]
pub struct CompletedWork {
    /// Digests of training keys whose adapter is there.
    pub trained: HashSet<Digest>,
    /// Digests of training keys that were trained and whose adapter is no longer on disk.
    pub removed: HashSet<Digest>,
    /// Score keys whose scores are there.
    pub scored: HashSet<Digest>,
    /// Digests of subjects with the key of each sample that they have answered.
    pub sampled: HashSet<(Digest, Digest)>,
    /// Measured training speed in tokens a second, by model identity and dtype.
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
    /// Those of them that are done and whose numbers are of an earlier release's arithmetic.
    pub older: usize,
}
