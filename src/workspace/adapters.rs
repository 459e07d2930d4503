//! Adapters of a sweep for use: the best ones, with the template that they were trained with.

use std::path::{Path, PathBuf};

use super::boards::{board, tested_rows};
use super::error::WorkspaceError;
use super::open::Workspace;
use crate::data::{DataSource, Template};
use crate::jinja::TemplateDate;
use crate::job::{JobConfig, JobId, ModelIdentity, Quantize};
use crate::orders::{JobOrder, ModelLocation, OrderedModel};
use crate::plan::{LocalModel, OpenModelError};
use crate::pretrained::ModelTokenizer;
use crate::queue::Queue;
use crate::report::{BoardRow, BoardView, RowKind};
use crate::store::{RememberedDigests, Store, StoredJob};

/// A trained adapter on this machine's disk.
#[derive(Debug)]
pub struct TrainedAdapter {
    /// `SWEEP/LABEL`, without a space.
    pub name: String,
    /// The job that trained it.
    pub job: JobId,
    /// Its folder.
    pub folder: PathBuf,
    /// The base model of its training.
    pub model: OrderedModel,
    /// How the base model was held in its training.
    pub quantize: Quantize,
    /// Its resolved configuration.
    pub config: JobConfig,
    /// The folder that its sweep file's paths start at.
    pub sweep_folder: PathBuf,
}

impl TrainedAdapter {
    /// That of a job, as a sweep calls it. None: it was not trained, or its adapter is no longer there. Errors: the database's.
    pub async fn of_job(
        store: &Store,
        (sweep, label): (&str, &str),
        job: &StoredJob,
    ) -> Result<Option<Self>, WorkspaceError> {
        let Some(folder) = job.adapter.as_ref().filter(|_| job.adapter_removed.is_none()) else {
            return Ok(None);
        };
        let folder = store.results().join(folder);
        let orders = store.orders(std::slice::from_ref(&job.id)).await.map_err(WorkspaceError::Queue)?;
        let order: Option<&JobOrder> = orders.first().map(|(order, _)| order);
        let Some((order, config)) = order.and_then(|order| Some((order, order.config()?))) else {
            return Ok(None);
        };
        store.bring_adapter(&job.id).await?;
        if !folder.is_dir() {
            return Ok(None);
        }
        let file = store.sweep(sweep).await?.origin.file;
        Ok(Some(Self {
            name: format!("{sweep}/{}", label.split_whitespace().collect::<Vec<_>>().join(",")),
            job: job.id.clone(),
            folder,
            model: order.model.clone(),
            quantize: order.form.quantize,
            config: config.clone(),
            sweep_folder: file.parent().unwrap_or(Path::new("")).to_owned(),
        }))
    }

    /// The template that it was trained with. Errors: it is not there any more, or `auto` of rows that are not.
    pub fn template(
        &self,
        tokenizer: &ModelTokenizer,
        workspace: &Workspace,
    ) -> Result<Template, WorkspaceError> {
        let JobConfig { data, template, template_date, .. } = &self.config;
        let first = match template.as_str() {
            // What it means depends on the columns.
            "auto" => {
                DataSource::training(data, &self.sweep_folder, &workspace.roots)?.rows()?.into_iter().next()
            }
            _ => None,
        };
        Ok(Template::resolve(template, first.as_ref(), tokenizer, *template_date, &self.sweep_folder)?)
    }
}

/// The template of a model's chats where nothing else is known: its own, or Alpaca's.
pub fn usual_template(name: Option<&str>, tokenizer: &ModelTokenizer) -> Result<Template, WorkspaceError> {
    let usual = if tokenizer.chat_template(false).is_some() { "chat" } else { "alpaca" };
    let name = name.unwrap_or(usual);
    Ok(Template::resolve(name, None, tokenizer, TemplateDate::default(), Path::new("."))?)
}

impl Workspace {
    /// The adapters of a sweep's best rows, best first: of each row the first seed whose adapter is there. Errors: no such sweep, none
    /// of it has an adapter, one is of another model.
    pub async fn best_adapters(
        &self,
        store: &Store,
        (sweep, count): (&str, usize),
        model: &Path,
    ) -> Result<Vec<TrainedAdapter>, WorkspaceError> {
        let board = board(store, Some(sweep)).await?;
        let rows = tested_rows(store, &board, &BoardView::of(&board)).await?;
        let mut found = Vec::new();
        let (mut identity, mut digests) = (None, store.digests().await?);
        for row in rows.iter().filter(|row| row.kind() == RowKind::Cell) {
            if found.len() == count {
                break;
            }
            let Some(adapter) = first_adapter(store, sweep, row).await? else { continue };
            require_model(&adapter, model, (&mut identity, &mut digests))?;
            found.push(adapter);
        }
        if found.is_empty() { Err(WorkspaceError::NoAdapters(sweep.to_owned())) } else { Ok(found) }
    }
}

/// Error: the adapter is of another model.
fn require_model(
    adapter: &TrainedAdapter,
    model: &Path,
    (identity, digests): (&mut Option<ModelIdentity>, &mut RememberedDigests),
) -> Result<(), WorkspaceError> {
    let place = match &adapter.model.location {
        ModelLocation::Path(path) => path.canonicalize().ok(),
        ModelLocation::Hub { .. } => None,
    };
    if place.is_some() && place == model.canonicalize().ok() {
        return Ok(());
    }
    let known = match identity {
        Some(known) => *known,
        None => {
            let (local, ..) = LocalModel::open(model.to_owned(), digests).map_err(|error| match error {
                OpenModelError::Checkpoint(error) => WorkspaceError::Model(error),
                OpenModelError::Tokenizer(error) => WorkspaceError::Tokenizer(error),
            })?;
            *identity.insert(local.identity())
        }
    };
    if known == adapter.model.identity {
        return Ok(());
    }
    let (job, trained) = (adapter.job.clone(), adapter.model.name.clone());
    Err(WorkspaceError::OtherModel { job, trained, named: model.to_owned() })
}

/// The adapter of a row's first seed that is there.
pub(super) async fn first_adapter(
    store: &Store,
    sweep: &str,
    row: &BoardRow,
) -> Result<Option<TrainedAdapter>, WorkspaceError> {
    for id in &row.jobs {
        let job = store.job(id).await?;
        let adapter = TrainedAdapter::of_job(store, (sweep, &row.label), &job).await?;
        if adapter.is_some() {
            return Ok(adapter);
        }
    }
    Ok(None)
}
