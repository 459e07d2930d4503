//! Changes of pages, pushed: one task for each page that somebody looks at, however many do.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use tokio::sync::watch;

use super::parts::Part;
use super::query::Query;
use super::{PageError, Pages, job, sweep, sweeps};
use crate::report::escape_html;
use crate::store::Store;

/// How often it is looked whether the database changed.
const LOOK: Duration = Duration::from_millis(500);
/// Most pages that are looked at at a time, each by anybody's many browsers.
const MOST_PAGES: usize = 64;

/// A page whose parts change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    /// All sweeps.
    Sweeps,
    /// A sweep, with the query of its address.
    Sweep(String, String),
    /// A job, with the query of its address.
    Job(String, String),
}

impl Watched {
    /// The page at an address; none: it does not change.
    fn parse(address: &str) -> Option<Self> {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let query = Query::parse(query).with("message", "").text();
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", ""] => Some(Self::Sweeps),
            ["", "sweeps", name] => Some(Self::Sweep(plain(name), query)),
            ["", "jobs", id] => Some(Self::Job(plain(id), query)),
            _ => None,
        }
    }

    /// Its parts now.
    async fn parts(&self, pages: &Pages, store: &Store) -> Result<Vec<Part>, PageError> {
        match self {
            Self::Sweeps => sweeps::parts(store).await,
            Self::Sweep(name, query) => sweep::parts(pages, store, name, &Query::parse(query)).await,
            Self::Job(id, query) => job::parts(pages, store, id, &Query::parse(query)).await,
        }
    }
}

fn plain(part: &str) -> String {
    Query::parse(&format!("a={part}")).get("a").unwrap_or_default().to_owned()
}

/// The parts of a page by their ids.
type Parts = Arc<BTreeMap<&'static str, String>>;

/// The pages that somebody looks at.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    pages: HashMap<Watched, watch::Sender<Parts>>,
    is_closed: bool,
}

impl Watchers {
    fn known(&self) -> MutexGuard<'_, Known> {
        // A thread that panicked within these few lines has changed nothing by half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all streams, and begins none.
    pub(super) fn close(&self) {
        let mut known = self.known();
        known.is_closed = true;
        known.pages.clear();
    }
}

/// Where a page's changes come from.
pub(super) fn address(page: &str) -> String {
    format!("/events?page={}", super::parts::encoded(page))
}

pub(super) async fn stream(State(pages): State<Pages>, uri: Uri) -> Response {
    let query = Query::parse(uri.query().unwrap_or_default());
    let Some(watched) = query.get("page").and_then(Watched::parse) else {
        return super::shell::failure(StatusCode::NOT_FOUND, "this page does not change");
    };
    let Some(receiver) = subscribe(&pages, watched) else {
        return super::shell::failure(StatusCode::SERVICE_UNAVAILABLE, "too many pages are being looked at");
    };
    let token = Event::default().event("token").data(&pages.shared.form_token);
    let first = stream::once(async move { Ok::<_, Infallible>(token) });
    Sse::new(first.chain(changes(receiver))).keep_alive(KeepAlive::default()).into_response()
}

/// A page's parts from now on; none: too many pages are looked at.
fn subscribe(pages: &Pages, watched: Watched) -> Option<watch::Receiver<Parts>> {
    let mut known = pages.shared.watchers.known();
    if let Some(sender) = known.pages.get(&watched) {
        let mut receiver = sender.subscribe();
        // What there is now is new to this one.
        receiver.mark_changed();
        return Some(receiver);
    }
    if known.is_closed || known.pages.len() >= MOST_PAGES {
        return None;
    }
    let (sender, receiver) = watch::channel(Parts::default());
    known.pages.insert(watched.clone(), sender);
    tokio::spawn(look(pages.clone(), watched));
    Some(receiver)
}

/// The parts that changed since the last event, as JSON from id to content. A reader that is slow gets the last state only.
fn changes(receiver: watch::Receiver<Parts>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((receiver, Parts::default()), async |(mut receiver, sent)| {
        loop {
            receiver.changed().await.ok()?;
            let now = Arc::clone(&receiver.borrow_and_update());
            let changed: BTreeMap<&str, &str> = now
                .iter()
                .filter(|(id, html)| sent.get(*id) != Some(html))
                .map(|(id, html)| (*id, html.as_str()))
                .collect();
            if changed.is_empty() {
                continue;
            }
            let data = serde_json::to_string(&changed).unwrap_or_default();
            return Some((Ok(Event::default().event("parts").data(data)), (receiver, now)));
        }
    })
}

/// Looks at the database for a page as long as somebody looks at the page.
async fn look(pages: Pages, watched: Watched) {
    let (mut store, mut version): (Option<Store>, i64) = (None, -1);
    loop {
        {
            let mut known = pages.shared.watchers.known();
            let is_watched = known.pages.get(&watched).is_some_and(|sender| sender.receiver_count() > 0);
            if !is_watched {
                known.pages.remove(&watched);
                return;
            }
        }
        if let Some(parts) = changed_parts(&pages, &watched, (&mut store, &mut version)).await {
            let known = pages.shared.watchers.known();
            if let Some(sender) = known.pages.get(&watched) {
                sender.send_replace(Arc::new(parts));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The parts, if the database changed. One that is away is opened again.
async fn changed_parts(
    pages: &Pages,
    watched: &Watched,
    (store, version): (&mut Option<Store>, &mut i64),
) -> Option<BTreeMap<&'static str, String>> {
    let db = &pages.shared.workspace.db;
    let is_same = store.as_ref().is_some_and(|store| {
        crate::pretrained::FileStamp::of(db.file()).is_ok_and(|stamp| stamp.is_same_file(store.stamp()))
    });
    if !is_same {
        (*store, *version) = (None, -1);
    }
    let read = async {
        let open = match store.take() {
            Some(open) => open,
            None => pages.store().await?,
        };
        let open = store.insert(open);
        let now = open.data_version().await?;
        if now == *version {
            return Ok(None);
        }
        let parts = watched.parts(pages, open).await?;
        *version = now;
        Ok::<_, PageError>(Some(parts))
    };
    let mut found: BTreeMap<&'static str, String> = match read.await {
        Ok(None) => return None,
        Ok(Some(parts)) => parts.into_iter().map(|part| (part.id, part.html)).collect(),
        Err(error) => {
            (*store, *version) = (None, -1);
            let message = format!("<p class=\"message\">{}</p>", escape_html(&error.message()));
            return Some(BTreeMap::from([("trouble", message)]));
        }
    };
    found.insert("trouble", String::new());
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_address_whatever_was_said_on_it() {
        let sweep = |query: &str| Some(Watched::Sweep("a b".to_owned(), query.to_owned()));
        assert_eq!(Watched::parse("/sweeps/a%20b?view=pivot&message=1%20job"), sweep("view=pivot"));
        assert_eq!(Watched::parse("/"), Some(Watched::Sweeps));
        assert_eq!(Watched::parse("/jobs/ab?x=1"), Some(Watched::Job("ab".to_owned(), "x=1".to_owned())));
        for other in ["", "/plan", "/sweeps", "/sweeps/a/report", "//"] {
            assert_eq!(Watched::parse(other), None, "{other}");
        }
    }
}
