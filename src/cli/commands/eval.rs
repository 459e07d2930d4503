//! `loragrid eval`

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;
use crate::cli::ExitCode;
use crate::cli::arguments::EvalArguments;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::models::local_model;
use crate::cli::output::{write_error, write_json, write_line};
use crate::cli::session::Session;
use crate::device::cpu_slots;
use crate::protocol::{DocumentScore, Event, Order, ScoreOrder};
use crate::report::lm_eval::{Evaluation, TaskResult, markdown, results_json, samples_jsonl};
use crate::task::{Aggregate, Catalogue, Task, TaskFolder, aggregate, build_documents};

pub(in crate::cli) fn run(arguments: &EvalArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let folder = arguments.include_path.as_deref().map(TaskFolder::open).transpose()?;
    let catalogue = Catalogue { folder: Path::new("."), roots: &environment.roots, tasks: folder.as_ref() };
    let find = |name: &String| Ok(catalogue.find(name)?.with_shots(arguments.num_fewshot));
    let tasks: Vec<Task> = arguments.tasks.iter().map(find).collect::<Result<_, Failure>>()?;
    // Whatever is wrong with a document is told before the model is loaded.
    let documents =
        tasks.iter().map(|task| build_documents(task, arguments.limit)).collect::<Result<Vec<_>, _>>()?;
    let model = local_model(&arguments.model, environment)?;
    let checkpoint = Checkpoint::open(&model)?;
    let form = Session::form(&arguments.load, arguments.load.quantize);
    let subjects: Vec<Option<PathBuf>> = match arguments.adapter.as_slice() {
        [] => vec![None],
        adapters => {
            adapters.iter().map(|path| std::path::absolute(path).map(Some)).collect::<Result<_, _>>()?
        }
    };
    let mut values = Vec::new();
    block_on(async {
        let mut session = Session::start(&arguments.load)?;
        session.load(&model, form).await?;
        for adapter in subjects {
            let began = Instant::now();
            let order = order(arguments, &tasks, adapter.clone(), session.scratch());
            let mut scores: Vec<DocumentScore> = Vec::new();
            session
                .carry_out(&Order::Score(order), |event| {
                    if let Event::Document(score) = event {
                        scores.push(score.clone());
                    }
                    Ok(())
                })
                .await?;
            let results = results(&tasks, &documents, scores);
            let evaluation = Evaluation {
                model: arguments.model.clone(),
                adapter: adapter.map(|path| path.display().to_string()),
                dtype: form.dtype.as_str().to_owned(),
                parameters: checkpoint.config().parameters(),
                limit: arguments.limit,
                max_length: checkpoint.config().max_positions,
                date: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
                seconds: began.elapsed().as_secs_f64(),
            };
            let value = results_json(&evaluation, &results);
            if let Some(output) = &arguments.output {
                write_files(output, &evaluation, &value, &results)?;
            }
            if arguments.json {
                values.push(value);
            } else {
                let named = evaluation.adapter.as_ref().unwrap_or(&evaluation.model);
                write_line(&format!("{named}, {:.1} s\n{}", evaluation.seconds, markdown(&results)))?;
            }
        }
        Ok(())
    })?;
    if arguments.json {
        write_json(&json!({ "evaluations": values }))?;
    }
    Ok(ExitCode::Success)
}

fn order(arguments: &EvalArguments, tasks: &[Task], adapter: Option<PathBuf>, scratch: &Path) -> ScoreOrder {
    let token_budget = cpu_slots().first().map_or(1024, |slot| slot.token_budget);
    ScoreOrder {
        log: scratch.join("score.log"),
        adapter,
        tasks: tasks.iter().map(|task| (task.clone(), arguments.limit)).collect(),
        token_budget,
        exact: arguments.exact,
    }
}

/// Scores come task by task and document by document, in the order's order.
fn results(
    tasks: &[Task],
    documents: &[Vec<crate::task::Document>],
    scores: Vec<DocumentScore>,
) -> Vec<TaskResult> {
    let mut rest = scores.into_iter();
    let mut results = Vec::new();
    for (task, documents) in tasks.iter().zip(documents) {
        let scores: Vec<DocumentScore> = rest.by_ref().take(documents.len()).collect();
        let metrics = task.metrics.iter().enumerate();
        let aggregates: Vec<Aggregate> = metrics
            .map(|(at, metric)| aggregate(*metric, &scores.iter().map(|s| s.metrics[at]).collect::<Vec<_>>()))
            .collect();
        results.push(TaskResult { task: task.clone(), documents: documents.clone(), scores, aggregates });
    }
    results
}

/// Writes `results_*.json` and a `samples_TASK_*.jsonl` for each task. Error: the system's.
fn write_files(
    output: &Path,
    evaluation: &Evaluation,
    value: &Value,
    results: &[TaskResult],
) -> Result<(), Failure> {
    let folder = output.join(evaluation.folder());
    std::fs::create_dir_all(&folder)?;
    let stamp = format!("{:.6}", evaluation.date).replace('.', "-");
    let path = folder.join(format!("results_{stamp}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(value).unwrap_or_default())?;
    for result in results {
        let lines: Vec<String> = samples_jsonl(result).iter().map(Value::to_string).collect();
        let name = format!("samples_{}_{stamp}.jsonl", result.task.name);
        std::fs::write(folder.join(name), lines.join("\n") + "\n")?;
    }
    write_error(&format!("results are in {}", path.display()));
    Ok(())
}
