//! What users do to jobs by a form: as the commands do, without waiting for engines.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::login::local;
use super::query::Query;
use super::{PageError, Pages};
use crate::job::{Transition, counted};
use crate::store::{Actor, Origin, Store};
use crate::workspace::{move_named, retry, set_priority};

pub(super) async fn control(State(pages): State<Pages>, body: String) -> Result<Response, PageError> {
    let fields = Query::parse(&body);
    let refuse = |status, message: &str| PageError::Request(status, message.to_owned());
    if fields.get("form_token") != Some(pages.shared.form_token.as_str()) {
        let message = "this page is older than the server: load it again";
        return Err(refuse(StatusCode::FORBIDDEN, message));
    }
    let name = fields.get("name").ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "no job is named"))?;
    let store = Store::open_existing(&pages.shared.workspace.db).await?;
    let actor = Actor::here(Origin::Page);
    let transition = |transition| move_named(&store, name, transition, Some("from a page"), &actor);
    let done = match fields.get("verb") {
        Some("pause") => (transition(Transition::Pause).await?.jobs.len(), "paused"),
        Some("resume") => (transition(Transition::Resume).await?.jobs.len(), "queued"),
        Some("cancel") => (transition(Transition::Cancel).await?.jobs.len(), "cancelled"),
        Some("retry") => (retry(&store, Some(name), &[], &actor).await?.jobs.len(), "queued"),
        Some(verb @ ("raise" | "lower")) => {
            let by = if verb == "raise" { 1 } else { -1 };
            let priority = store.priority(name).await? + by;
            (set_priority(&store, name, priority, &actor).await? as usize, "moved")
        }
        _ => return Err(refuse(StatusCode::BAD_REQUEST, "this is not known to be done")),
    };
    store.close().await;
    let message = format!("{} {}", counted(done.0 as u64, "job"), done.1);
    let back = local(fields.get("back").unwrap_or("/"));
    let (path, query) = back.split_once('?').unwrap_or((back, ""));
    let query = Query::parse(query).with("message", &message).text();
    Ok(Redirect::to(&format!("{path}?{query}")).into_response())
}
