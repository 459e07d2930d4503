//! `loragrid serve-model`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::serve::access_of;
use crate::cli::ExitCode;
use crate::cli::arguments::ServeModelArguments;
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_error, write_json, write_line, write_note};
use crate::cli::work::stops;
use crate::data::Template;
use crate::job::Quantize;
use crate::pretrained::{Checkpoint, ModelTokenizer};
use crate::store::Store;
use crate::web::openai::{Api, ServedModel, router};
use crate::web::{Listener, serve};
use crate::workspace::{ModelServer, Workspace, WorkspaceError, usual_template};

/// A model under a name: the base model, or an adapter of it.
struct Named {
    name: String,
    folder: Option<PathBuf>,
    template: Template,
}

pub(in crate::cli) fn run(
    arguments: &ServeModelArguments,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    let access = access_of(&arguments.listen)?;
    let model = local_model(&arguments.model, workspace)?;
    let tokenizer = ModelTokenizer::open(&Checkpoint::open(&model)?).map_err(WorkspaceError::from)?;
    block_on(async {
        let (mut stops, _) = stops();
        // A port that is in use is said before a model is loaded.
        let listener = Listener::bind(&arguments.listen.host, arguments.port).await?;
        let named = models(arguments, workspace, (&model, &tokenizer)).await?;
        let folders = named.iter().map(|named| named.folder.clone()).collect();
        let form = arguments.load.form(arguments.load.quantize);
        let on = arguments.load.device();
        let (server, engine) = ModelServer::start((model, form), folders, arguments.queue, &on).await?;
        let models: Vec<ServedModel> = named
            .into_iter()
            .map(|Named { name, template, .. }| ServedModel { name, template: Arc::new(template) })
            .collect();
        show(&listener, &models)?;
        let api = Api {
            server: server.clone(),
            default: usize::from(models.len() > 1),
            models: Arc::new(models),
            max_new_tokens: arguments.max_new_tokens as u64,
            access,
            started: jiff::Timestamp::now().as_second(),
        };
        let watched = server.clone();
        let end = async move {
            tokio::select! {
                _ = stops.recv() => {}
                _ = watched.ended() => {}
            }
        };
        serve(listener, router(api), end).await?;
        let has_ended = engine.is_finished();
        server.close();
        let why = server.ended().await;
        // It ends with the engine, whose end is above.
        let _ = engine.await;
        if has_ended {
            return Err(Failure::new(ExitCode::Engine, why, None));
        }
        write_note("stopped");
        Ok(ExitCode::Success)
    })
}

/// The base model first, then named adapters, then those of the sweep. Errors: a name that is there twice, no template.
async fn models(
    arguments: &ServeModelArguments,
    workspace: &Workspace,
    (model, tokenizer): (&Path, &ModelTokenizer),
) -> Result<Vec<Named>, Failure> {
    let template = || usual_template(arguments.template.as_deref(), tokenizer);
    let base = arguments.name.clone().unwrap_or_else(|| arguments.model.clone());
    let mut named = vec![Named { name: base, folder: None, template: template()? }];
    for (name, folder) in &arguments.adapter {
        let folder = Some(std::path::absolute(folder)?);
        named.push(Named { name: name.clone(), folder, template: template()? });
    }
    if let Some(sweep) = &arguments.sweep {
        let store = Store::open_to_read(&workspace.db).await?;
        let found = workspace.best_adapters(&store, (sweep, arguments.top), model).await?;
        store.close().await;
        for adapter in found {
            warn_of_form(&adapter.name, adapter.quantize, arguments.load.quantize);
            let template = match arguments.template {
                Some(_) => template()?,
                None => adapter.template(tokenizer, workspace)?,
            };
            named.push(Named { name: adapter.name, folder: Some(adapter.folder), template });
        }
    }
    let mut names = BTreeSet::new();
    match named.iter().find(|named| !names.insert(named.name.as_str())) {
        Some(Named { name, .. }) => {
            Err(Failure::new(ExitCode::Usage, format!("two models are named '{name}'"), None))
        }
        None => Ok(named),
    }
}

fn warn_of_form(name: &str, trained: Quantize, served: Quantize) {
    if trained != served {
        let (trained, served) = (trained.as_str(), served.as_str());
        write_error(&format!(
            "warning: {name} was trained with --quantize {trained} and is served with {served}"
        ));
    }
}

fn show(listener: &Listener, models: &[ServedModel]) -> Result<(), Failure> {
    let url = format!("http://{}/v1", listener.address);
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    if is_json() {
        write_json(&json!({ "url": url, "models": names }))?;
    } else {
        write_line(&format!("serving {} at {url}", names.join(", ")))?;
    }
    Ok(())
}
