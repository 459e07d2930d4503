//! `/plan`: what a sweep file would run, without running it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::parts::{Part, token_field};
use super::query::Query;
use super::shell::Page;
use super::{PageError, Pages};
use crate::job::{Seconds, counted};
use crate::plan::Plan;
use crate::report::{Block, LONG_PLAN, escape_html, folded_table, plan_table};
use crate::sweep_file::{SourceText, SpecError, SweepSpec};
use crate::task::TaskIndex;
use crate::workspace::WorkspaceError;

/// The name of a file that has none; its paths start where the server was started.
const FILE: &str = "sweep.toml";

pub(super) async fn empty(State(pages): State<Pages>) -> Response {
    shown(&pages, "", Vec::new())
}

pub(super) async fn page(State(pages): State<Pages>, body: String) -> Result<Response, PageError> {
    let fields = Query::parse(&body);
    if fields.get("form_token") != Some(pages.shared.form_token.as_str()) {
        let message = "this page is older than the server: load it again".to_owned();
        return Err(PageError::Request(StatusCode::FORBIDDEN, message));
    }
    let text = fields.get("text").unwrap_or_default().to_owned();
    let blocks = match plan(&pages, &text).await {
        Ok(plan) => plan_blocks(&plan),
        Err(WorkspaceError::SweepFile(SpecError::Problems { source_text, problems })) => {
            let line = |(problem, span): &(crate::sweep_file::Problem, std::ops::Range<usize>)| {
                let (line, column) = source_text.place(span.start);
                format!("line {line}, column {column}: {problem}; {}", problem.help())
            };
            vec![Block::List(problems.iter().map(line).collect())]
        }
        Err(error) => vec![Block::Text(format!("{error}."))],
    };
    Ok(shown(&pages, &text, blocks))
}

/// Plans a text as `loragrid plan` does a file. Nothing is downloaded or written.
async fn plan(pages: &Pages, text: &str) -> Result<Plan, WorkspaceError> {
    let spec = SweepSpec::parse(SourceText::new(std::path::Path::new(FILE), text))?;
    let (store, known, mut digests) = pages.shared.workspace.known_to_plan().await?;
    if let Some(store) = store {
        store.close().await;
    }
    let shared = Arc::clone(&pages.shared);
    // Rows and documents are encoded meanwhile, which takes a processor.
    let planned = tokio::task::spawn_blocking(move || {
        let tasks = Arc::new(TaskIndex::with_folder(None)?);
        shared.workspace.plan(&spec, &tasks, &known, &mut digests, &mut |_| ())
    });
    match planned.await {
        Ok(planned) => planned,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn plan_blocks(plan: &Plan) -> Vec<Block> {
    let left = plan.to_run().count();
    let time: f64 = plan.to_run().map(|job| job.estimate.time.0).sum();
    let jobs = counted(plan.jobs.len() as u64, "job");
    let mut blocks = vec![Block::Text(format!(
        "{}: {jobs}, {left} to run, about {} one by one.",
        plan.name,
        Seconds(time)
    ))];
    let mut notes: Vec<String> = plan.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    notes
        .extend(plan.blockers.iter().map(|blocker| format!("cannot run yet: {blocker}; {}", blocker.help())));
    if !notes.is_empty() {
        blocks.push(Block::List(notes));
    }
    let table = if plan.jobs.len() > LONG_PLAN { folded_table(plan) } else { plan_table(plan) };
    blocks.push(Block::Table("Plan".to_owned(), table));
    blocks
}

fn shown(pages: &Pages, text: &str, blocks: Vec<Block>) -> Response {
    let form = format!(
        "<p class=\"note\">Drop a sweep file here, or paste it. Paths in it start where the server was started. Nothing is queued.</p>\
         <form method=\"post\" action=\"/plan\">{}<textarea id=\"sweep-file\" name=\"text\" aria-label=\"sweep file\" spellcheck=\"false\" \
         required>{}</textarea><p><button>plan</button></p></form>",
        token_field(&pages.shared.form_token),
        escape_html(text)
    );
    let mut parts = vec![Part::new("form", form)];
    if !blocks.is_empty() {
        parts.push(Part::of_blocks("plan", "Plan", &blocks));
    }
    Page { title: "Plan", events: None, parts }.response()
}
