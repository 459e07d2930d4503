//! Inputs of the grid's cells: models, tasks and data, each found once.

use std::path::Path;
use std::rc::Rc;

use super::blocker::Blocker;
use super::context::PlanContext;
use super::data::PlannedData;
use super::error::PlanError;
use super::models::PlannedModel;
use super::planner::Builder;
use super::samples::PlannedSample;
use super::tasks::{PlannedGroup, PlannedTask};
use crate::jinja::TemplateDate;
use crate::job::{EvalConfig, JobConfig};
use crate::task::{Catalogue, FEWSHOT_SEED, Member, Prompting, Selection, read_gen_kwargs};

/// How a job reads its data: one encoding per key.
pub(super) type EncodingKey = (String, String, TemplateDate, usize, u64, &'static str, &'static str);

/// The indices of a cell's model, data and tasks in the plan.
#[derive(Debug, Clone)]
pub(super) struct CellInputs {
    pub(super) model: usize,
    pub(super) data: usize,
    pub(super) tasks: Rc<[usize]>,
}

/// Whether two cells share model, data and tasks.
fn reads_alike(a: &JobConfig, b: &JobConfig) -> bool {
    (&a.model, &a.revision, &a.data, &a.template, &a.template_date, &a.eval)
        == (&b.model, &b.revision, &b.data, &b.template, &b.template_date, &b.eval)
        && (a.train.max_seq_length, a.train.labels, a.train.overlong)
            == (b.train.max_seq_length, b.train.labels, b.train.overlong)
}

impl Builder<'_> {
    /// Models, tasks and data of all cells, each once, and the indices of each cell.
    pub(super) fn find_everything(
        &mut self,
        configs: &[JobConfig],
        context: &mut PlanContext<'_>,
    ) -> Result<Vec<CellInputs>, PlanError> {
        let folder = self.folder.clone();
        // Every model first: tasks are encoded with the first one on this machine.
        let mut last: Option<&JobConfig> = None;
        for config in configs {
            if last.is_none_or(|last| last.model != config.model || last.revision != config.revision) {
                self.model(&config.model, config.revision.as_deref(), context)?;
            }
            last = Some(config);
        }
        let trains = self.spec.trains;
        if let (Some(samples), false) = (&self.spec.samples, trains) {
            self.samples = PlannedSample::bare(samples);
        }
        let mut places: Vec<CellInputs> = Vec::with_capacity(configs.len());
        for (at, config) in configs.iter().enumerate() {
            // Adjacent cells mostly have the same inputs.
            if at > 0 && reads_alike(&configs[at - 1], config) {
                places.push(places[at - 1].clone());
            } else {
                let model = self.by_name[&(config.model.clone(), config.revision.clone())];
                let tasks = self.evaluation((&config.eval, model), &folder, context)?;
                let data = if trains { self.encoded(config, model, &folder, context)? } else { 0 };
                places.push(CellInputs { model, data, tasks });
            }
        }
        Ok(places)
    }

    pub(super) fn model(
        &mut self,
        name: &str,
        revision: Option<&str>,
        context: &mut PlanContext<'_>,
    ) -> Result<usize, PlanError> {
        let key = (name.to_owned(), revision.map(str::to_owned));
        if let Some(known) = self.by_name.get(&key) {
            return Ok(*known);
        }
        let model = PlannedModel::find(name, revision, &self.folder, context)?;
        if model.local.is_none() {
            self.blockers.insert(Blocker::Model { name: name.to_owned() });
        }
        self.models.push(model);
        self.by_name.insert(key, self.models.len() - 1);
        Ok(self.models.len() - 1)
    }

    /// The indices of an evaluation's tasks.
    fn evaluation(
        &mut self,
        (eval, model): (&EvalConfig, usize),
        folder: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<Rc<[usize]>, PlanError> {
        // A chat template is the model's own.
        let way = (eval.clone(), eval.prompts.apply_chat_template.then_some(model));
        if let Some(places) = self.by_eval.get(&way) {
            return Ok(Rc::clone(places));
        }
        let mut places = Vec::new();
        let (roots, index) = (context.roots.clone(), std::sync::Arc::clone(&context.tasks));
        let catalogue =
            Catalogue { folder, roots: &roots, index: &index, profile: eval.facts.prompt_profile };
        let selection = catalogue.select(&eval.tasks)?;
        for name in selection.tasks.iter().map(|task| &task.name) {
            self.notes.extend(index.twice(name).map(|files| format!("task {name}: {files}")));
        }
        self.columns(&selection);
        let prompting = self.prompting(eval, model)?;
        let gen_kwargs = eval.prompts.gen_kwargs.as_deref().map(read_gen_kwargs).transpose();
        let gen_kwargs = gen_kwargs.map_err(|reason| PlanError::GenKwargs { reason })?;
        for task in selection.tasks {
            let mut task = task.with_shots(eval.facts.num_fewshot).with_prompting(&prompting);
            if let Some(changes) = &gen_kwargs {
                task = task.with_generation(changes)?;
            }
            let same = |known: &PlannedTask| {
                known.task.name == task.name
                    && known.facts == eval.facts
                    && known.task.prompting == task.prompting
                    && known.task.generation == task.generation
            };
            if let Some(place) = self.tasks.iter().position(same) {
                places.push(place);
                continue;
            }
            let task = PlannedTask::of(task, eval, &self.models, context)?;
            for rows in task.task.sources().into_iter().filter(|rows| rows.here.is_none()) {
                let (task, name) = (task.task.name.clone(), rows.name());
                self.blockers.insert(Blocker::Documents { task, name });
            }
            self.tasks.push(task);
            places.push(self.tasks.len() - 1);
        }
        let places: Rc<[usize]> = places.into();
        self.by_eval.insert(way, Rc::clone(&places));
        Ok(places)
    }

    /// How the prompts of an evaluation are put together for a model; without its chat template where it is not on this machine. Error:
    /// it has no chat template.
    fn prompting(&self, eval: &EvalConfig, model: usize) -> Result<Prompting, PlanError> {
        let (profile, system) = (eval.facts.prompt_profile, eval.prompts.system_instruction.clone());
        let Some(local) = &self.models[model].local else {
            return Ok(Prompting { profile, system, ..Prompting::default() });
        };
        let chat = eval.prompts.apply_chat_template.then_some(eval.prompts.fewshot_as_multiturn);
        Prompting::of_model(&local.tokenizer, profile, chat, system, FEWSHOT_SEED)
            .map_err(|reason| PlanError::ChatTemplate { model: self.models[model].name.clone(), reason })
    }

    /// Adds the leaderboard columns of an evaluation, in the requested order: each task, and each group that aggregates over its tasks.
    fn columns(&mut self, selection: &Selection) {
        let mut add = |name: &String| {
            if !self.columns.contains(name) {
                self.columns.push(name.clone());
            }
        };
        for root in &selection.roots {
            let group = match root {
                Member::Task(number) => {
                    add(&selection.tasks[*number].name);
                    continue;
                }
                Member::Group(group) => group,
            };
            let (planned, notes) = PlannedGroup::of(group, &selection.tasks);
            self.notes.extend(notes);
            match planned {
                Some(planned) => {
                    add(&planned.name);
                    if !self.groups.contains(&planned) {
                        self.groups.push(planned);
                    }
                }
                None => group.tasks().into_iter().for_each(|number| add(&selection.tasks[number].name)),
            }
        }
    }

    /// The index of a job's data.
    fn encoded(
        &mut self,
        config: &JobConfig,
        model: usize,
        folder: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<usize, PlanError> {
        let train = &config.train;
        let (data, template) = (config.data.clone(), config.template.clone());
        let (labels, overlong) = (train.labels.as_str(), train.overlong.as_str());
        let way = (data, template, config.template_date, model, train.max_seq_length, labels, overlong);
        if let Some(place) = self.by_way.get(&way) {
            return Ok(*place);
        }
        // All jobs answer the same prompts: those from the first data set's template.
        let wanted = self.spec.samples.as_ref().filter(|_| self.data.is_empty());
        let (data, samples) = PlannedData::find(config, &self.models[model], folder, wanted, context)?;
        self.samples.extend(samples);
        if data.encoded.is_none() && self.models[model].local.is_some() {
            self.blockers.insert(Blocker::Data { name: config.data.clone() });
        }
        self.data.push(data);
        self.by_way.insert(way, self.data.len() - 1);
        Ok(self.data.len() - 1)
    }
}
