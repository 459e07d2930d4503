//! `/compare?runs=A&runs=B`: two jobs, paired by document.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::parts::{Part, job_address};
use super::query::Query;
use super::shell::Page;
use super::views::curves_chart;
use super::{PageError, Pages};
use crate::report::{
    Block, escape_html, setting_differences, setting_differences_table, task_differences,
    task_differences_table, untested_line, verdict,
};
use crate::workspace::{compare, job_named};

pub(super) async fn page(State(pages): State<Pages>, uri: Uri) -> Result<Response, PageError> {
    let query = Query::parse(uri.query().unwrap_or_default());
    let runs: Vec<&str> = query.all("runs").collect();
    let [first, second] = runs[..] else {
        let message = format!("two runs are compared, and {} are chosen", runs.len());
        return Err(PageError::Request(StatusCode::BAD_REQUEST, message));
    };
    let store = pages.store().await?;
    let both = (job_named(&store, first).await?, job_named(&store, second).await?);
    let [first, second] = compare(&store, both.0, both.1).await?;
    let names: Vec<(crate::job::JobId, String)> = [&first, &second]
        .map(|side| {
            (side.job.id.clone(), side.labels.first().cloned().unwrap_or_else(|| side.job.id.to_string()))
        })
        .into();
    let chart = curves_chart(&store, &names).await?;
    store.close().await;
    let (tasks, untested) = task_differences(&first.values, &second.values);
    let settings = setting_differences(&first.job, &second.job);
    let side = |which: &str, (id, label): &(crate::job::JobId, String)| {
        format!("{which}: <a href=\"{}\">{}</a>", job_address(id.as_str()), escape_html(label))
    };
    let head = format!("<p>{}<br>{}</p>", side("first", &names[0]), side("second", &names[1]));
    let mut blocks = vec![Block::Text(verdict(&tasks))];
    if !tasks.is_empty() {
        blocks.push(Block::Table("Tasks, paired by document".to_owned(), task_differences_table(&tasks)));
    }
    blocks.extend(untested_line(&untested).map(Block::Text));
    let mut parts = vec![Part::new("head", head), Part::of_blocks("tasks", "Scores", &blocks)];
    parts.extend(chart.map(|chart| Part::of_blocks("curves", "Loss", &[Block::Chart(chart)])));
    let differing = match settings.is_empty() {
        true => Block::Text("Every key is the same.".to_owned()),
        false => Block::Table("Keys that differ".to_owned(), setting_differences_table(&settings)),
    };
    parts.push(Part::of_blocks("settings", "Settings", &[differing]));
    Ok(Page { title: "Comparison", events: None, parts }.response())
}
