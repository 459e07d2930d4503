//! `/jobs/ID`: a job with its settings, curve, scores, examples, attempts and log.

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;

use super::parts::{Part, controls, facts, job_address, sweep_address};
use super::query::Query;
use super::shell::Page;
use super::views::curves_chart;
use super::{PageError, Pages, events};
use crate::job::{JobState, Seconds};
use crate::report::{
    Block, Cell, Column, Table, escape_html, plain, stored_scores_table, stored_settings_table,
};
use crate::store::{AttemptRecord, Store, StoredJob};
use crate::workspace::{Example, examples, job_named, log_tail};

/// Documents of a task.
const DOCUMENTS: usize = 5;
/// Lines of a log.
const LOG_LINES: usize = 60;

pub(super) async fn page(
    State(pages): State<Pages>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = Query::parse(uri.query().unwrap_or_default());
    let store = pages.store().await?;
    let job = job_named(&store, &id).await?;
    let mut all = Vec::new();
    if let Some(message) = query.get("message") {
        all.push(Part::new(
            "message",
            format!("<p class=\"message\" role=\"status\">{}</p>", escape_html(message)),
        ));
    }
    all.extend(parts(&pages, &store, job.id.as_str(), &query).await?);
    let labels = store.labels(&job.id).await?;
    store.close().await;
    let title = labels.first().cloned().unwrap_or_else(|| job.id.to_string());
    let text = query.with("message", "").text();
    let events = Some(events::address(&format!("{}?{text}", job_address(job.id.as_str()))));
    Ok(Page { title: &title, events, parts: all }.response())
}

/// The parts of a job's page.
pub(super) async fn parts(
    pages: &Pages,
    store: &Store,
    id: &str,
    query: &Query,
) -> Result<Vec<Part>, PageError> {
    let job = job_named(store, id).await?;
    let labels = store.labels(&job.id).await?;
    let attempts = store.attempts(&job.id).await?;
    let label = labels.first().map_or(job.id.short(), String::as_str).to_owned();
    let chart = curves_chart(store, &[(job.id.clone(), label)]).await?;
    let mut parts =
        vec![Part::new("trouble", String::new()), Part::new("head", head(pages, store, &job, &labels))];
    parts.push(match chart {
        Some(chart) => Part::of_blocks("curve", "Loss", &[Block::Chart(chart)]),
        None => Part::new("curve", String::new()),
    });
    let scores = match job.scores.is_empty() {
        true => Part::new("scores", String::new()),
        false => {
            let table = Block::Table("Scores".to_owned(), stored_scores_table(&job));
            let mut part = Part::of_blocks("scores", "Scores", &[table]);
            part.html.push_str(&example_links(&job));
            part
        }
    };
    parts.push(scores);
    parts.push(match query.get("task") {
        Some(task) => example_part(task, examples(store, &job.id, task, DOCUMENTS).await?),
        None => Part::new("examples", String::new()),
    });
    let samples = store.samples(&job.id).await?;
    let sample_blocks: Vec<Block> = samples
        .iter()
        .map(|sample| {
            let wanted = sample
                .wanted
                .as_ref()
                .map(|wanted| format!("\n\nreference answer\n{wanted}"))
                .unwrap_or_default();
            Block::Code(
                format!("Sample {}", sample.position + 1),
                format!("{}\n\nanswer\n{}{wanted}", sample.prompt, sample.answer),
            )
        })
        .collect();
    parts.push(match sample_blocks.is_empty() {
        true => Part::new("samples", String::new()),
        false => Part::of_blocks("samples", "Samples", &sample_blocks),
    });
    if let Some(last) = attempts.last() {
        let table = Block::Table("Attempts".to_owned(), attempts_table(&attempts));
        let log = log_tail(store, &last.log, LOG_LINES).join("\n");
        let log = format!(
            "<pre class=\"log\" tabindex=\"0\" aria-label=\"end of the last log\">{}</pre>",
            escape_html(&log)
        );
        let mut part = Part::of_blocks("attempts", "Attempts", &[table]);
        part.html.push_str(&log);
        parts.push(part);
    }
    let settings =
        Block::Table("Resolved keys, and where each comes from".to_owned(), stored_settings_table(&job));
    parts.push(Part::of_blocks("settings", "Settings", &[settings]));
    Ok(parts)
}

fn head(pages: &Pages, store: &Store, job: &StoredJob, labels: &[String]) -> String {
    let mut pairs = vec![("job", job.id.to_string()), ("state", job.state.as_str().to_owned())];
    pairs.extend(job.reason.as_ref().map(|reason| ("why", plain(reason.clone()))));
    if let (Some(steps), Some(tokens), Some(seconds)) = (job.steps, job.tokens, job.seconds) {
        pairs.push(("trained", format!("{steps} steps on {tokens} tokens in {}", Seconds(seconds))));
    }
    if let (Some(first), Some(last)) = (job.first_loss, job.last_loss) {
        pairs.push(("loss", format!("{first:.3} in the first window, {last:.3} in the last")));
    }
    pairs.extend(job.validation_loss.map(|loss| ("validation loss", format!("{loss:.3}"))));
    pairs.extend(job.adapter.as_ref().map(|folder| match &job.adapter_removed {
        Some(why) => ("adapter", format!("deleted: {why}")),
        None => ("adapter", store.adapter_place(folder)),
    }));
    let sweeps: Vec<String> = labels
        .iter()
        .filter_map(|label| label.split_once('/'))
        .map(|(sweep, label)| {
            format!("<a href=\"{}\">{}</a> {}", sweep_address(sweep), escape_html(sweep), escape_html(label))
        })
        .collect();
    let mut verbs = Vec::new();
    match job.state {
        JobState::Queued | JobState::Running => {
            verbs.push(("pause", "pause", None));
            verbs.push(("cancel", "cancel", Some("Cancel this job?".to_owned())));
        }
        JobState::Paused => {
            verbs.push(("resume", "resume", None));
            verbs.push(("cancel", "cancel", Some("Cancel this job?".to_owned())));
        }
        JobState::Failed | JobState::Diverged | JobState::Cancelled => verbs.push(("retry", "retry", None)),
        JobState::Done => {}
    }
    let back = job_address(job.id.as_str());
    let form = if verbs.is_empty() {
        String::new()
    } else {
        controls(&pages.shared.form_token, job.id.as_str(), &back, &verbs)
    };
    format!("<p>{}</p>{}{form}", sweeps.join(" · "), facts(&pairs))
}

fn attempts_table(attempts: &[AttemptRecord]) -> Table {
    let columns = vec![
        Column::number("attempt", None),
        Column::text("on"),
        Column::number("time", Some("s")),
        Column::text("outcome"),
        Column::text("why"),
        Column::text("log"),
    ];
    let row = |attempt: &AttemptRecord| {
        vec![
            Cell::Count(attempt.attempt.max(0) as u64),
            Cell::Text(attempt.device.clone()),
            Cell::maybe_number(attempt.seconds, 1),
            Cell::Text(attempt.outcome.clone().unwrap_or_else(|| "runs".to_owned())),
            attempt.reason.as_ref().map_or(Cell::Missing, |reason| Cell::Text(plain(reason.clone()))),
            Cell::Text(attempt.log.clone()),
        ]
    };
    Table { columns, rows: attempts.iter().map(row).collect() }
}

fn example_links(job: &StoredJob) -> String {
    let mut tasks: Vec<&str> = job.scores.iter().map(|score| score.task.as_str()).collect();
    tasks.dedup();
    let link = |task: &&str| {
        let address = Query::default().with("task", task).text();
        format!("<a href=\"?{}\">{}</a>", escape_html(&address), escape_html(task))
    };
    format!(
        "<p class=\"note\">First documents of {}</p>",
        tasks.iter().map(link).collect::<Vec<_>>().join(" · ")
    )
}

/// The first documents of a task, with what the job said of each.
fn example_part(task: &str, found: Vec<Example>) -> Part {
    let text = |example: &Example| {
        let mut lines = vec![example.prompt.clone()];
        if example.choices.is_empty() {
            lines.push(format!("target: {}", example.target));
        }
        lines.extend(example.answers.iter().map(|answer| format!("answer: {answer}")));
        lines.extend(
            example.filtered.iter().map(|filtered| format!("{}: {}", filtered.filter, filtered.text())),
        );
        lines.extend(example.choices.iter().map(|choice| {
            let mark = if choice.is_right { "  <- right" } else { "" };
            format!("{:.2}  {}{mark}", choice.log_likelihood, choice.text)
        }));
        lines.join("\n")
    };
    let blocks: Vec<Block> = found
        .iter()
        .map(|example| Block::Code(format!("Document {}", example.document), text(example)))
        .collect();
    Part::of_blocks("examples", &format!("Examples of {task}"), &blocks)
}
