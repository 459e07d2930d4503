//! The plan of a sweep.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::error::PlanError;
use super::estimate::{Estimate, MemoryEstimate, Throughput};
use super::expand::expand;
use crate::checkpoint::{Checkpoint, FileDigests, ModelConfig, ModelTokenizer, trainable_parameters};
use crate::data::{DataRoots, DataSource, Example, Template, encode_rows};
use crate::job::{
    Bytes, DType, Digest, JobConfig, JobId, ModelIdentity, Origin, ScoreKey, Seconds, Settings, SubjectKey,
    SweepName, TrainingKey,
};
use crate::spec::SweepSpec;
use crate::task::{Catalogue, Metric, Task, TaskError, build_documents, encode_request};

/// What a plan needs to know of its surroundings.
pub struct PlanContext<'a> {
    /// Local data.
    pub roots: &'a DataRoots,
    /// Digests of files.
    pub digests: &'a mut dyn FileDigests,
    /// What `train.dtype = "auto"` means here.
    pub auto_dtype: DType,
    /// Most tokens of one pass.
    pub token_budget: u64,
}

/// What is done already.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Digests of training keys whose adapter is there.
    pub trained: HashSet<Digest>,
    /// Score keys whose scores are there.
    pub scored: HashSet<Digest>,
    /// Measured training speed in tokens a second, by model identity and dtype.
    pub throughput: HashMap<(Digest, &'static str), f64>,
}

/// A task of the sweep.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// Its definition.
    pub task: Task,
    /// Definition and documents, hashed.
    pub version: Digest,
    /// Documents to score.
    pub documents: u64,
    /// Tokens of all its requests, each input once.
    pub tokens: u64,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Scores the untrained model.
    Base,
    /// Trains an adapter and scores it.
    Train {
        /// The configuration.
        config: Box<JobConfig>,
        /// The rows.
        data: DataSource,
        /// How a row becomes a prompt and a response.
        template: Template,
    },
}

/// A job of the plan.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// Its identity.
    pub id: JobId,
    /// What it produces scores of.
    pub subject: SubjectKey,
    /// What it does.
    pub work: Work,
    /// Its resolved settings.
    pub settings: Settings,
    /// The values in which it differs from its neighbours: `r=8 lr=1e-3`, or `base`.
    pub label: String,
    /// Parameters of its adapter; 0 for the base model.
    pub trainable: u64,
    /// The score key of each task of the plan.
    pub wanted: Vec<ScoreKey>,
    /// Whether the adapter is still to be trained.
    pub train_missing: bool,
    /// Which tasks of the plan are still to be scored.
    pub missing: Vec<usize>,
    /// What that will take.
    pub estimate: Estimate,
}

impl PlannedJob {
    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        !self.train_missing && self.missing.is_empty()
    }
}

/// A planned sweep.
#[derive(Debug)]
pub struct Plan {
    /// The sweep's name.
    pub name: SweepName,
    /// The sweep file's text as it was planned.
    pub text: String,
    /// The checkpoint's path.
    pub model_path: PathBuf,
    /// The model's shape.
    pub model: ModelConfig,
    /// What the model is.
    pub identity: ModelIdentity,
    /// Compute dtype of every job.
    pub dtype: DType,
    /// Paths of the axes, in the file's order.
    pub axes: Vec<&'static str>,
    /// The tasks.
    pub tasks: Vec<PlannedTask>,
    /// Only the first n documents of each task.
    pub limit: Option<u64>,
    /// The task and metric that rank the leaderboard.
    pub objective: Option<(String, Metric)>,
    /// The base model first, then the grid in order.
    pub jobs: Vec<PlannedJob>,
    /// Training speed that the estimates use.
    pub throughput: Throughput,
    /// Most tokens of one pass.
    pub token_budget: u64,
}

impl Plan {
    /// Plans a sweep. Reads the model's header, its tokenizer, the data and the tasks, and checks every row and
    /// document, so that what is planned can run. Errors: anything that would keep a job from running.
    pub fn build(spec: &SweepSpec, context: &mut PlanContext<'_>, known: &Known) -> Result<Self, PlanError> {
        let settings = expand(spec)?;
        let configs = settings
            .iter()
            .map(|settings| {
                JobConfig::from_settings(settings, context.auto_dtype).map_err(PlanError::Setting)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let axes: Vec<&'static str> = spec.axes.iter().map(|axis| axis.key.path).collect();
        let first = &configs[0];
        let folder = spec.folder();
        let model_path = folder.join(&first.model);
        let checkpoint = Checkpoint::open(&model_path)?;
        let tokenizer = ModelTokenizer::open(&checkpoint)?;
        let identity = checkpoint.identity(context.digests)?;
        let tasks = plan_tasks(first, &folder, &tokenizer, checkpoint.config(), context)?;
        let objective = find_objective(spec, &tasks)?;
        let dtype = first.train.dtype;
        let measured = known.throughput.get(&(identity.0.clone(), dtype.as_str())).copied();
        let throughput =
            measured.map_or_else(|| Throughput::guess(checkpoint.config()), Throughput::Measured);
        let mut builder = Builder {
            spec,
            known,
            tasks: &tasks,
            model: checkpoint.config(),
            identity: &identity,
            tokenizer: &tokenizer,
            throughput,
            limit: first.eval.limit,
            token_budget: context.token_budget,
            data: HashMap::new(),
        };
        let mut jobs = Vec::new();
        if !tasks.is_empty() {
            jobs.push(builder.base(dtype, &settings[0]));
        }
        let mut seen: HashMap<Digest, String> = HashMap::new();
        for (config, settings) in configs.iter().zip(settings.clone()) {
            let job = builder.trained(config, settings, &axes, &folder, context)?;
            if let Some(first) = seen.insert(job.subject.digest().clone(), job.label.clone()) {
                return Err(PlanError::SameJob { first, second: job.label });
            }
            jobs.push(job);
        }
        Ok(Self {
            name: spec.name.clone(),
            text: spec.source.text().to_owned(),
            model_path,
            model: checkpoint.config().clone(),
            identity,
            dtype,
            axes,
            limit: first.eval.limit,
            objective,
            jobs,
            throughput,
            tasks,
            token_budget: context.token_budget,
        })
    }

    /// Jobs with something left to do.
    pub fn to_run(&self) -> impl Iterator<Item = &PlannedJob> {
        self.jobs.iter().filter(|job| !job.is_done())
    }
}

fn plan_tasks(
    config: &JobConfig,
    folder: &Path,
    tokenizer: &ModelTokenizer,
    model: &ModelConfig,
    context: &mut PlanContext<'_>,
) -> Result<Vec<PlannedTask>, PlanError> {
    let catalogue = Catalogue { folder, roots: context.roots };
    let mut planned = Vec::new();
    for name in &config.eval.tasks {
        let task = catalogue.find(name)?;
        let documents = build_documents(&task, config.eval.limit)?;
        let mut inputs = BTreeSet::new();
        for request in documents.iter().flat_map(|document| &document.requests) {
            inputs.insert(encode_request(tokenizer, request, model.max_positions as usize)?.input);
        }
        let read = |source| TaskError::Documents { task: task.name.clone(), source };
        let content = task.documents.identity(context.digests).map_err(read)?;
        planned.push(PlannedTask {
            version: task.version_digest(&content),
            documents: documents.len() as u64,
            tokens: inputs.iter().map(|input| input.len() as u64).sum(),
            task,
        });
    }
    Ok(planned)
}

/// The task and metric of `objective`, or the first of `eval`.
fn find_objective(spec: &SweepSpec, tasks: &[PlannedTask]) -> Result<Option<(String, Metric)>, PlanError> {
    let first_metric = |planned: &PlannedTask| (planned.task.name.clone(), planned.task.metrics[0]);
    let Some(setting) = spec.settings.get("objective") else {
        return Ok(tasks.first().map(first_metric));
    };
    let objective = setting.value.to_string();
    let (task, metric) = objective.split_once(':').map_or((objective.as_str(), None), |(t, m)| (t, Some(m)));
    let found = tasks.iter().find(|planned| planned.task.name == task).and_then(|planned| {
        let named = |name| planned.task.metrics.iter().copied().find(|m| m.as_str() == name);
        Some((planned.task.name.clone(), metric.map_or(Some(planned.task.metrics[0]), named)?))
    });
    found.map(Some).ok_or(PlanError::Objective { objective: objective.clone() })
}

/// What a data set costs, encoded once for each way in which the grid reads it.
struct EncodedData {
    source: DataSource,
    template: Template,
    identity: Digest,
    mean_tokens: f64,
}

struct Builder<'a> {
    spec: &'a SweepSpec,
    known: &'a Known,
    tasks: &'a [PlannedTask],
    model: &'a ModelConfig,
    identity: &'a ModelIdentity,
    tokenizer: &'a ModelTokenizer,
    throughput: Throughput,
    limit: Option<u64>,
    token_budget: u64,
    data: HashMap<String, EncodedData>,
}

impl Builder<'_> {
    fn base(&self, dtype: DType, settings: &Settings) -> PlannedJob {
        let subject = SubjectKey::base(self.identity, dtype);
        let mut own = Settings::new();
        for (path, setting) in
            settings.iter().filter(|(path, _)| matches!(*path, "model" | "eval" | "limit" | "train.dtype"))
        {
            if let Some(key) = crate::job::find_key(path) {
                let origin =
                    if setting.origin == Origin::Axis { Origin::Default } else { setting.origin.clone() };
                own.set(key, setting.value.clone(), origin);
            }
        }
        self.job(subject, Work::Base, own, "base".to_owned(), 0, false, 0)
    }

    fn trained(
        &mut self,
        config: &JobConfig,
        settings: Settings,
        axes: &[&'static str],
        folder: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<PlannedJob, PlanError> {
        let identity = self.identity;
        let data = self.encode(config, folder, context)?;
        let (source, template) = (data.source.clone(), data.template);
        let key = TrainingKey::of(config, identity, &data.identity);
        let rows = config.train.iterations * config.train.micro_batch_size;
        let tokens = (data.mean_tokens * rows as f64) as u64;
        let missing = !self.known.trained.contains(&key.0);
        let label = match JobConfig::label(&settings, axes) {
            label if label.is_empty() => self.spec.name.to_string(),
            label => label,
        };
        let trainable = trainable_parameters(self.model, &config.lora);
        let work = Work::Train { config: Box::new(config.clone()), data: source, template };
        Ok(self.job(SubjectKey::Trained(key), work, settings, label, trainable, missing, tokens))
    }

    #[expect(clippy::too_many_arguments, reason = "the one constructor of a planned job")]
    fn job(
        &self,
        subject: SubjectKey,
        work: Work,
        settings: Settings,
        label: String,
        trainable: u64,
        train_missing: bool,
        train_tokens: u64,
    ) -> PlannedJob {
        let wanted: Vec<ScoreKey> =
            self.tasks.iter().map(|task| ScoreKey::of(&subject, &task.version, self.limit)).collect();
        let missing: Vec<usize> = (0..wanted.len())
            .filter(|&task| train_missing || !self.known.scored.contains(&wanted[task].0))
            .collect();
        let score_tokens: u64 = missing.iter().map(|&task| self.tasks[task].tokens).sum();
        let left = if train_missing { train_tokens as f64 } else { 0.0 };
        let seconds = (left + score_tokens as f64 / 3.0) / self.throughput.tokens_per_second();
        let memory = match &work {
            Work::Base => None,
            Work::Train { config, .. } => {
                Some(MemoryEstimate::of(self.model, &config.lora, config.train.dtype, self.token_budget))
            }
        };
        let estimate = Estimate {
            memory,
            train_tokens,
            score_tokens,
            time: Seconds(seconds),
            disk: Bytes(trainable * 4),
        };
        let id = JobId::of(subject.digest());
        PlannedJob { id, subject, work, settings, label, trainable, wanted, train_missing, missing, estimate }
    }

    /// Encodes every row of the job's data, once for each template, length and choice of labels.
    fn encode(
        &mut self,
        config: &JobConfig,
        folder: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<&EncodedData, PlanError> {
        let train = &config.train;
        let way =
            format!("{} {:?} {} {:?}", config.data, config.template, train.max_seq_length, train.labels);
        if !self.data.contains_key(&way) {
            let source = DataSource::training(&config.data, folder)?;
            let identity = source.identity(context.digests)?;
            let rows = source.rows()?;
            let named = config.template.as_deref().and_then(Template::named);
            let template = named.or_else(|| rows.first().map(Template::guess)).unwrap_or(Template::Alpaca);
            let max = (train.max_seq_length as usize).min(self.model.max_positions as usize);
            let examples = encode_rows(&config.data, &rows, template, self.tokenizer, train.labels, max)?;
            let tokens: usize = examples.iter().map(|example: &Example| example.tokens.len()).sum();
            let mean_tokens = tokens as f64 / examples.len() as f64;
            self.data.insert(way.clone(), EncodedData { source, template, identity, mean_tokens });
        }
        Ok(&self.data[&way])
    }
}
