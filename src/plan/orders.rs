//! From plan to queue: an order for each job, and the files that orders read.

use std::collections::BTreeSet;
use std::path::Path;

use super::job::{PlannedJob, Work};
use super::planner::Plan;
use super::samples::PlannedSample;
use crate::data::{read_checked, write_checked};
use crate::job::Variant;
use crate::orders::{
    JobOrder, ORDER_VERSION, OrderedModel, OrderedSample, OrderedSamples, OrderedTask, OrderedWork,
    SweepWants,
};
use crate::scheduler::{Pack, PackCandidate, PackKind, PackRules, TrainingLoad, plan_packs};
use crate::task::TaskDocuments;

impl Plan {
    /// The packs of the missing work; their jobs are indices into [`Plan::jobs`].
    pub fn packs(&self, rules: PackRules) -> Vec<Pack> {
        let missing: Vec<usize> = (0..self.jobs.len()).filter(|&at| !self.jobs[at].is_done()).collect();
        let candidates: Vec<PackCandidate> =
            missing.iter().map(|&at| self.candidate(&self.jobs[at])).collect();
        let mut packs = plan_packs(&candidates, rules);
        for at in packs.iter_mut().flat_map(|pack| &mut pack.jobs) {
            *at = missing[*at];
        }
        packs
    }

    fn candidate(&self, job: &PlannedJob) -> PackCandidate {
        let config = match &job.work {
            Work::Train { config, .. } if job.train_missing => Some(config),
            Work::Train { .. } | Work::Base => None,
        };
        let memory = job.estimate.memory;
        let adapter = memory.map_or(0, |memory| memory.adapter.0 + memory.optimizer.0);
        let training = config.zip(memory).map(|(config, memory)| TrainingLoad {
            steps: config.train.steps(),
            tokens: job.estimate.train_tokens,
            weights: memory.weights,
        });
        PackCandidate {
            kind: PackKind {
                model: self.models[job.model].identity,
                form: job.base_form(),
                trains: config.is_some(),
                checkpointing: config.is_some_and(|config| config.train.gradient_checkpointing),
                slow: config.is_some_and(|config| config.lora.variant == Variant::Dora),
                alone: config.filter(|config| config.train.strict).map(|_| job.id.clone()),
            },
            time: job.estimate.time,
            shared: memory.map_or_else(Default::default, |memory| memory.shared()),
            adapter: crate::job::Bytes(adapter),
            training,
        }
    }

    /// An order for each job, in the plan's order. `submitted_ms`: milliseconds since 1970.
    pub fn orders(&self, submitted_ms: i64, priority: i64) -> Vec<JobOrder> {
        let samples: Vec<Option<String>> = (0..self.models.len())
            .map(|model| self.ordered_samples(model).map(|samples| samples.to_file().0))
            .collect();
        let order = |(position, job): (usize, &PlannedJob)| {
            let wants = SweepWants {
                label: job.label.clone(),
                priority,
                submitted_ms,
                position: position as u64,
                tasks: job.wanted.iter().map(|(task, key)| self.ordered_task(*task, *key)).collect(),
                samples: samples[job.model].clone(),
            };
            let model = &self.models[job.model];
            JobOrder {
                version: ORDER_VERSION,
                id: job.id.clone(),
                subject: job.subject,
                work: match &job.work {
                    Work::Base => OrderedWork::Base,
                    Work::Train { config, data } => OrderedWork::Train {
                        config: config.clone(),
                        rows: self.data[*data].cache_name.clone(),
                        longest_row: self.data[*data].longest,
                    },
                },
                model: OrderedModel {
                    name: model.name.clone(),
                    location: model.location.clone(),
                    identity: model.identity,
                },
                form: job.base_form(),
                train_tokens: job.estimate.train_tokens,
                tokens_per_second: self.throughput[job.model].tokens_per_second(),
                sweeps: [(self.name.to_string(), wants)].into(),
            }
        };
        self.jobs.iter().enumerate().map(order).collect()
    }

    fn ordered_task(&self, task: usize, key: crate::job::ScoreKey) -> OrderedTask {
        let planned = &self.tasks[task];
        OrderedTask {
            task: planned.task.name.clone(),
            key,
            documents: planned.documents_file(),
            count: planned.documents.unwrap_or_default(),
            tokens: planned.tokens,
            softmax: planned.facts.softmax,
            exact: false,
        }
    }

    /// The prompts as tokens of a model; none if there are no samples.
    fn ordered_samples(&self, model: usize) -> Option<OrderedSamples> {
        let tokenizer = &self.models[model].local.as_ref()?.tokenizer;
        let sample = |(position, sample): (usize, &PlannedSample)| {
            let mut tokens = tokenizer.encode(&sample.prompt, !sample.has_special_tokens).unwrap_or_default();
            if tokens.is_empty() {
                tokens.extend(tokenizer.prefix());
            }
            OrderedSample {
                key: sample.key,
                position: position as u64,
                prompt: sample.prompt.clone(),
                tokens,
                wanted: sample.wanted.clone(),
                max_tokens: sample.max_tokens,
            }
        };
        let samples: Vec<OrderedSample> = self.samples.iter().enumerate().map(sample).collect();
        (!samples.is_empty()).then(|| OrderedSamples { samples, stop: tokenizer.stops() })
    }

    /// Writes the cache files that the orders of missing jobs read: rows, documents, prompts. Existing files are kept. Returns
    /// their names. Error: the system's.
    pub fn write_inputs(&self, cache: &Path) -> std::io::Result<BTreeSet<String>> {
        std::fs::create_dir_all(cache)?;
        let mut names = BTreeSet::new();
        let trains = |data: usize| {
            self.jobs.iter().any(|job| {
                job.train_missing && matches!(&job.work, Work::Train { data: other, .. } if *other == data)
            })
        };
        for (_, data) in self.data.iter().enumerate().filter(|(at, _)| trains(*at)) {
            data.cache_in(cache)?;
            names.insert(data.cache_name.clone());
        }
        let scored =
            |task: usize| self.jobs.iter().any(|job| job.missing.iter().any(|&at| job.wanted[at].0 == task));
        for (_, planned) in self.tasks.iter().enumerate().filter(|(at, _)| scored(*at)) {
            let name = planned.documents_file();
            let path = cache.join(&name);
            names.insert(name);
            if let Some(documents) = planned.built.as_ref().filter(|_| read_checked(&path).is_none()) {
                TaskDocuments::new(planned.task.clone(), documents.to_vec()).write(&path)?;
            }
        }
        let models: BTreeSet<usize> = self.to_run().map(|job| job.model).collect();
        for samples in models.into_iter().filter_map(|model| self.ordered_samples(model)) {
            let (name, bytes) = samples.to_file();
            let path = cache.join(&name);
            names.insert(name);
            if read_checked(&path).is_none() {
                write_checked(&path, bytes)?;
            }
        }
        Ok(names)
    }
}
