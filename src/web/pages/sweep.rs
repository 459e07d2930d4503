//! `/sweeps/NAME`: a sweep, in several views.

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{Html, IntoResponse, Response};

use super::parts::{Part, controls, encoded, facts, sweep_address};
use super::query::Query;
use super::shell::Page;
use super::views::{self, View};
use super::{PageError, Pages, events};
use crate::job::JobState;
use crate::report::{document_html, escape_html, sweep_report};
use crate::store::Store;
use crate::workspace::{LiveSweep, board, live_sweep, report_input};

/// Rows of the leaderboard beside what runs.
const FIRST_ROWS: usize = 20;

pub(super) async fn page(
    State(pages): State<Pages>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = Query::parse(uri.query().unwrap_or_default());
    let store = pages.store().await?;
    // An unknown sweep is reported before anything is sent.
    store.sweep(&name).await?;
    let mut first = vec![Part::new("tabs", tabs(&name, &query))];
    if let Some(message) = query.get("message") {
        let message = format!("<p class=\"message\" role=\"status\">{}</p>", escape_html(message));
        first.push(Part::new("message", message));
    }
    let events = View::of(&query).is_live().then(|| {
        let text = query.with("message", "").text();
        events::address(&format!("{}?{text}", sweep_address(&name)))
    });
    let page = Page { title: &name, events, parts: first };
    let (name, pages) = (name.clone(), pages.clone());
    // A large sweep takes a while to read.
    Ok(page.streamed(async move {
        let found = parts(&pages, &store, &name, &query).await;
        store.close().await;
        found.unwrap_or_else(|error| {
            // A wrong condition or metric is corrected in its form.
            let form = if View::of(&query).has_form() { views::form(&name, &query) } else { String::new() };
            let message = format!("<p class=\"message\">{}</p>", escape_html(&error.message()));
            vec![Part::new("form", form), Part::new("trouble", message)]
        })
    }))
}

/// The report of `loragrid report`, as it is now.
pub(super) async fn report(
    State(pages): State<Pages>,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    let store = pages.store().await?;
    let input = report_input(&store, board(&store, Some(&name)).await?).await?;
    store.close().await;
    let title = format!("Report of {name}");
    Ok(Html(document_html(&sweep_report(&title, &[input], &[]))).into_response())
}

/// The parts of a view.
pub(super) async fn parts(
    pages: &Pages,
    store: &Store,
    name: &str,
    query: &Query,
) -> Result<Vec<Part>, PageError> {
    let mut parts = vec![Part::new("trouble", String::new())];
    match View::of(query) {
        View::Live => {
            let mut remembered = pages.shared.boards.take(name);
            let live = live_sweep(store, (name, FIRST_ROWS), &mut remembered).await;
            pages.shared.boards.put(name, remembered);
            let live = live?;
            parts.push(Part::new("head", head(pages, &live)));
            parts.extend(views::live(store, &live).await?);
        }
        View::Leaderboard => parts.extend(views::leaderboard(store, name, query).await?),
        View::Curves => parts.extend(views::curves(store, name, query).await?),
        View::Parallel => parts.extend(views::parallel(store, name, query).await?),
        View::Pivot => parts.extend(views::pivot(store, name, query).await?),
        View::Effects => parts.extend(views::effects(store, name, query).await?),
    }
    Ok(parts)
}

fn tabs(name: &str, query: &Query) -> String {
    let current = View::of(query);
    let tab = |view: &View| {
        let mark = if *view == current { " aria-current=\"page\"" } else { "" };
        let address = format!("{}?view={}", sweep_address(name), view.word());
        format!("<li><a href=\"{address}\"{mark}>{}</a></li>", view.title())
    };
    let report = format!("<li><a href=\"{}/report\">report</a></li>", sweep_address(name));
    let tabs: String = View::ALL.iter().map(tab).collect();
    format!("<nav class=\"tabs\" aria-label=\"Views\"><ul>{tabs}{report}</ul></nav>")
}

/// How far it is, and what can be done.
fn head(pages: &Pages, live: &LiveSweep) -> String {
    let counts = &live.counts;
    let count = |state: JobState| counts.get(&state).copied().unwrap_or_default();
    let (all, ended): (u64, u64) = (
        counts.values().sum(),
        [JobState::Done, JobState::Failed, JobState::Diverged, JobState::Cancelled]
            .into_iter()
            .map(count)
            .sum(),
    );
    let states = JobState::ALL.into_iter().filter(|state| count(*state) > 0);
    let states: Vec<String> = states.map(|state| format!("{} {}", count(state), state.as_str())).collect();
    let mut pairs = vec![("jobs", format!("{all}: {}", states.join(", ")))];
    pairs.extend(live.elapsed.map(|elapsed| ("elapsed", elapsed.to_string())));
    pairs.extend(live.left.map(|left| ("left", format!("about {left}"))));
    let waiting = count(JobState::Queued);
    if live.running.is_empty() && waiting > 0 {
        pairs.push(("waiting", "no worker runs its jobs: `loragrid work` starts one".to_owned()));
    }
    let name = &live.sweep;
    let ask = |verb: &str, count: u64| Some(format!("{verb} {count} jobs of {name}?"));
    let active = waiting + count(JobState::Running);
    let mut verbs = Vec::new();
    if active > 0 {
        verbs.push(("pause", "pause", ask("Pause", active)));
        verbs.push(("cancel", "cancel", ask("Cancel", active)));
        verbs.push(("raise", "raise priority", None));
        verbs.push(("lower", "lower priority", None));
    }
    if count(JobState::Paused) > 0 {
        verbs.push(("resume", "resume", None));
    }
    if count(JobState::Failed) + count(JobState::Diverged) > 0 {
        verbs.push((
            "retry",
            "retry failed",
            ask("Retry", count(JobState::Failed) + count(JobState::Diverged)),
        ));
    }
    let bar = format!(
        "<progress max=\"{all}\" value=\"{ended}\" aria-label=\"jobs that ended\">{ended}/{all}</progress>"
    );
    let back = format!("/sweeps/{}", encoded(name));
    format!("{bar}{}{}", facts(&pairs), controls(&pages.shared.form_token, name, &back, &verbs))
}
