//! What is asked for: tasks, documents, and how prompts are put together.

use std::collections::BTreeMap;
use std::path::Path;

use super::subject::Subject;
use crate::cli::ExitCode;
use crate::cli::arguments::EvalArguments;
use crate::cli::downloads::pull_rows;
use crate::cli::failure::Failure;
use crate::cli::output::write_error;
use crate::job::{Digest, ScoreFacts, ScoreKey, Softmax, canonical_json};
use crate::plan::task_notes;
use crate::pretrained::{Checkpoint, FileDigests, ModelTokenizer};
use crate::task::{
    Catalogue, Document, EncodedDocument, Member, Prompting, RequestEncoder, Selection, Subset, Task,
    TaskError, TaskIndex, build_documents,
};
use crate::workspace::Workspace;

/// A task with the documents that are asked for.
pub(super) struct EvalRequest {
    pub(super) task: Task,
    pub(super) subset: Subset,
    /// Documents that the task has.
    pub(super) original: u64,
    pub(super) documents: Vec<Document>,
}

/// What is asked for.
pub(super) struct Request {
    pub(super) tasks: Vec<EvalRequest>,
    pub(super) roots: Vec<Member>,
    pub(super) prompting: Prompting,
    num_fewshot: Option<u64>,
    softmax: Softmax,
}

impl Request {
    /// Reads tasks and documents. Errors: a task that is unknown or refused, rows that are not here and cannot be brought, a
    /// document that cannot be built or encoded.
    pub(super) fn read(
        arguments: &EvalArguments,
        workspace: &Workspace,
        checkpoint: &Checkpoint,
        tokenizer: &ModelTokenizer,
    ) -> Result<Self, Failure> {
        let prompting = prompting(arguments, tokenizer)?;
        let Selection { tasks, roots } = select(arguments, workspace)?;
        let mut subsets = subsets(arguments, &tasks)?;
        let mut wanted = Vec::new();
        let (mut cut, mut all) = (0, 0);
        for task in tasks {
            let mut task = task.with_shots(arguments.num_fewshot).with_prompting(&prompting);
            if let Some(changes) = &arguments.gen_kwargs {
                task = task.with_generation(changes)?;
            }
            let subset = subsets.remove(&task.name).unwrap_or_default();
            let original = build_count(&task)?;
            check_numbers(&task, &subset, original)?;
            let documents = build_documents(&task, &subset)?;
            let config = checkpoint.config();
            let (most, rows) = (config.max_positions as usize, config.vocab_size);
            let encoder = RequestEncoder::new(tokenizer, most, rows, prompting.profile);
            all += documents.iter().map(|document| document.requests.len()).sum::<usize>();
            let encoded = encoder.documents(&task, &documents)?.into_iter();
            let sequences = encoded.flat_map(EncodedDocument::into_sequences);
            cut += sequences.filter(|sequence| sequence.cut > 0).count();
            task_notes(&task, &documents).iter().for_each(|note| write_error(&format!("warning: {note}")));
            wanted.push(EvalRequest { task, subset, original, documents });
        }
        if cut > 0 {
            let max = checkpoint.config().max_positions;
            write_error(&format!(
                "{cut} of {all} prompts are cut at their beginning to the model's {max} tokens"
            ));
        }
        let (num_fewshot, softmax) = (arguments.num_fewshot, arguments.softmax);
        Ok(Self { tasks: wanted, roots, prompting, num_fewshot, softmax })
    }

    /// The key of each subject's scores on each task. Error: rows that cannot be read.
    pub(super) fn keys(
        &self,
        subjects: &[Subject],
        digests: &mut dyn FileDigests,
    ) -> Result<Vec<Vec<ScoreKey>>, Failure> {
        let mut versions = Vec::new();
        for EvalRequest { task, subset, .. } in &self.tasks {
            let mut contents = Vec::new();
            for rows in task.sources() {
                let Some(here) = &rows.here else { continue };
                let read = |source| TaskError::Documents { task: task.name.clone(), source };
                contents.push(here.identity(digests).map_err(read)?);
            }
            let version = task.version_digest(Digest::all(&contents));
            // The first n documents are a fact of the key; other subsets are part of the version.
            let (version, limit) = match subset {
                Subset::All => (version, None),
                Subset::First(n) => (version, Some(*n)),
                other => (Digest::of(format!("{version} {}", canonical_json(other)).as_bytes()), None),
            };
            let (num_fewshot, prompt_profile, softmax) =
                (self.num_fewshot, self.prompting.profile, self.softmax);
            versions.push((version, ScoreFacts { limit, num_fewshot, prompt_profile, softmax }));
        }
        let of = |subject: &Subject| {
            versions.iter().map(|(version, facts)| ScoreKey::of(subject.key, *version, *facts)).collect()
        };
        Ok(subjects.iter().map(of).collect())
    }
}

/// The tasks that are named; rows that are not here are brought first.
fn select(arguments: &EvalArguments, workspace: &Workspace) -> Result<Selection, Failure> {
    let index = TaskIndex::with_folder(arguments.include_path.as_deref())?;
    let (folder, roots, profile) = (Path::new("."), &workspace.roots, arguments.prompt_profile);
    let catalogue = Catalogue { folder, roots, index: &index, profile };
    let selection = catalogue.select(&arguments.tasks)?;
    let shots = |task: &Task| task.clone().with_shots(arguments.num_fewshot);
    let tasks: Vec<Task> = selection.tasks.iter().map(shots).collect();
    if pull_rows(tasks.iter(), workspace)? { Ok(catalogue.select(&arguments.tasks)?) } else { Ok(selection) }
}

fn prompting(arguments: &EvalArguments, tokenizer: &ModelTokenizer) -> Result<Prompting, Failure> {
    let help = "use a checkpoint whose tokenizer_config.json has a chat_template that compiles".to_owned();
    let chat = arguments.apply_chat_template.then_some(arguments.fewshot_as_multiturn);
    let system = arguments.system_instruction.clone();
    Prompting::of_model(tokenizer, arguments.prompt_profile, chat, system, arguments.seed)
        .map_err(|reason| Failure::new(ExitCode::Model, reason, help))
}

/// Which documents of each task.
fn subsets(arguments: &EvalArguments, tasks: &[Task]) -> Result<BTreeMap<String, Subset>, Failure> {
    let wrong = |reason: String| {
        let help = "write {\"TASK\": [0, 5, 7]} or the path of a file with that".to_owned();
        Failure::new(ExitCode::Usage, format!("--samples: {reason}"), help)
    };
    let Some(text) = &arguments.samples else {
        let limit = arguments.limit.and_then(Subset::limit).unwrap_or_default();
        return Ok(tasks.iter().map(|task| (task.name.clone(), limit.clone())).collect());
    };
    let text = if text.trim_start().starts_with('{') {
        text.clone()
    } else {
        std::fs::read_to_string(text).map_err(|error| wrong(format!("{text}: {error}")))?
    };
    let numbers: BTreeMap<String, Vec<usize>> =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if let Some(name) = numbers.keys().find(|name| !tasks.iter().any(|task| task.name == **name)) {
        return Err(wrong(format!("task '{name}' is not in --tasks")));
    }
    Ok(numbers.into_iter().map(|(name, numbers)| (name, Subset::Numbers(numbers))).collect())
}

/// How many documents a task has. Errors: rows that are not here or cannot be read.
fn build_count(task: &Task) -> Result<u64, Failure> {
    Ok(crate::task::count_documents(task)?)
}

/// Error: a number beyond a task's documents, or none of them.
fn check_numbers(task: &Task, subset: &Subset, all: u64) -> Result<(), Failure> {
    let Subset::Numbers(numbers) = subset else { return Ok(()) };
    let beyond = numbers.iter().find(|number| **number as u64 >= all);
    let reason = match (beyond, numbers.is_empty()) {
        (Some(number), _) => format!("'{}' has {all} documents, none is number {number}", task.name),
        (None, true) => format!("no document of '{}' is named", task.name),
        (None, false) => return Ok(()),
    };
    Err(Failure::new(ExitCode::Usage, format!("--samples: {reason}"), "numbers count from 0".to_owned()))
}
