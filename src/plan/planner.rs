//! The plan of a sweep.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use super::blocker::Blocker;
use super::context::{CompletedWork, LastVersion, PlanContext};
use super::data::PlannedData;
use super::error::PlanError;
use super::estimate::Throughput;
use super::expand::expand;
use super::inputs::EncodingKey;
use super::job::PlannedJob;
use super::models::PlannedModel;
use super::samples::PlannedSample;
use super::tasks::{PlannedGroup, PlannedTask};
use crate::device::DeviceKind;
use crate::job::{DType, EvalConfig, JobConfig, SweepName};
use crate::sweep_file::{Keep, SweepSpec};
use crate::task::{Metric, MetricName};

/// A planned sweep.
#[derive(Debug)]
pub struct Plan {
    /// The sweep's name.
    pub name: SweepName,
    /// The sweep file's content as planned.
    pub text: String,
    /// Paths that vary, in the grid's order.
    pub axes: Vec<&'static str>,
    /// The models.
    pub models: Vec<PlannedModel>,
    /// The data sets.
    pub data: Vec<PlannedData>,
    /// The tasks.
    pub tasks: Vec<PlannedTask>,
    /// Leaderboard columns: names of tasks and groups.
    pub columns: Vec<String>,
    /// The columns that are groups.
    pub groups: Vec<PlannedGroup>,
    /// The task or group and metric that rank the leaderboard.
    pub objective: Option<(String, Metric)>,
    /// Prompts that every subject answers.
    pub samples: Vec<PlannedSample>,
    /// Base models first, then references, then the grid in order.
    pub jobs: Vec<PlannedJob>,
    /// The device kind of the plan.
    pub device: DeviceKind,
    /// Training throughput used by the estimates, by model.
    pub throughput: Vec<Throughput>,
    /// The `[keep]` rules.
    pub keep: Keep,
    /// Obstacles that keep it from running.
    pub blockers: Vec<Blocker>,
    /// Valid settings that may not be intended.
    pub warnings: Vec<String>,
    /// The last version of the sweep.
    pub last: Option<LastVersion>,
}

impl Plan {
    /// Plans a sweep. Reads models' headers and tokenizers, the data and the tasks, and checks every row and document, so that a plan
    /// without blockers can run. Errors: anything that is wrong, as opposed to missing on this machine.
    pub fn build(
        spec: &SweepSpec,
        context: &mut PlanContext<'_>,
        known: &CompletedWork,
    ) -> Result<Self, PlanError> {
        let expansion = expand(spec)?;
        context.roots.named.extend(spec.data_sets.clone());
        let auto = context.device.auto_dtype();
        let configs = expansion
            .cells
            .iter()
            .map(|settings| JobConfig::from_settings(settings, auto).map_err(PlanError::Setting))
            .collect::<Result<Vec<_>, _>>()?;
        let mut builder = Builder::new(spec, known, context.device, context.product_rate);
        let places = builder.find_everything(&configs, context)?;
        let objective = builder.objective()?;
        let references = builder.references(context)?;
        let mut jobs = builder.bases(&configs, &places, &expansion.cells);
        jobs.extend(references);
        // A model listed twice, or under two paths, is one row.
        let mut seen = HashSet::new();
        jobs.retain(|job| seen.insert(job.subject));
        if spec.trains {
            jobs.extend(builder.grid(configs, &places, expansion.cells)?);
        }
        let last = known.last.get(spec.name.as_str()).cloned();
        let mut plan = Self {
            name: spec.name.clone(),
            text: spec.source.text().to_owned(),
            axes: spec.varied(),
            throughput: builder.models.iter().map(|model| builder.throughput(model, auto)).collect(),
            models: builder.models,
            data: builder.data,
            tasks: builder.tasks,
            columns: builder.columns,
            groups: builder.groups,
            objective,
            samples: builder.samples,
            jobs,
            device: context.device,
            keep: spec.keep,
            blockers: builder.blockers.into_iter().collect(),
            warnings: [expansion.warnings, builder.notes].concat(),
            last,
        };
        let more = super::warnings::of(&plan);
        plan.warnings.extend(more);
        Ok(plan)
    }

    /// Jobs with missing work.
    pub fn to_run(&self) -> impl Iterator<Item = &PlannedJob> {
        self.jobs.iter().filter(|job| !job.is_done())
    }
}

/// Collects the contents of a plan.
pub(super) struct Builder<'a> {
    pub(super) spec: &'a SweepSpec,
    pub(super) known: &'a CompletedWork,
    pub(super) device: DeviceKind,
    product_rate: &'a dyn Fn(DType) -> Option<f64>,
    pub(super) folder: PathBuf,
    pub(super) models: Vec<PlannedModel>,
    pub(super) by_name: HashMap<(String, Option<String>), usize>,
    pub(super) data: Vec<PlannedData>,
    pub(super) by_way: HashMap<EncodingKey, usize>,
    pub(super) tasks: Vec<PlannedTask>,
    pub(super) columns: Vec<String>,
    pub(super) groups: Vec<PlannedGroup>,
    pub(super) samples: Vec<PlannedSample>,
    pub(super) by_eval: HashMap<(EvalConfig, Option<usize>), Rc<[usize]>>,
    pub(super) blockers: BTreeSet<Blocker>,
    /// Remarks about tasks and groups that may not be intended.
    pub(super) notes: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(
        spec: &'a SweepSpec,
        known: &'a CompletedWork,
        device: DeviceKind,
        product_rate: &'a dyn Fn(DType) -> Option<f64>,
    ) -> Self {
        Self {
            spec,
            known,
            device,
            product_rate,
            folder: spec.folder(),
            models: Vec::new(),
            by_name: HashMap::new(),
            data: Vec::new(),
            by_way: HashMap::new(),
            tasks: Vec::new(),
            columns: Vec::new(),
            groups: Vec::new(),
            samples: Vec::new(),
            by_eval: HashMap::new(),
            blockers: BTreeSet::new(),
            notes: spec.notes.clone(),
        }
    }

    /// The task or group and the metric of `objective`, or the first of `eval`.
    fn objective(&self) -> Result<Option<(String, Metric)>, PlanError> {
        let value = self.spec.settings.value("objective").map(ToString::to_string);
        let Some(objective) = value.as_ref().or(self.columns.first()) else { return Ok(None) };
        let (name, metric) = MetricName::split(objective);
        let of_task =
            self.tasks.iter().find(|planned| planned.task.name == name).map(|planned| {
                planned.task.metrics.iter().map(|metric| metric.metric).collect::<Vec<Metric>>()
            });
        let of_group = || {
            let group = self.groups.iter().find(|group| group.name == name);
            group.map(|group| group.metrics.iter().map(|(metric, _)| *metric).collect())
        };
        let metrics = of_task.or_else(of_group).unwrap_or_default();
        let found = Metric::among(metrics, metric).map(|metric| Some((name.to_owned(), metric)));
        found.ok_or(PlanError::Objective { objective: objective.clone() })
    }

    pub(super) fn throughput(&self, model: &PlannedModel, dtype: DType) -> Throughput {
        if let Some(rate) = self.known.throughput.get(&(model.identity.0, dtype)) {
            return Throughput::Measured(*rate);
        }
        match (self.product_rate)(dtype) {
            Some(products) => Throughput::of_products(products, model.parameters),
            None => Throughput::guess(model.parameters),
        }
    }
}
