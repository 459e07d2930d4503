//! The jobs of a plan: untrained models, references, and one job per cell.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::context::PlanContext;
use super::error::PlanError;
use super::estimate::{Estimate, MemoryEstimate};
use super::inputs::CellInputs;
use super::job::{PlannedJob, Work};
use super::planner::Builder;
use crate::job::{
    Bytes, DType, Digest, JobConfig, JobId, Origin, Seconds, Settings, SubjectKey, TrainingFacts,
    TrainingKey, Value, find_key,
};
use crate::pretrained::trainable_parameters;

impl Builder<'_> {
    /// The untrained models of the grid, one per model and dtype, with every task that any of its cells wants.
    pub(super) fn bases(
        &self,
        configs: &[JobConfig],
        places: &[CellInputs],
        cells: &[Settings],
    ) -> Vec<PlannedJob> {
        let mut bases: BTreeMap<(usize, DType), (BTreeSet<usize>, &Settings)> = BTreeMap::new();
        for ((config, places), settings) in configs.iter().zip(places).zip(cells) {
            let key = (places.model, config.train.base.dtype);
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

    /// The untrained models listed as references in the file, on every task.
    pub(super) fn references(&mut self, context: &mut PlanContext<'_>) -> Result<Vec<PlannedJob>, PlanError> {
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
            jobs.push(self.base(model, context.device.auto_dtype(), tasks, &settings, label));
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
        let mut base_settings = Settings::new();
        for path in
            ["model", "revision", "eval", "limit", "num_fewshot", "prompt_profile", "softmax", "train.dtype"]
        {
            if let (Some(key), Some(setting)) = (find_key(path), settings.get(path)) {
                base_settings.set(key, setting.value.clone(), setting.origin.clone());
            }
        }
        let tasks: Vec<usize> = tasks.into_iter().collect();
        self.job(
            Draft {
                subject,
                work: Work::Base,
                model,
                dtype,
                settings: base_settings,
                label,
                trainable: 0,
                tokens: 0,
                memory: None,
            },
            &tasks,
        )
    }

    /// One job per cell. Errors: two cells that are the same job.
    pub(super) fn grid(
        &self,
        configs: Vec<JobConfig>,
        places: &[CellInputs],
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
        places: &CellInputs,
        mut settings: Settings,
        axes: &[&'static str],
    ) -> Result<PlannedJob, PlanError> {
        let (model, data) = (&self.models[places.model], &self.data[places.data]);
        let shape = &model.config;
        let rows = data.rows - config.train.validation_rows(data.rows);
        config.train.iterations = config.length.iterations(rows, config.train.micro_batch_size);
        let (dtype, iterations) = (config.train.base.dtype, config.train.iterations);
        let (identity, template) = (model.identity, data.template.as_str());
        let trained_rows = config.train.rows(rows);
        let facts = TrainingFacts {
            model: identity,
            data: data.identity,
            template,
            dtype,
            iterations,
            rows: trained_rows,
        };
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
        if data.encoded.is_some() && config.train.steps() == 0 {
            return Err(PlanError::NoSteps { label, iterations, window: config.train.window() });
        }
        let draft = Draft {
            subject,
            model: places.model,
            dtype,
            settings,
            label,
            trainable: trainable_parameters(shape, &config.lora),
            tokens: (data.mean_tokens * trained_rows as f64) as u64,
            memory: Some(MemoryEstimate::of(shape, &config.train, &config.lora, (self.device, data.longest))),
            work: Work::Train { data: places.data, config: Box::new(config) },
        };
        Ok(self.job(draft, &places.tasks))
    }

    fn job(&self, draft: Draft, tasks: &[usize]) -> PlannedJob {
        let Draft { subject, work, model, dtype, settings, label, trainable, tokens, memory } = draft;
        let wanted: Vec<_> = tasks.iter().map(|&task| (task, self.tasks[task].key(subject))).collect();
        let missing: Vec<usize> =
            (0..wanted.len()).filter(|&at| !self.known.scored.contains(&wanted[at].1.0)).collect();
        let key = subject.digest();
        let unanswered = |&at: &usize| !self.known.sampled.contains(&(key, self.samples[at].key));
        let samples_missing: Vec<usize> = (0..self.samples.len()).filter(unanswered).collect();
        // A removed adapter is trained again only for missing scores and samples.
        let there = self.known.trained.contains(&key)
            || (self.known.removed.contains(&key) && missing.is_empty() && samples_missing.is_empty());
        let train_missing = matches!(work, Work::Train { .. }) && !there;
        let score_tokens: u64 = missing.iter().map(|&at| self.tasks[wanted[at].0].tokens).sum();
        let left = if train_missing { tokens as f64 } else { 0.0 };
        let rate = self.throughput(&self.models[model], dtype).tokens_per_second();
        let moments = match &work {
            Work::Train { config, .. } => config.train.optimizer_moments(),
            Work::Base => 0,
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
            samples_missing,
            estimate,
        }
    }
}

/// A job before its keys are compared with finished work.
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

/// Replaces a symbolic value by its resolved value.
fn resolved(settings: &mut Settings, path: &'static str, word: &'static str, value: Value) {
    if settings.value(path).and_then(Value::as_text) == Some(word)
        && let Some(key) = find_key(path)
    {
        settings.set(key, value, Origin::Resolved { from: word });
    }
}
