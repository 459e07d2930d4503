//! Pages over a results database: sweeps, one sweep while it runs, jobs, comparisons, plans, and what users do to jobs.

mod compare;
mod control;
mod events;
mod job;
mod login;
mod parts;
mod plan;
mod query;
mod shell;
mod sweep;
mod sweeps;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::guard::{Access, Denied};
use crate::store::{Store, StoreError};
use crate::workspace::{RememberedBoard, Workspace, WorkspaceError};
use events::Watchers;

/// Most leaderboards that are remembered.
const MOST_BOARDS: usize = 32;
/// Most bytes of a form.
const MAX_FORM: usize = 2 << 20;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    shared: Arc<Shared>,
}

struct Shared {
    workspace: Workspace,
    access: Access,
    /// What a form of these pages sends back.
    form_token: String,
    watchers: Watchers,
    boards: Boards,
}

impl Pages {
    /// Pages of a workspace.
    pub fn new(workspace: Workspace, access: Access) -> Self {
        let form_token = shell::random_token();
        Self {
            shared: Arc::new(Shared {
                workspace,
                access,
                form_token,
                watchers: Watchers::default(),
                boards: Boards::default(),
            }),
        }
    }

    /// The database, opened to read.
    async fn store(&self) -> Result<Store, StoreError> {
        Store::open_to_read(&self.shared.workspace.db).await
    }

    /// Ends every stream of events.
    pub fn close(&self) {
        self.shared.watchers.close();
    }
}

/// The leaderboards that were read last, by sweep.
#[derive(Debug, Default)]
struct Boards(Mutex<HashMap<String, RememberedBoard>>);

impl Boards {
    fn take(&self, sweep: &str) -> Option<RememberedBoard> {
        // A thread that panicked within these lines has changed nothing by half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sweep).cloned()
    }

    fn put(&self, sweep: &str, board: Option<RememberedBoard>) {
        let mut boards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if boards.len() >= MOST_BOARDS {
            boards.clear();
        }
        boards.extend(board.map(|board| (sweep.to_owned(), board)));
    }
}

/// The routes.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(sweeps::page))
        .route("/sweeps/{name}", get(sweep::page))
        .route("/sweeps/{name}/report", get(sweep::report))
        .route("/jobs/{id}", get(job::page))
        .route("/compare", get(compare::page))
        .route("/plan", get(plan::empty).post(plan::page))
        .route("/control", post(control::control))
        .route("/events", get(events::stream))
        .route("/login", get(login::page).post(login::enter))
        .fallback(async |uri: Uri| {
            shell::failure(StatusCode::NOT_FOUND, &format!("{} is not a page", uri.path()))
        })
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(from_fn_with_state(pages.clone(), guard))
        .with_state(pages)
}

/// Passes on what may be asked, and says how the answer is to be treated.
async fn guard(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let access = &pages.shared.access;
    let mut response = match access.check_source(request.method(), request.headers()) {
        Err(denied) => shell::failure(denied.status(), denied.message()),
        Ok(()) if request.uri().path() == "/login" => next.run(request).await,
        Ok(()) if login::is_known(access, request.headers()) => next.run(request).await,
        Ok(()) if request.headers().contains_key("authorization") => {
            shell::failure(Denied::Token.status(), Denied::Token.message())
        }
        Ok(()) => login::ask(request.uri()),
    };
    shell::add_headers(response.headers_mut());
    response
}

/// Why a page cannot be shown.
enum PageError {
    Workspace(WorkspaceError),
    Request(StatusCode, String),
}

impl<E: Into<WorkspaceError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self::Workspace(error.into())
    }
}

impl PageError {
    fn message(&self) -> String {
        match self {
            Self::Workspace(error) => error.to_string(),
            Self::Request(_, message) => message.clone(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Request(status, _) => *status,
            Self::Workspace(error) => match error {
                WorkspaceError::Store(
                    StoreError::NoSweep { .. } | StoreError::NoJob { .. } | StoreError::Empty,
                )
                | WorkspaceError::NoJob(_)
                | WorkspaceError::NoJobs(_)
                | WorkspaceError::NoResults(_)
                | WorkspaceError::NoRowMeets(_)
                | WorkspaceError::EmptyPivot { .. }
                | WorkspaceError::NoTaskOfJob { .. }
                | WorkspaceError::NoDocuments(_)
                | WorkspaceError::NotScored { .. } => StatusCode::NOT_FOUND,
                WorkspaceError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
                WorkspaceError::UnknownKey { .. }
                | WorkspaceError::UnknownMetric(_)
                | WorkspaceError::Filter(_)
                | WorkspaceError::SweepFile(_)
                | WorkspaceError::Plan(_)
                | WorkspaceError::Data(_)
                | WorkspaceError::Task(_)
                | WorkspaceError::Model(_) => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        shell::failure(self.status(), &self.message())
    }
}
