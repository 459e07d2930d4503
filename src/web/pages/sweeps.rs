//! `/`: every sweep.

use axum::extract::State;
use axum::response::Response;

use super::parts::{Part, linked, sweep_address};
use super::shell::Page;
use super::{PageError, Pages, events};
use crate::report::{Block, status_table};
use crate::store::{Store, StoreError};

pub(super) async fn page(State(pages): State<Pages>) -> Result<Response, PageError> {
    let store = pages.store().await?;
    let found = parts(&store).await?;
    store.close().await;
    Ok(Page { title: "Sweeps", events: Some(events::address("/")), parts: found }.response())
}

pub(super) async fn parts(store: &Store) -> Result<Vec<Part>, PageError> {
    let sweeps = match store.status().await {
        Err(StoreError::Empty) => Vec::new(),
        other => other?,
    };
    let blocks = if sweeps.is_empty() {
        vec![Block::Text("No sweep was submitted yet: `loragrid run sweep.toml` runs one.".to_owned())]
    } else {
        let table = linked(status_table(&sweeps), "sweep", |row| Some(sweep_address(&sweeps.get(row)?.name)));
        vec![Block::Table("Jobs by state, the last submitted sweep first".to_owned(), table)]
    };
    Ok(vec![Part::new("trouble", String::new()), Part::of_blocks("sweeps", "Sweeps", &blocks)])
}
