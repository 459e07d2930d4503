//! `loragrid eval`

mod files;
mod request;
mod subject;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::artifacts::Artifacts;
use crate::cli::ExitCode;
use crate::cli::arguments::EvalArguments;
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_error, write_json, write_line};
use crate::cli::progress::Display;
use crate::cli::work::{stopped_by, stops};
use crate::device::{DeviceError, DeviceKind, Inventory, Slot, slots};
use crate::engine_process::find_engine;
use crate::job::{BaseForm, ScoreKey};
use crate::orders::{ModelLocation, OrderedModel, OrderedTask};
use crate::pretrained::{Checkpoint, ModelTokenizer};
use crate::protocol::DocumentScore;
use crate::queue::{Observer, Record, ScoreRecord, StoredDocument};
use crate::report::lm_eval::{Evaluation, TaskResult, markdown, results_json};
use crate::runner::{EngineProcesses, Inputs, Limits, Progress, RunSummary, Runner};
use crate::scheduler::PACK_MOST;
use crate::store::Store;
use crate::task::{Document, TaskDocuments};
use crate::workspace::{Evaluated, EvaluationQueue, EvaluationSubject, Workspace, WorkspaceError, evaluate};
pub(super) use files::write_files;
use request::Request;
use subject::Subject;

pub(in crate::cli) fn run(arguments: &EvalArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let model = local_model(&arguments.model, workspace)?;
    let checkpoint = Checkpoint::open(&model)?;
    let tokenizer = ModelTokenizer::open(&checkpoint).map_err(WorkspaceError::from)?;
    for note in checkpoint.notes().iter().chain(tokenizer.notes()) {
        write_error(&format!("warning: model {}: {note}", arguments.model));
    }
    // Whatever is wrong with a task or a document is told before the model is loaded.
    let request = Request::read(arguments, workspace, &checkpoint, &tokenizer)?;
    let form = arguments.load.form(arguments.load.quantize);
    let mut values = Vec::new();
    let code = block_on(async {
        let (mut stops, patience) = stops();
        let store = Store::open(&workspace.db).await?.with(patience);
        let mut digests = store.digests().await?;
        let subjects = Subject::all(arguments, &checkpoint, &tokenizer, form, &mut digests)?;
        let keys = request.keys(&subjects, &mut digests)?;
        let identity = checkpoint.identity(&tokenizer, &mut digests)?;
        store.remember(&digests).await?;
        let location = ModelLocation::Path(model.clone());
        let base = OrderedModel { name: arguments.model.clone(), location, identity };
        let scratch = tempfile::tempdir()?;
        let wanted = wanted(arguments, &request, (&subjects, &keys), scratch.path())?;
        let queue = EvaluationQueue::new(store.clone());
        let (processes, slots) = engines(arguments)?;
        let runner = runner(arguments, &queue, (&processes, slots), scratch.path())?;
        let mut inputs = Inputs::new(scratch.path().to_owned(), workspace.hub.cache.clone(), &mut digests);
        let mut display = Display::new();
        let mut watch = |progress: Progress| {
            // An evaluation is not a sweep.
            if !is_json() && !matches!(progress, Progress::SweepStarted { .. }) {
                display.show(progress);
            }
        };
        let how = (&base, form, arguments.again);
        let evaluated = evaluate(&runner, how, &wanted, &mut inputs, &mut watch, &mut stops).await;
        display.finish();
        let Evaluated { summary, known, documents } = evaluated?;
        if known > 0 {
            write_error(&format!("{known} of {documents} documents are already scored"));
        }
        if let Some(failure) = failure_of(&summary) {
            return Err(failure);
        }
        if summary.stopped.is_some() {
            write_error("stopped; run the same command to continue");
            return Ok(stopped_by());
        }
        for (subject, keys) in subjects.iter().zip(&keys) {
            let mut documents = Vec::new();
            for key in keys {
                documents.push(store.documents(*key).await?);
            }
            let mut evaluation = evaluation(arguments, &request, subject, form, &checkpoint, &tokenizer);
            evaluation.results = results(&request, documents);
            evaluation.scoring = summary.device.0;
            evaluation.seconds = summary.seconds.0;
            let record = |(result, key): (&TaskResult, &ScoreKey)| {
                let (task, aggregates) = (result.task.name.clone(), result.aggregates.clone());
                let documents =
                    result.scores.iter().map(|score| (score.document, score.metrics.clone())).collect();
                ScoreRecord { key: *key, task, aggregates, documents }
            };
            let records = evaluation.results.iter().zip(keys).map(record).collect();
            store.write_record(None, &Record::Scores(subject.key.digest(), records)).await?;
            let value = results_json(&evaluation, arguments.output.is_some());
            if let Some(output) = &arguments.output {
                write_files(output, &evaluation, &value)?;
            }
            if is_json() {
                values.push(value);
            } else {
                let heading = evaluation.heading();
                write_line(&format!("{heading}, {:.1} s\n{}", evaluation.seconds, markdown(&evaluation)))?;
            }
        }
        store.close().await;
        Ok(ExitCode::Success)
    })?;
    if is_json() {
        write_json(&json!({ "evaluations": values }))?;
    }
    Ok(code)
}

/// What is to be scored of each subject; documents are written into a folder.
fn wanted(
    arguments: &EvalArguments,
    request: &Request,
    (subjects, keys): (&[Subject], &[Vec<ScoreKey>]),
    folder: &Path,
) -> Result<Vec<EvaluationSubject>, Failure> {
    let mut files = Vec::new();
    for (number, wanted) in request.tasks.iter().enumerate() {
        let file = format!("{number}.documents");
        TaskDocuments::new(wanted.task.clone(), wanted.documents.clone()).write(&folder.join(&file))?;
        files.push(file);
    }
    let task = |((wanted, file), key): ((&request::EvalRequest, &String), &ScoreKey)| OrderedTask {
        task: wanted.task.name.clone(),
        key: *key,
        documents: file.clone(),
        count: wanted.documents.len() as u64,
        tokens: 0,
        softmax: arguments.softmax,
        exact: arguments.exact,
    };
    let subject = |(subject, keys): (&Subject, &Vec<ScoreKey>)| EvaluationSubject {
        label: match &subject.adapter {
            Some(folder) => folder.display().to_string(),
            None => arguments.model.clone(),
        },
        key: subject.key,
        adapter: subject.adapter.clone(),
        tasks: request.tasks.iter().zip(&files).zip(keys).map(task).collect(),
    };
    Ok(subjects.iter().zip(keys).map(subject).collect())
}

/// The engines of an evaluation and their slots. Errors: devices that cannot be had, no engine.
fn engines(arguments: &EvalArguments) -> Result<(EngineProcesses, Vec<Slot>), Failure> {
    let load = &arguments.load;
    let usage = |error: DeviceError| Failure::new(ExitCode::Usage, error.to_string(), None);
    let (program, path) = (std::env::current_exe().ok(), std::env::var_os("PATH"));
    let program = find_engine(load.engine.as_deref(), program.as_deref(), path.as_deref())?;
    let slots = slots(&load.device, &Inventory::find(), &|| true).map_err(usage)?;
    Ok((EngineProcesses { program, launcher: None, is_pinned: slots.len() > 1 }, slots))
}

/// What scores, on the slots of `--device`. Errors: devices that cannot be had, no engine.
fn runner<'a>(
    arguments: &EvalArguments,
    queue: &'a EvaluationQueue,
    (engines, slots): (&'a EngineProcesses, Vec<Slot>),
    scratch: &Path,
) -> Result<Runner<'a, EvaluationQueue>, Failure> {
    let load = &arguments.load;
    let inventory = Inventory::find();
    let usage = |error: DeviceError| Failure::new(ExitCode::Usage, error.to_string(), None);
    Ok(Runner {
        queue,
        only: None,
        engines,
        observer: &Observer::default,
        slots,
        device: DeviceKind::named(&load.device, &inventory, &|| true).map_err(usage)?,
        inventory,
        results: scratch.to_owned(),
        artifacts: Artifacts::InResults,
        limits: Limits::from_environment(),
        pack: PACK_MOST,
        keeper: None,
    })
}

/// Why an evaluation has no results, if it failed.
fn failure_of(summary: &RunSummary) -> Option<Failure> {
    let failed =
        summary.failed.iter().chain(&summary.diverged).map(|(label, reason)| (label.clone(), reason));
    let waiting = summary.waiting.iter().map(|(job, reason)| (job.to_string(), reason));
    let (_, reason) = failed.chain(waiting).next()?;
    Some(Failure::new(ExitCode::Model, reason.clone(), None))
}

/// The results of each task. A document that is stored and not asked for now is left out.
fn results(request: &Request, stored: Vec<Vec<StoredDocument>>) -> Vec<TaskResult> {
    let of_task = |(place, (wanted, stored)): (usize, (&request::EvalRequest, Vec<StoredDocument>))| {
        let score = |document: &Document| {
            let found = stored.iter().find(|stored| stored.document == document.id)?.clone();
            let StoredDocument { document, requests, metrics, answers } = found;
            Some(DocumentScore { task: place, document, requests, metrics, answers })
        };
        let scores = wanted.documents.iter().filter_map(score).collect();
        TaskResult::new(wanted.task.clone(), wanted.original, wanted.documents.clone(), scores)
    };
    request.tasks.iter().zip(stored).enumerate().map(of_task).collect()
}

fn evaluation(
    arguments: &EvalArguments,
    request: &Request,
    subject: &Subject,
    form: BaseForm,
    checkpoint: &Checkpoint,
    tokenizer: &ModelTokenizer,
) -> Evaluation {
    let special = [tokenizer.bos(), tokenizer.eos()];
    let special = special.map(|id| id.and_then(|id| Some((tokenizer.decode(&[id]).ok()?, id))));
    let chat = request.prompting.chat.as_ref();
    Evaluation {
        model: arguments.model.clone(),
        adapter: subject.adapter.as_ref().map(|path| path.display().to_string()),
        dtype: form.dtype.as_str().to_owned(),
        quantize: form.is_quantized().then(|| form.quantize.as_str().to_owned()),
        softmax: arguments.softmax.as_str().to_owned(),
        profile: arguments.prompt_profile.as_str().to_owned(),
        parameters: checkpoint.config().parameters(),
        limit: arguments.limit,
        num_fewshot: arguments.num_fewshot,
        gen_kwargs: arguments.gen_kwargs.clone().unwrap_or_default(),
        fewshot_seed: arguments.seed,
        system: arguments.system_instruction.clone(),
        chat_template: chat.map(|chat| chat.source.template.clone()),
        multiturn: chat.map(|chat| chat.multiturn),
        max_length: checkpoint.config().max_positions,
        special,
        date: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        seconds: 0.0,
        scoring: 0.0,
        roots: request.roots.clone(),
        results: Vec::new(),
    }
}
