//! Inputs of jobs on this machine: models, encoded rows, documents, prompts. Each is opened once per run. A missing input keeps a job
//! queued, with that as its reason: another worker may have it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::job::Missing;
use crate::data::{read_checked, read_encoded};
use crate::hub::{Cache, RepositoryId};
use crate::orders::{JobOrder, ModelLocation, ORDER_VERSION, OrderedModel, OrderedSamples, OrderedTask};
use crate::plan::LocalModel;
use crate::pretrained::{FileDigests, ModelConfig};
use crate::queue::JobProgress;
use crate::task::{TaskDocuments, TaskMetric};

/// Inputs of jobs, each opened once.
pub struct Inputs<'a> {
    /// The folder of encoded rows, documents and prompts.
    cache: PathBuf,
    hub: Cache,
    digests: &'a mut dyn FileDigests,
    models: HashMap<OrderedModel, Result<Rc<OpenedModel>, String>>,
    /// Whether a file of rows is complete.
    rows: HashMap<String, bool>,
    metrics: HashMap<String, Rc<[TaskMetric]>>,
    samples: HashMap<String, Rc<OrderedSamples>>,
}

/// A model on this machine.
pub(super) struct OpenedModel {
    pub(super) local: LocalModel,
    pub(super) config: ModelConfig,
}

/// Inputs of one job.
#[derive(Clone)]
pub(super) struct JobInputs {
    pub(super) model: Rc<OpenedModel>,
    /// Its encoded rows; empty if nothing is to be trained.
    pub(super) rows: PathBuf,
    /// Its unscored tasks, with their metrics and files.
    pub(super) tasks: Vec<(OrderedTask, Rc<[TaskMetric]>, PathBuf)>,
    pub(super) samples: Vec<Rc<OrderedSamples>>,
}

impl<'a> Inputs<'a> {
    /// Inputs from a cache folder; models by path or from a hub's cache. `digests` computes file digests.
    pub fn new(cache: PathBuf, hub: Cache, digests: &'a mut dyn FileDigests) -> Self {
        let (models, rows, metrics, samples) = Default::default();
        Self { cache, hub, digests, models, rows, metrics, samples }
    }

    /// Forgets inputs that could not be opened: they may exist by now.
    pub(super) fn retry(&mut self) {
        self.models.retain(|_, opened| opened.is_ok());
        self.rows.retain(|_, whole| *whole);
    }

    /// The cache folder.
    pub(super) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The inputs of a job's missing work that are not in the cache, or damaged.
    pub(super) fn lacking(&self, order: &JobOrder, progress: &JobProgress) -> Vec<String> {
        let unscored = order.tasks().filter(|task| !progress.scored.contains(&task.key));
        let rows = order.rows().filter(|_| !progress.trained);
        let wanted =
            rows.into_iter().chain(unscored.map(|task| task.documents.as_str())).chain(order.samples());
        let is_known = |name: &str| {
            self.metrics.contains_key(name)
                || self.samples.contains_key(name)
                || self.rows.get(name) == Some(&true)
        };
        let is_here = |name: &str| is_known(name) || read_checked(&self.cache.join(name)).is_some();
        wanted.filter(|name| !is_here(name)).map(str::to_owned).collect()
    }

    /// Opens the models of orders, which may read whole files.
    pub fn open_models<'o>(&mut self, orders: impl IntoIterator<Item = &'o JobOrder>) {
        for order in orders {
            // The error is reported for each job that needs the model.
            let _ = self.model(&order.model);
        }
    }

    /// The inputs of a job's missing work. Error: an input is missing or has changed since submission.
    pub(super) fn of(&mut self, order: &JobOrder, progress: &JobProgress) -> Result<JobInputs, String> {
        if order.version > ORDER_VERSION {
            return Err("its order was written by a newer loragrid".to_owned());
        }
        let model = self.model(&order.model)?;
        let mut tasks = Vec::new();
        for task in order.tasks().filter(|task| !progress.scored.contains(&task.key)) {
            let metrics = self.metrics(&task.documents, &task.task)?;
            tasks.push((task.clone(), metrics, self.cache.join(&task.documents)));
        }
        let samples = order.samples().map(|file| self.prompts(file)).collect::<Result<_, _>>()?;
        let mut inputs = JobInputs { model, rows: PathBuf::new(), tasks, samples };
        if let Some(file) = order.rows().filter(|_| Missing::of(order, &inputs, progress).trains) {
            inputs.rows = self.rows(file)?;
        }
        Ok(inputs)
    }

    fn model(&mut self, model: &OrderedModel) -> Result<Rc<OpenedModel>, String> {
        if let Some(opened) = self.models.get(model) {
            return opened.clone();
        }
        let opened = open(model, &self.hub, self.digests).map(Rc::new);
        self.models.insert(model.clone(), opened.clone());
        opened
    }

    fn rows(&mut self, file: &str) -> Result<PathBuf, String> {
        let path = self.cache.join(file);
        let is_whole = |path: &Path| read_encoded(path).is_some();
        if *self.rows.entry(file.to_owned()).or_insert_with(|| is_whole(&path)) {
            return Ok(path);
        }
        Err(missing("encoded rows", &path))
    }

    fn metrics(&mut self, file: &str, task: &str) -> Result<Rc<[TaskMetric]>, String> {
        if let Some(metrics) = self.metrics.get(file) {
            return Ok(Rc::clone(metrics));
        }
        let path = self.cache.join(file);
        let read = TaskDocuments::read(&path);
        let read = read.ok_or_else(|| missing(&format!("documents of task {task}"), &path))?;
        let metrics: Rc<[TaskMetric]> = read.task.metrics.into();
        self.metrics.insert(file.to_owned(), Rc::clone(&metrics));
        Ok(metrics)
    }

    fn prompts(&mut self, file: &str) -> Result<Rc<OrderedSamples>, String> {
        if let Some(samples) = self.samples.get(file) {
            return Ok(Rc::clone(samples));
        }
        let path = self.cache.join(file);
        let read = read_checked(&path).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let samples: Rc<OrderedSamples> = Rc::new(read.ok_or_else(|| missing("prompts", &path))?);
        self.samples.insert(file.to_owned(), Rc::clone(&samples));
        Ok(samples)
    }
}

fn missing(what: &str, path: &Path) -> String {
    format!("{what} not found: {} is missing or damaged; submit the sweep again", path.display())
}

fn open(model: &OrderedModel, hub: &Cache, digests: &mut dyn FileDigests) -> Result<OpenedModel, String> {
    let OrderedModel { name, location, identity } = model;
    let path = match location {
        ModelLocation::Path(path) => path.clone(),
        ModelLocation::Hub { name, revision } => {
            let found = RepositoryId::new(name, revision).and_then(|id| hub.find(&id));
            found.ok_or_else(|| {
                format!("the model {name} is not in the hub's cache; `loragrid model pull {name}`")
            })?
        }
    };
    if !path.exists() {
        return Err(format!("the model {name} is not found: {} does not exist", path.display()));
    }
    let (local, config, _) = LocalModel::open(path, digests)
        .map_err(|error| format!("the model {name} cannot be opened: {error}"))?;
    if local.identity() != *identity {
        return Err(format!("the model {name} is not the one of the submission: its files changed"));
    }
    Ok(OpenedModel { local, config })
}
