//! `loragrid export --format lm-eval`: what lm_eval would have written of each job.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::eval::write_files;
use crate::cli::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::write_error;
use crate::job::JobState;
use crate::plan::{Plan, PlannedJob};
use crate::protocol::DocumentScore;
use crate::queue::StoredDocument;
use crate::report::lm_eval::{Evaluation, TaskResult, results_json};
use crate::store::Store;
use crate::task::{Member, Subset, build_documents};
use crate::workspace::Workspace;

/// The seed of examples that sweeps and lm_eval use.
const FEWSHOT_SEED: u64 = 1234;

/// Writes a folder for each finished job of a sweep. Errors: the plan's, no job is done, the system's.
pub(super) async fn write(
    store: &Store,
    sweep: Option<&str>,
    folder: &Path,
    workspace: &Workspace,
) -> Result<(), Failure> {
    let board = store.board(sweep).await?;
    let plan = workspace.plan_stored(store, &board.sweep).await?;
    let (mut written, mut left_out) = (0, 0);
    for job in &plan.jobs {
        let state = board.jobs.iter().find(|own| own.id == job.id).map(|own| own.state);
        if state == Some(JobState::Done)
            && let Some(evaluation) = evaluation(store, &plan, job).await?
        {
            let value = results_json(&evaluation, true);
            write_files(&folder.join(job.id.as_str()), &evaluation, &value)?;
            written += 1;
        } else {
            left_out += 1;
        }
    }
    if written > 0 && left_out > 0 {
        write_error(&format!(
            "{left_out} of {} jobs are not done, or not scored on all documents: left out",
            plan.jobs.len()
        ));
    }
    if written == 0 {
        let message = format!("no job of sweep '{}' is done", board.sweep);
        return Err(Failure::new(ExitCode::NotFound, message, "`loragrid status` shows its jobs".to_owned()));
    }
    Ok(())
}

/// A job's scores as an evaluation; none where a task's documents are not here or not all scored.
async fn evaluation(store: &Store, plan: &Plan, job: &PlannedJob) -> Result<Option<Evaluation>, Failure> {
    let model = &plan.models[job.model];
    let Some(local) = &model.local else { return Ok(None) };
    let mut results = Vec::new();
    for (place, (task, key)) in job.wanted.iter().enumerate() {
        let planned = &plan.tasks[*task];
        let documents = build_documents(&planned.task, &Subset::from(planned.facts.limit))?;
        let all = build_documents(&planned.task, &Subset::All)?.len() as u64;
        let stored = store.documents(*key).await?;
        if stored.len() != documents.len() || documents.is_empty() {
            return Ok(None);
        }
        let score = |own: StoredDocument| {
            let StoredDocument { document, requests, metrics, answers } = own;
            DocumentScore { task: place, document, requests, metrics, answers }
        };
        let scores = stored.into_iter().map(score).collect();
        results.push(TaskResult::new(planned.task.clone(), all, documents, scores));
    }
    let adapter = store.job(job.id.as_str()).await?.adapter;
    let special = [local.tokenizer.bos(), local.tokenizer.eos()];
    let special = special.map(|id| id.and_then(|id| Some((local.tokenizer.decode(&[id]).ok()?, id))));
    let facts = job.wanted.first().map(|(task, _)| plan.tasks[*task].facts);
    let Some(facts) = facts else { return Ok(None) };
    let form = job.base_form();
    Ok(Some(Evaluation {
        model: model.name.clone(),
        adapter,
        dtype: job.dtype.as_str().to_owned(),
        quantize: form.is_quantized().then(|| form.quantize.as_str().to_owned()),
        softmax: facts.softmax.as_str().to_owned(),
        profile: facts.prompt_profile.as_str().to_owned(),
        parameters: model.parameters,
        limit: facts.limit.map(|limit| limit as f64),
        gen_kwargs: serde_json::Map::new(),
        num_fewshot: facts.num_fewshot,
        fewshot_seed: FEWSHOT_SEED,
        system: None,
        chat_template: None,
        multiturn: None,
        max_length: model.config.max_positions,
        special,
        date: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        seconds: 0.0,
        scoring: 0.0,
        roots: (0..results.len()).map(Member::Task).collect(),
        results,
    }))
}
