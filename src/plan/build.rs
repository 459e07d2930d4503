//! The plan of a sweep.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::blocker::Blocker;
use super::context::{Known, LastVersion, PlanContext};
use super::data::PlannedData;
use super::error::PlanError;
use super::estimate::{Estimate, MemoryDevice, MemoryEstimate, Throughput};
use super::expand::expand;
use super::job::{PlannedJob, Work};
use super::models::PlannedModel;
use super::tasks::{PlannedTask, score_facts};
use crate::checkpoint::trainable_parameters;
use crate::job::{
    Bytes, DType, Digest, EvalConfig, JobConfig, JobId, Optimizer, Origin, Seconds, Settings, SubjectKey,
    SweepName, TrainingFacts, TrainingKey, Value, find_key,
};
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

/// The way in which a job reads its data: one encoding for each.
type DataWay = (String, String, usize, u64, &'static str, &'static str);

/// Where a cell finds its model, its data and its tasks in the plan.
#[derive(Debug, Clone)]
struct Places {
    model: usize,
    data: usize,
    tasks: Rc<[usize]>,
}

/// Whether two cells have model, data and tasks in common.
fn reads_alike(a: &JobConfig, b: &JobConfig) -> bool {
    (&a.model, &a.revision, &a.data, &a.template, &a.eval)
        == (&b.model, &b.revision, &b.data, &b.template, &b.eval)
        && (a.train.max_seq_length, a.train.labels, a.train.overlong)
            == (b.train.max_seq_length, b.train.labels, b.train.overlong)
}

struct Builder<'a> {
    spec: &'a SweepSpec,
    known: &'a Known,
    folder: PathBuf,
    models: Vec<PlannedModel>,
    by_name: HashMap<(String, Option<String>), usize>,
    data: Vec<PlannedData>,
    by_way: HashMap<DataWay, usize>,
    tasks: Vec<PlannedTask>,
    by_eval: HashMap<EvalConfig, Rc<[usize]>>,
    blockers: BTreeSet<Blocker>,
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

    /// Models, tasks and data of every cell, each once; where each cell finds its own.
    fn find_everything(
        &mut self,
        configs: &[JobConfig],
        context: &mut PlanContext<'_>,
    ) -> Result<Vec<Places>, PlanError> {
        let folder = self.folder.clone();
        // Every model first: tasks are encoded by the first that is here.
        let mut last: Option<&JobConfig> = None;
        for config in configs {
            if last.is_none_or(|last| last.model != config.model || last.revision != config.revision) {
                self.model(&config.model, config.revision.as_deref(), context)?;
            }
            last = Some(config);
        }
        let trains = self.spec.trains;
        let mut places: Vec<Places> = Vec::with_capacity(configs.len());
        for (at, config) in configs.iter().enumerate() {
            // Neighbours of a grid mostly read the same things.
            if at > 0 && reads_alike(&configs[at - 1], config) {
                places.push(places[at - 1].clone());
            } else {
                let model = self.by_name[&(config.model.clone(), config.revision.clone())];
                let tasks = self.evaluation(&config.eval, &folder, context)?;
                let data = if trains { self.encoded(config, model, &folder, context)? } else { 0 };
                places.push(Places { model, data, tasks });
            }
            // Settings that block are the same for many cells; the set keeps each once.
            self.blockers.extend(Blocker::of_settings(config, trains));
        }
        Ok(places)
    }

    fn model(
        &mut self,
        name: &str,
        revision: Option<&str>,
        context: &mut PlanContext<'_>,
    ) -> Result<usize, PlanError> {
        let key = (name.to_owned(), revision.map(str::to_owned));
        if let Some(known) = self.by_name.get(&key) {
            return Ok(*known);
        }
        let model = PlannedModel::find(name, revision, &self.folder, context.digests)?;
        if model.local.is_none() {
            self.blockers.insert(Blocker::Model { name: name.to_owned() });
        }
        self.models.push(model);
        self.by_name.insert(key, self.models.len() - 1);
        Ok(self.models.len() - 1)
    }

    /// The places of an evaluation's tasks.
    fn evaluation(
        &mut self,
        eval: &EvalConfig,
        folder: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<Rc<[usize]>, PlanError> {
        if let Some(places) = self.by_eval.get(eval) {
            return Ok(Rc::clone(places));
        }
        let mut places = Vec::new();
        for name in &eval.tasks {
            let same = |task: &PlannedTask| task.task.name == *name && task.facts == score_facts(eval);
            if let Some(place) = self.tasks.iter().position(same) {
                places.push(place);
                continue;
            }
            let task = PlannedTask::find(name, eval, folder, &self.models, context)?;
            if task.documents.is_none() {
                let (task, name) = (task.task.name.clone(), task.task.documents_name.clone());
                self.blockers.insert(Blocker::Documents { task, name });
            }
            self.tasks.push(task);
            places.push(self.tasks.len() - 1);
        }
        let places: Rc<[usize]> = places.into();
        self.by_eval.insert(eval.clone(), Rc::clone(&places));
        Ok(places)
    }

    /// The place of a job's data.
    fn encoded(
        &mut self,
        config: &JobConfig,
        model: usize,
        folder: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<usize, PlanError> {
        let train = &config.train;
        let (data, template) = (config.data.clone(), config.template.clone());
        let way =
            (data, template, model, train.max_seq_length, train.labels.as_str(), train.overlong.as_str());
        if let Some(place) = self.by_way.get(&way) {
            return Ok(*place);
        }
        let data = PlannedData::find(config, &self.models[model], folder, context)?;
        if data.encoded.is_none() && self.models[model].local.is_some() {
            self.blockers.insert(Blocker::Data { name: config.data.clone() });
        }
        self.data.push(data);
        self.by_way.insert(way, self.data.len() - 1);
        Ok(self.data.len() - 1)
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

    fn throughput(&self, model: &PlannedModel, dtype: DType) -> Throughput {
        let measured = self.known.throughput.get(&(model.identity.0, dtype)).copied();
        measured.map_or_else(|| Throughput::guess(model.parameters), Throughput::Measured)
    }

    /// The untrained models of the grid, each once in each dtype, with every task that a cell of it wants.
    fn bases(&self, configs: &[JobConfig], places: &[Places], cells: &[Settings]) -> Vec<PlannedJob> {
        let mut bases: BTreeMap<(usize, DType), (BTreeSet<usize>, &Settings)> = BTreeMap::new();
        for ((config, places), settings) in configs.iter().zip(places).zip(cells) {
            let key = (places.model, config.train.dtype);
            let base = bases.entry(key).or_insert_with(|| (BTreeSet::new(), settings));
            base.0.extend(places.tasks.iter());
        }
        let several = bases.len() > 1;
        let label = |model: usize, dtype: DType| match (several, self.models.len() > 1) {
            (false, _) => "base".to_owned(),
            (true, false) => format!("base {}", dtype.as_str()),
            (true, true) => self.models[model].short_name().to_owned(),
        };
        let jobs = bases.into_iter().filter(|(_, (tasks, _))| !tasks.is_empty());
        jobs.map(|((model, dtype), (tasks, settings))| {
            self.base(model, dtype, tasks, settings, label(model, dtype))
        })
        .collect()
    }

    /// The untrained models that the file names as references, on every task.
    fn references(&mut self, context: &mut PlanContext<'_>) -> Result<Vec<PlannedJob>, PlanError> {
        let Some(Value::List(names)) = self.spec.settings.value("reference").cloned() else {
            return Ok(Vec::new());
        };
        let mut jobs = Vec::new();
        for name in names.iter().filter_map(Value::as_text) {
            let model = self.model(name, None, context)?;
            let mut settings = self.spec.settings.clone();
            if let Some(key) = find_key("model") {
                settings.set(key, name.into(), Origin::Default);
            }
            let (tasks, label) =
                ((0..self.tasks.len()).collect(), self.models[model].short_name().to_owned());
            jobs.push(self.base(model, context.auto_dtype, tasks, &settings, label));
        }
        Ok(jobs)
    }

    fn base(
        &self,
        model: usize,
        dtype: DType,
        tasks: BTreeSet<usize>,
        settings: &Settings,
        label: String,
    ) -> PlannedJob {
        let subject = SubjectKey::base(self.models[model].identity, dtype);
        let mut own = Settings::new();
        for path in ["model", "revision", "eval", "limit", "num_fewshot", "prompt_profile", "train.dtype"] {
            if let (Some(key), Some(setting)) = (find_key(path), settings.get(path)) {
                own.set(key, setting.value.clone(), setting.origin.clone());
            }
        }
        let tasks: Vec<usize> = tasks.into_iter().collect();
        self.job(
            Draft {
                subject,
                work: Work::Base,
                model,
                dtype,
                settings: own,
                label,
                trainable: 0,
                tokens: 0,
                memory: None,
            },
            &tasks,
        )
    }

    /// A job for each cell. Errors: two cells that are one job.
    fn grid(
        &self,
        configs: Vec<JobConfig>,
        places: &[Places],
        cells: Vec<Settings>,
    ) -> Result<Vec<PlannedJob>, PlanError> {
        let axes = self.spec.varied();
        let mut seen: HashMap<Digest, usize> = HashMap::with_capacity(configs.len());
        let mut jobs: Vec<PlannedJob> = Vec::with_capacity(configs.len());
        for (position, ((config, places), settings)) in configs.into_iter().zip(places).zip(cells).enumerate()
        {
            let job = self.cell(config, places, settings, &axes)?;
            if let Some(first) = seen.insert(job.subject.digest(), position) {
                return Err(PlanError::SameJob {
                    first: jobs[first].label.clone(),
                    first_position: first + 1,
                    second: job.label,
                    second_position: position + 1,
                });
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    fn cell(
        &self,
        mut config: JobConfig,
        places: &Places,
        mut settings: Settings,
        axes: &[&'static str],
    ) -> Result<PlannedJob, PlanError> {
        let (model, data) = (&self.models[places.model], &self.data[places.data]);
        let shape = model.config.as_ref().ok_or_else(|| PlanError::Family { name: model.name.clone() })?;
        config.train.iterations = config.length.iterations(data.rows, config.train.micro_batch_size);
        let (dtype, iterations) = (config.train.dtype, config.train.iterations);
        let (identity, template) = (model.identity, data.template.as_str());
        let facts = TrainingFacts { model: identity, data: data.identity, template, dtype, iterations };
        let subject = SubjectKey::Trained(TrainingKey::of(&settings, &facts));
        resolved(&mut settings, "train.dtype", "auto", dtype.as_str().into());
        if settings.get("train.epochs").is_some()
            && let (Some(key), Ok(iterations)) = (find_key("train.iterations"), i64::try_from(iterations))
        {
            settings.set(key, iterations.into(), Origin::Resolved { from: "epochs" });
        }
        let label = match JobConfig::label(&settings, axes) {
            label if label.is_empty() => self.spec.name.to_string(),
            label => label,
        };
        let draft = Draft {
            subject,
            model: places.model,
            dtype,
            settings,
            label,
            trainable: trainable_parameters(shape, &config.lora),
            tokens: (data.mean_tokens * (iterations * config.train.micro_batch_size) as f64) as u64,
            memory: Some(MemoryEstimate::of(shape, &config.train, &config.lora, MemoryDevice::Cpu)),
            work: Work::Train { data: places.data, config: Box::new(config) },
        };
        Ok(self.job(draft, &places.tasks))
    }

    fn job(&self, draft: Draft, tasks: &[usize]) -> PlannedJob {
        let Draft { subject, work, model, dtype, settings, label, trainable, tokens, memory } = draft;
        let wanted: Vec<_> = tasks.iter().map(|&task| (task, self.tasks[task].key(subject))).collect();
        let train_missing =
            matches!(work, Work::Train { .. }) && !self.known.trained.contains(&subject.digest());
        let missing: Vec<usize> = (0..wanted.len())
            .filter(|&at| train_missing || !self.known.scored.contains(&wanted[at].1.0))
            .collect();
        let score_tokens: u64 = missing.iter().map(|&at| self.tasks[wanted[at].0].tokens).sum();
        let left = if train_missing { tokens as f64 } else { 0.0 };
        let rate = self.throughput(&self.models[model], dtype).tokens_per_second();
        let moments = match &work {
            Work::Train { config, .. } if config.train.optimizer == Optimizer::Adamw => 2,
            _ => 1,
        };
        let estimate = Estimate {
            memory,
            train_tokens: tokens,
            score_tokens,
            time: Seconds((left + score_tokens as f64 / 3.0) / rate),
            adapter_disk: Bytes(trainable * 4),
            checkpoint_disk: Bytes(2 * trainable * 4 * (1 + moments)),
        };
        let id = JobId::of(subject.digest());
        PlannedJob {
            id,
            subject,
            work,
            model,
            dtype,
            settings,
            label,
            trainable,
            wanted,
            train_missing,
            missing,
            estimate,
        }
    }
}

/// What is known of a job before its keys are held against what is done.
struct Draft {
    subject: SubjectKey,
    work: Work,
    model: usize,
    dtype: DType,
    settings: Settings,
    label: String,
    trainable: u64,
    tokens: u64,
    memory: Option<MemoryEstimate>,
}

/// Replaces a word that stands for something by what it stands for.
fn resolved(settings: &mut Settings, path: &'static str, word: &'static str, value: Value) {
    if settings.value(path).and_then(Value::as_text) == Some(word)
        && let Some(key) = find_key(path)
    {
        settings.set(key, value, Origin::Resolved { from: word });
    }
}
