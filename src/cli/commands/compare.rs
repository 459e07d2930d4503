//! `loragrid compare`

use serde_json::json;

use super::show::answer_parts;
use crate::cli::ExitCode;
use crate::cli::arguments::CompareArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, quoted, show_table, write_error, write_json, write_line};
use crate::job::{Bytes, Seconds, counted};
use crate::orders::JobOrder;
use crate::queue::{Queue, StoredDocument, StoredSample};
use crate::report::{
    CurveRow, TaskDifference, Untested, curve_rows, curves_table, setting_differences,
    setting_differences_table, task_differences, task_differences_table, untested_line, verdict,
};
use crate::store::Store;
use crate::task::{Document, Gold, RequestScore, Task, TaskDocuments};
use crate::workspace::job_or_row;
use crate::workspace::{Compared, Example, Workspace, compare};

/// Two jobs by their names; where one is not done, that is said. Errors: no such job, nothing of it is scored.
async fn read_both(store: &Store, first: &str, second: &str) -> Result<[Compared; 2], Failure> {
    let (first, second) = (job_or_row(store, first).await?, job_or_row(store, second).await?);
    let both = compare(store, first, second).await?;
    for Compared { job, .. } in both.iter().filter(|compared| compared.is_partial()) {
        let state = job.state.as_str();
        write_error(&format!("job {} is {state}: only what it has scored is compared", job.id));
    }
    Ok(both)
}

pub(in crate::cli) fn run(arguments: &CompareArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let [first, second] = read_both(&store, &arguments.first, &arguments.second).await?;
        let (tasks, untested) = task_differences(&first.values, &second.values);
        let curves = curve_rows(&first.curve, &second.curve);
        if is_json() {
            write_json(&in_json(&first, &second, (&tasks, &untested), &curves))?;
        } else {
            tell(&first, &second, &tasks, &curves)?;
            if arguments.examples > 0 {
                let order = store.orders(std::slice::from_ref(&first.job.id)).await?.pop();
                for task in &tasks {
                    examples(&store, task, order.as_ref().map(|(order, _)| order), arguments.examples)
                        .await?;
                }
                answers(&first.samples, &second.samples, arguments.examples)?;
            }
            untested_line(&untested).iter().try_for_each(|line| write_line(line))?;
            write_line(&verdict(&tasks))?;
        }
        store.close().await;
        Ok(ExitCode::Success)
    })
}

fn in_json(
    first: &Compared,
    second: &Compared,
    (tasks, untested): (&[TaskDifference], &[Untested]),
    curves: &[CurveRow],
) -> serde_json::Value {
    let side = |own: &Compared| {
        json!({
            "id": own.job.id, "labels": own.labels, "state": own.job.state, "seconds": own.job.seconds, "peak_memory": own.job.peak_memory,
            "trainable": own.job.trainable, "last_loss": own.job.last_loss, "samples": own.samples,
        })
    };
    json!({
        "first": side(first), "second": side(second),
        "settings": setting_differences(&first.job, &second.job), "tasks": tasks, "not_compared": untested,
        "curves": curves,
        "verdict": verdict(tasks),
    })
}

fn tell(
    first: &Compared,
    second: &Compared,
    tasks: &[TaskDifference],
    curves: &[CurveRow],
) -> Result<(), Failure> {
    for (name, own) in [("first ", first), ("second", second)] {
        write_line(&side_line(name, own))?;
    }
    let settings = setting_differences(&first.job, &second.job);
    if settings.is_empty() {
        write_line("every key is the same")?;
    } else {
        write_line(&show_table(&setting_differences_table(&settings)))?;
    }
    if !tasks.is_empty() {
        write_line(&show_table(&task_differences_table(tasks)))?;
    }
    if !curves.is_empty() {
        write_line("loss by training progress")?;
        write_line(&show_table(&curves_table(curves)))?;
    }
    Ok(())
}

fn side_line(name: &str, Compared { job, labels, .. }: &Compared) -> String {
    let labels = if labels.is_empty() { String::new() } else { format!(" ({})", labels.join(", ")) };
    let mut parts = vec![format!("{name} {}{labels} {}", job.id, job.state.as_str())];
    parts.extend(job.seconds.map(|seconds| Seconds(seconds).to_string()));
    parts.extend(job.peak_memory.map(|bytes| format!("peak memory {}", Bytes(bytes.max(0) as u64))));
    parts.extend(job.last_loss.map(|loss| format!("last loss {loss:.3}")));
    parts.join(", ")
}

/// Documents of a task that one has right and the other wrong, with what both said of each choice; in their own words where the
/// task's documents are here.
async fn examples(
    store: &Store,
    task: &TaskDifference,
    order: Option<&JobOrder>,
    most: usize,
) -> Result<(), Failure> {
    // The documents of a group are shown with their tasks.
    let Some(keys) = task.keys else { return Ok(()) };
    for (who, documents) in [("second", &task.gained), ("first", &task.lost)] {
        let Some(documents) = documents.as_ref().filter(|documents| !documents.is_empty()) else { continue };
        write_line(&format!(
            "{}: {} only the {who} has right",
            task.task,
            counted(documents.len() as u64, "document")
        ))?;
        let shown = &documents[..most.min(documents.len())];
        let first = store.some_documents(keys.0, shown).await?;
        let second = store.some_documents(keys.1, shown).await?;
        let asked = order.and_then(|order| order.tasks().find(|asked| asked.key == keys.0));
        let file = asked.map(|asked| store.results().join("cache").join(&asked.documents));
        // Where the cache has them no more, documents are numbers.
        let read = file.and_then(|file| TaskDocuments::read(&file));
        let texts = read.as_ref().map_or(&[][..], |read| read.documents.as_slice());
        for (one, other) in first
            .iter()
            .filter_map(|one| Some((one, second.iter().find(|other| other.document == one.document)?)))
        {
            let text = texts.iter().find(|text| text.id == one.document);
            if let (Some(read), Some(text), false) = (&read, text, one.answers.is_empty()) {
                answered_lines(&read.task, text, (one, other))?
                    .iter()
                    .try_for_each(|line| write_line(line))?;
                continue;
            }
            document_lines(one, other, text).iter().try_for_each(|line| write_line(line))?;
        }
    }
    Ok(())
}

/// A document with what both answered.
fn answered_lines(
    task: &Task,
    text: &Document,
    (first, second): (&StoredDocument, &StoredDocument),
) -> Result<Vec<String>, Failure> {
    let of = |own: &StoredDocument| Example::of(task, text, &own.requests, &own.answers);
    let (first, second) = (of(first)?, of(second)?);
    let mut lines = vec![
        format!("document {}\n{}", text.id, quoted(&first.prompt)),
        format!("target\n{}", quoted(&first.target)),
    ];
    for (name, example) in [("first", &first), ("second", &second)] {
        lines.push(name.to_owned());
        lines.extend(answer_parts(example));
    }
    Ok(lines)
}

/// A document with what both said of each of its requests; a star is for what greedy decoding would say.
fn document_lines(first: &StoredDocument, second: &StoredDocument, text: Option<&Document>) -> Vec<String> {
    let prompt =
        text.and_then(|text| text.requests.first()).map(|request| format!(": {:?}", request.context()));
    let mut lines = vec![format!("  document {}{}", first.document, prompt.unwrap_or_default())];
    let said = |score: &RequestScore| {
        format!("{:.2}{}", score.log_likelihood, if score.is_greedy { "*" } else { "" })
    };
    for (number, (one, other)) in first.requests.iter().zip(&second.requests).enumerate() {
        let own =
            text.and_then(|text| text.requests.get(number)).map(|request| format!(" {:?}", request.scored()));
        let is_right = text.is_some_and(|text| match &text.gold {
            Gold::True(labels) => labels.get(number).copied().unwrap_or_default(),
            Gold::Choices(golds) => golds.contains(&number),
            Gold::Target | Gold::Text { .. } | Gold::Answer(_) | Gold::Answers(_) => false,
        });
        let mark = if is_right { "  <- right" } else { "" };
        lines.push(format!(
            "    {}{}: first {}, second {}{mark}",
            number + 1,
            own.unwrap_or_default(),
            said(one),
            said(other)
        ));
    }
    lines
}

/// What both answered to the same prompts.
fn answers(first: &[StoredSample], second: &[StoredSample], most: usize) -> Result<(), Failure> {
    let both = first.iter().filter_map(|one| Some((one, second.iter().find(|other| other.key == one.key)?)));
    for (one, other) in both.take(most) {
        write_line(&format!("prompt\n{}", quoted(&one.prompt)))?;
        if let Some(wanted) = &one.wanted {
            write_line(&format!("reference answer\n{}", quoted(wanted)))?;
        }
        if one.answer == other.answer {
            write_line(&format!("both\n{}", quoted(&one.answer)))?;
        } else {
            write_line(&format!("first\n{}\nsecond\n{}", quoted(&one.answer), quoted(&other.answer)))?;
        }
    }
    Ok(())
}
