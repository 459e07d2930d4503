//! The plan of a sweep.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use super::blocker::Blocker;
use super::context::{Known, LastVersion, PlanContext};
use super::data::PlannedData;
use super::error::PlanError;
use super::estimate::Throughput;
use super::expand::expand;
use super::gather::DataWay;
use super::job::PlannedJob;
use super::models::PlannedModel;
use super::tasks::PlannedTask;
use crate::job::{DType, EvalConfig, JobConfig, SweepName};
use crate::spec::{Keep, SweepSpec};
use crate::task::Metric;

/// A planned sweep.
#[derive(Debug)]
pub struct Plan {
    /// The sweep's name.
    pub name: SweepName,
    /// The sweep file's text as it was planned.
    pub text: String,
    /// Paths that vary, in the grid's order.
    pub axes: Vec<&'static str>,
    /// The models.
    pub models: Vec<PlannedModel>,
    /// The data sets.
    pub data: Vec<PlannedData>,
    /// The tasks.
    pub tasks: Vec<PlannedTask>,
    /// The task and metric that rank the leaderboard.
    pub objective: Option<(String, Metric)>,
    /// Base models first, then references, then the grid in order.
    pub jobs: Vec<PlannedJob>,
    /// Training speed that the estimates use, by model.
    pub throughput: Vec<Throughput>,
    /// What stays on disk.
    pub keep: Keep,
    /// What keeps it from running.
    pub blockers: Vec<Blocker>,
    /// Rules that no cell met.
    pub warnings: Vec<String>,
    /// The last version of the sweep.
    pub last: Option<LastVersion>,
}

impl Plan {
    /// Plans a sweep. Reads models' headers and tokenizers, the data and the tasks, and checks every row and document, so
    /// that a plan without blockers can run. Errors: anything that is wrong, as opposed to not here.
    pub fn build(spec: &SweepSpec, context: &mut PlanContext<'_>, known: &Known) -> Result<Self, PlanError> {
        let expansion = expand(spec)?;
        context.roots.named.extend(spec.data_sets.clone());
        let auto = context.auto_dtype;
        let configs = expansion
            .cells
            .iter()
            .map(|settings| JobConfig::from_settings(settings, auto).map_err(PlanError::Setting))
            .collect::<Result<Vec<_>, _>>()?;
        let mut builder = Builder::new(spec, known);
        let places = builder.find_everything(&configs, context)?;
        let objective = builder.objective()?;
        let references = builder.references(context)?;
        let mut jobs = builder.bases(&configs, &places, &expansion.cells);
        jobs.extend(references);
        // A model that is named twice, or under two paths, is one row.
        let mut seen = HashSet::new();
        jobs.retain(|job| seen.insert(job.subject));
        if spec.trains {
            jobs.extend(builder.grid(configs, &places, expansion.cells)?);
        }
        let last = known.last.get(spec.name.as_str()).cloned();
        Ok(Self {
            name: spec.name.clone(),
            text: spec.source.text().to_owned(),
            axes: spec.varied(),
            throughput: builder.models.iter().map(|model| builder.throughput(model, auto)).collect(),
            models: builder.models,
            data: builder.data,
            tasks: builder.tasks,
            objective,
            jobs,
            keep: spec.keep,
            blockers: builder.blockers.into_iter().collect(),
            warnings: expansion.warnings,
            last,
        })
    }

    /// Jobs with something left to do.
    pub fn to_run(&self) -> impl Iterator<Item = &PlannedJob> {
        self.jobs.iter().filter(|job| !job.is_done())
    }
}

/// Gathers what a plan is made of.
pub(super) struct Builder<'a> {
    pub(super) spec: &'a SweepSpec,
    pub(super) known: &'a Known,
    pub(super) folder: PathBuf,
    pub(super) models: Vec<PlannedModel>,
    pub(super) by_name: HashMap<(String, Option<String>), usize>,
    pub(super) data: Vec<PlannedData>,
    pub(super) by_way: HashMap<DataWay, usize>,
    pub(super) tasks: Vec<PlannedTask>,
    pub(super) by_eval: HashMap<EvalConfig, Rc<[usize]>>,
    pub(super) blockers: BTreeSet<Blocker>,
}

impl<'a> Builder<'a> {
    fn new(spec: &'a SweepSpec, known: &'a Known) -> Self {
        Self {
            spec,
            known,
            folder: spec.folder(),
            models: Vec::new(),
            by_name: HashMap::new(),
            data: Vec::new(),
            by_way: HashMap::new(),
            tasks: Vec::new(),
            by_eval: HashMap::new(),
            blockers: BTreeSet::new(),
        }
    }

    /// The task and metric of `objective`, or the first of `eval`.
    fn objective(&self) -> Result<Option<(String, Metric)>, PlanError> {
        let Some(value) = self.spec.settings.value("objective") else {
            return Ok(self.tasks.first().map(|task| (task.task.name.clone(), task.task.metrics[0])));
        };
        let objective = value.to_string();
        let (task, metric) =
            objective.split_once(':').map_or((objective.as_str(), None), |(t, m)| (t, Some(m)));
        let found = self.tasks.iter().find(|planned| planned.task.name == task).and_then(|planned| {
            let named = |name| planned.task.metrics.iter().copied().find(|m| m.as_str() == name);
            Some((planned.task.name.clone(), metric.map_or(Some(planned.task.metrics[0]), named)?))
        });
        found.map(Some).ok_or(PlanError::Objective { objective: objective.clone() })
    }

    pub(super) fn throughput(&self, model: &PlannedModel, dtype: DType) -> Throughput {
        let measured = self.known.throughput.get(&(model.identity.0, dtype)).copied();
        measured.map_or_else(|| Throughput::guess(model.parameters), Throughput::Measured)
    }
}
