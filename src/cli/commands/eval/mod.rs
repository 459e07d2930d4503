//! `loragrid eval`

mod files;
mod request;
mod subject;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::checkpoint::{Checkpoint, ModelTokenizer};
use crate::cli::ExitCode;
use crate::cli::arguments::EvalArguments;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::models::local_model;
use crate::cli::output::{write_error, write_json, write_line};
use crate::cli::session::{Session, tokenizer};
use crate::job::{BaseForm, ScoreKey};
use crate::protocol::{DocumentScore, Event, Order, ScoreOrder, TaskOrder};
use crate::report::lm_eval::{Evaluation, TaskResult, markdown, results_json};
use crate::store::{ScoreRecord, Store, StoredDocument};
use crate::task::Document;
pub(super) use files::write_files;
use request::Request;
use subject::Subject;

/// Documents that are collected, and how long, before they go into the database together.
const BATCH: usize = 64;
const WAIT: Duration = Duration::from_secs(1);

pub(in crate::cli) fn run(arguments: &EvalArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let model = local_model(&arguments.model, environment)?;
    let checkpoint = Checkpoint::open(&model)?;
    let tokenizer = tokenizer(&model)?;
    for note in checkpoint.notes().iter().chain(tokenizer.notes()) {
        write_error(&format!("warning: model {}: {note}", arguments.model));
    }
    // Whatever is wrong with a task or a document is told before the model is loaded.
    let request = Request::read(arguments, environment, &checkpoint, &tokenizer)?;
    let form = Session::form(&arguments.load, arguments.load.quantize);
    let mut values = Vec::new();
    block_on(async {
        let store = Store::open(&environment.db).await?;
        let mut digests = store.digests().await?;
        let subjects = Subject::all(arguments, &checkpoint, &tokenizer, form, &mut digests)?;
        let keys = request.keys(&subjects, &mut digests)?;
        store.remember(&digests).await?;
        let mut scorer = Scorer { arguments, model: &model, form, store: &store, session: None };
        for (subject, keys) in subjects.iter().zip(&keys) {
            let began = Instant::now();
            let (documents, scoring) = scorer.score(subject, &request, keys).await?;
            let mut evaluation = evaluation(arguments, &request, subject, form, &checkpoint, &tokenizer);
            evaluation.results = results(&request, documents);
            evaluation.scoring = scoring;
            evaluation.seconds = began.elapsed().as_secs_f64();
            let record = |(result, key): (&TaskResult, &ScoreKey)| {
                let (task, aggregates) = (result.task.name.clone(), result.aggregates.clone());
                let documents = result.scores.iter().map(|own| (own.document, own.metrics.clone())).collect();
                (subject.key.digest(), ScoreRecord { key: *key, task, aggregates, documents })
            };
            let records: Vec<_> = evaluation.results.iter().zip(keys).map(record).collect();
            store.record_scores(None, &records).await?;
            let value = results_json(&evaluation, arguments.output.is_some());
            if let Some(output) = &arguments.output {
                write_files(output, &evaluation, &value)?;
            }
            if arguments.json {
                values.push(value);
            } else {
                let heading = evaluation.heading();
                write_line(&format!("{heading}, {:.1} s\n{}", evaluation.seconds, markdown(&evaluation)))?;
            }
        }
        store.close().await;
        Ok(())
    })?;
    if arguments.json {
        write_json(&json!({ "evaluations": values }))?;
    }
    Ok(ExitCode::Success)
}

/// Scores one subject after another; the engine starts when the first document needs it.
struct Scorer<'a> {
    arguments: &'a EvalArguments,
    model: &'a std::path::Path,
    form: BaseForm,
    store: &'a Store,
    session: Option<Session>,
}

impl Scorer<'_> {
    /// What is stored of each task's documents after all of them are scored, those of an earlier evaluation included; and
    /// the engine's seconds.
    async fn score(
        &mut self,
        subject: &Subject,
        request: &Request,
        keys: &[ScoreKey],
    ) -> Result<(Vec<Vec<StoredDocument>>, f64), Failure> {
        let mut tasks = Vec::new();
        let (mut known, mut all) = (0, 0);
        for (wanted, key) in request.tasks.iter().zip(keys) {
            let stored = if self.arguments.again {
                Default::default()
            } else {
                self.store.scored_documents(*key).await?
            };
            known += stored.len();
            all += wanted.documents.len();
            tasks.push(TaskOrder { task: wanted.task.clone(), subset: wanted.subset.clone(), done: stored });
        }
        if known > 0 {
            write_error(&format!("{known} of {all} documents are scored already"));
        }
        let scoring = if known < all { self.order(subject, tasks, keys).await? } else { 0.0 };
        let mut documents = Vec::new();
        for key in keys {
            documents.push(self.store.documents(*key).await?);
        }
        Ok((documents, scoring))
    }

    /// Has the engine score what is missing, and stores documents as they come. Returns the engine's seconds.
    async fn order(
        &mut self,
        subject: &Subject,
        tasks: Vec<TaskOrder>,
        keys: &[ScoreKey],
    ) -> Result<f64, Failure> {
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let mut session = Session::start(&self.arguments.load)?;
                session.load(self.model, self.form).await?;
                none.insert(session)
            }
        };
        let order = ScoreOrder {
            log: session.scratch().join("score.log"),
            adapters: vec![subject.adapter.clone()],
            tasks,
            token_budget: session.token_budget(),
            exact: self.arguments.exact,
            softmax: self.arguments.softmax,
        };
        session.send(&Order::Score(order)).await?;
        let mut waiting: Vec<DocumentScore> = Vec::new();
        let mut since = Instant::now();
        loop {
            let event = session.next().await;
            let ended = !matches!(event, Ok(Event::Document { .. }));
            if let Ok(Event::Document { score, .. }) = &event {
                waiting.push(score.clone());
            }
            if ended || waiting.len() >= BATCH || since.elapsed() > WAIT {
                let keyed = waiting.iter().filter_map(|score| Some((*keys.get(score.task)?, score)));
                self.store.record_documents(None, keyed).await?;
                waiting.clear();
                since = Instant::now();
            }
            match event? {
                Event::Scored { seconds, .. } => return Ok(seconds.0),
                _ => continue,
            }
        }
    }
}

/// The results of each task. A document that is stored and not asked for now is left out.
fn results(request: &Request, stored: Vec<Vec<StoredDocument>>) -> Vec<TaskResult> {
    let of_task = |(place, (wanted, stored)): (usize, (&request::Wanted, Vec<StoredDocument>))| {
        let score = |document: &Document| {
            let found = stored.iter().find(|stored| stored.document == document.id)?.clone();
            let StoredDocument { document, requests, metrics } = found;
            Some(DocumentScore { task: place, document, requests, metrics })
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
        quantize: form.is_quantised().then(|| form.quantize.as_str().to_owned()),
        softmax: arguments.softmax.as_str().to_owned(),
        profile: arguments.prompt_profile.as_str().to_owned(),
        parameters: checkpoint.config().parameters(),
        limit: arguments.limit,
        num_fewshot: arguments.num_fewshot,
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
