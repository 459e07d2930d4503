//! `loragrid show`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::ShowArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{in_one_line, is_json, quoted, show_table, write_json, write_line};
use crate::job::{Bytes, Seconds, counted};
use crate::queue::StoredSample;
use crate::report::{stored_scores_table, stored_settings_table};
use crate::store::{Store, StoredJob};
use crate::workspace::Workspace;
use crate::workspace::{Example, examples, job_or_row};

pub(in crate::cli) fn run(arguments: &ShowArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    if let Some(task) = &arguments.examples {
        return show_examples(arguments, task, workspace);
    }
    let (job, heading, samples, warnings) = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let job = job_or_row(&store, &arguments.job).await?;
        let (samples, warnings) = (store.samples(&job.id).await?, store.warnings(&job.id).await?);
        let heading = heading(&store, &job);
        store.close().await;
        Ok((job, heading, samples, warnings))
    })?;
    if is_json() {
        let mut value = json!(job);
        value["samples"] = json!(samples);
        value["warnings"] = json!(warnings);
        write_json(&value)?;
        return Ok(ExitCode::Success);
    }
    write_line(&heading)?;
    warnings.iter().try_for_each(|warning| write_line(&format!("warning: {}", in_one_line(warning))))?;
    write_line(&show_table(&stored_settings_table(&job)))?;
    if !job.scores.is_empty() {
        write_line(&show_table(&stored_scores_table(&job)))?;
    }
    for sample in &samples {
        write_line(&sample_text(sample))?;
    }
    Ok(ExitCode::Success)
}

/// Documents of a task, with what the job said of each.
fn show_examples(arguments: &ShowArguments, task: &str, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let (job, found) = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let job = job_or_row(&store, &arguments.job).await?;
        let found = examples(&store, &job.id, task, arguments.count).await?;
        store.close().await;
        Ok((job, found))
    })?;
    if is_json() {
        write_json(&json!({ "id": job.id, "task": task, "examples": found }))?;
        return Ok(ExitCode::Success);
    }
    for example in &found {
        write_line(&example_text(example))?;
    }
    Ok(ExitCode::Success)
}

/// A document with what was said of it.
pub(super) fn example_text(example: &Example) -> String {
    let mut parts = vec![format!("document {}\n{}", example.document, quoted(&example.prompt))];
    if example.choices.is_empty() {
        parts.push(format!("target\n{}", quoted(&example.target)));
    }
    parts.extend(answer_parts(example));
    for choice in &example.choices {
        let mark = if choice.is_right { "  <- right" } else { "" };
        parts.push(format!("  {:.2}  {:?}{mark}", choice.log_likelihood, choice.text));
    }
    parts.join("\n")
}

/// The answers of a document, and what each filter made of them.
pub(super) fn answer_parts(example: &Example) -> Vec<String> {
    let mut parts: Vec<String> =
        example.answers.iter().map(|answer| format!("answer\n{}", quoted(answer))).collect();
    parts.extend(example.filtered.iter().map(|filtered| {
        let metrics = filtered.metrics.iter().filter(|(_, value)| !value.is_array());
        let metrics: Vec<String> = metrics.map(|(name, value)| format!("{name} {value}")).collect();
        format!("  {}: {:?}  {}", filtered.filter, filtered.text(), metrics.join(", "))
    }));
    parts
}

/// A prompt with its answer, each line of either set apart.
fn sample_text(sample: &StoredSample) -> String {
    let mut parts = vec![format!("sample {}\n{}", sample.position + 1, quoted(&sample.prompt))];
    parts.push(format!("answer, {} tokens\n{}", sample.tokens, quoted(&sample.answer)));
    parts.extend(sample.wanted.as_ref().map(|wanted| format!("reference answer\n{}", quoted(wanted))));
    parts.join("\n")
}

fn heading(store: &Store, job: &StoredJob) -> String {
    let kind = if job.is_base { "base model" } else { "adapter" };
    let mut lines =
        vec![format!("job {}: {kind}, {}, {}", job.id, job.state.as_str(), counted(job.attempts, "attempt"))];
    lines.extend(job.reason.as_ref().map(|reason| format!("reason: {}", in_one_line(reason))));
    if let (Some(steps), Some(tokens), Some(seconds)) = (job.steps, job.tokens, job.seconds) {
        let memory = Bytes(job.peak_memory.unwrap_or_default().max(0) as u64);
        lines.push(format!(
            "trained {steps} steps on {tokens} tokens in {} with {} parameters in {}, peak memory {memory}",
            Seconds(seconds),
            job.trainable,
            job.dtype
        ));
    }
    if let (Some(first), Some(last)) = (job.first_loss, job.last_loss) {
        let doubt = if job.converged == Some(false) { " (not converged)" } else { "" };
        lines.push(format!("loss: {first:.3} in the first window, {last:.3} in the last{doubt}"));
    }
    lines.extend(job.validation_loss.map(|loss| format!("validation loss: {loss:.3} after the last step")));
    lines.extend(job.adapter.as_ref().map(|folder| match &job.adapter_removed {
        Some(why) => format!("adapter: deleted: {why}"),
        None => format!("adapter: {}", store.adapter_place(folder)),
    }));
    lines.join("\n")
}
