//! The winner for use elsewhere: as PEFT's folder, as llama.cpp's GGUF with an Ollama Modelfile, or merged; each with a model card.

use std::path::{Path, PathBuf};

use super::WorkspaceEvent;
use super::adapters::{TrainedAdapter, first_adapter};
use super::boards::tested_rows;
use super::error::WorkspaceError;
use super::open::Workspace;
use super::session::{MergeRequest, SessionDevice, merge};
use super::winner::Winner;
use crate::data::{PresetOrigin, Template, find_preset};
use crate::orders::ModelLocation;
use crate::pretrained::{Checkpoint, ModelTokenizer, write_gguf_adapter};
use crate::protocol::MergeBase;
use crate::report::{BoardView, ModelCard, model_card};
use crate::store::{Leaderboard, Store};

/// The files of a PEFT folder.
const PEFT: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterFormat {
    /// PEFT's folder.
    Peft,
    /// llama.cpp's adapter, with an Ollama Modelfile.
    Gguf,
    /// The base model with the adapter added, as a Hugging Face folder.
    Merged,
}

/// An exported winner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedAdapter {
    /// The job.
    pub job: String,
    /// The folder.
    pub folder: PathBuf,
    /// Its files.
    pub files: Vec<String>,
}

impl Workspace {
    /// Writes the winner of a sweep into a folder that is not there yet, or empty. Errors: no adapter on this machine, one that the
    /// format cannot hold, the engine's for a merge.
    pub async fn export_winner(
        &self,
        store: &Store,
        (board, winner): (&Leaderboard, &Winner),
        (format, out): (AdapterFormat, &Path),
        on: &SessionDevice,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<ExportedAdapter, WorkspaceError> {
        let adapter = first_adapter(store, &board.sweep, &winner.best).await?;
        let adapter = adapter.ok_or_else(|| WorkspaceError::NoAdapters(board.sweep.clone()))?;
        if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) || out.is_file() {
            return Err(WorkspaceError::NotEmpty(out.to_owned()));
        }
        let model = match &adapter.model.location {
            ModelLocation::Path(path) => path.clone(),
            ModelLocation::Hub { name, revision } => self.model(&format!("{name}@{revision}"), watch)?,
        };
        let usage = match format {
            AdapterFormat::Merged => self.write_merged(&adapter, (&model, out), on).await?,
            AdapterFormat::Peft => write_peft(&adapter, out)?,
            AdapterFormat::Gguf => self.write_gguf(&adapter, &model, out)?,
        };
        let card = self.card(store, (board, winner), &adapter, (format, &usage)).await?;
        write(&out.join("README.md"), card.as_bytes())?;
        let mut files: Vec<String> = std::fs::read_dir(out)
            .map_err(|source| WorkspaceError::Write { path: out.to_owned(), source })?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        files.sort();
        Ok(ExportedAdapter { job: adapter.job.to_string(), folder: out.to_owned(), files })
    }

    async fn write_merged(
        &self,
        adapter: &TrainedAdapter,
        (model, out): (&Path, &Path),
        on: &SessionDevice,
    ) -> Result<String, WorkspaceError> {
        let request = MergeRequest {
            model: model.to_owned(),
            adapter: adapter.folder.clone(),
            out: std::path::absolute(out).unwrap_or_else(|_| out.to_owned()),
            base: MergeBase::Stored,
            dtype: None,
        };
        merge(&request, on).await?;
        Ok("```python\nfrom transformers import AutoModelForCausalLM\nmodel = AutoModelForCausalLM.from_pretrained(\"this folder\")\n```".to_owned())
    }

    fn write_gguf(
        &self,
        adapter: &TrainedAdapter,
        model: &Path,
        out: &Path,
    ) -> Result<String, WorkspaceError> {
        let checkpoint = Checkpoint::open(model)?;
        let tokenizer = ModelTokenizer::open(&checkpoint)?;
        make(out)?;
        write_gguf_adapter(&adapter.folder, checkpoint.config(), &adapter.name, &out.join("adapter.gguf"))?;
        let template = adapter.template(&tokenizer, self)?;
        write(&out.join("Modelfile"), modelfile(model, &template).as_bytes())?;
        Ok("```\nllama-cli -m BASE.gguf --lora adapter.gguf\nollama create NAME -f Modelfile\n```".to_owned())
    }

    async fn card(
        &self,
        store: &Store,
        (board, winner): (&Leaderboard, &Winner),
        adapter: &TrainedAdapter,
        (format, usage): (AdapterFormat, &str),
    ) -> Result<String, WorkspaceError> {
        let view = BoardView::of(board);
        let rows = tested_rows(store, board, &view).await?;
        let job = store.job(adapter.job.as_str()).await?;
        let base_id = match &adapter.model.location {
            ModelLocation::Hub { name, .. } => Some(name.as_str()),
            ModelLocation::Path(_) => None,
        };
        let data_id = match find_preset(&adapter.config.data).map(|preset| preset.origin) {
            Some(PresetOrigin::Hub { id, .. }) => Some(id),
            _ => None,
        };
        let file_name =
            |path: &str| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        // A path says something of a machine, and a name is enough.
        let shown = |name: &str| if Path::new(name).is_absolute() { file_name(name) } else { None };
        let base = shown(&adapter.model.name).unwrap_or_else(|| adapter.model.name.clone());
        let data = shown(&adapter.config.data).unwrap_or_else(|| adapter.config.data.clone());
        Ok(model_card(&ModelCard {
            title: &adapter.name,
            loads_with: match format {
                AdapterFormat::Peft => "peft",
                AdapterFormat::Gguf => "llama.cpp",
                AdapterFormat::Merged => "transformers",
            },
            base: &base,
            base_id,
            data: &data,
            data_id,
            sweep: &board.sweep,
            job: &job,
            board: (&view, &rows),
            row: &winner.best,
            metric: &winner.metric,
            usage,
        }))
    }
}

fn write_peft(adapter: &TrainedAdapter, out: &Path) -> Result<String, WorkspaceError> {
    make(out)?;
    for name in PEFT {
        let (from, to) = (adapter.folder.join(name), out.join(name));
        std::fs::copy(&from, &to).map_err(|source| WorkspaceError::Write { path: to, source })?;
    }
    Ok("```python\nfrom peft import AutoPeftModelForCausalLM\nmodel = AutoPeftModelForCausalLM.from_pretrained(\"this folder\")\n```".to_owned())
}

/// An Ollama Modelfile. A chat template is the base model's own, which Ollama finds in it; the fixed formats are told.
fn modelfile(model: &Path, template: &Template) -> String {
    let mut text = format!("FROM {}\nADAPTER ./adapter.gguf\n", model.display());
    if !matches!(template, Template::Chat(_)) {
        let prompt = template.prompt(&[("user".to_owned(), "{{ .Prompt }}".to_owned())]);
        if let Ok(prompt) = prompt {
            text.push_str(&format!("TEMPLATE \"\"\"{prompt}\"\"\"\n"));
        }
    }
    text
}

fn make(folder: &Path) -> Result<(), WorkspaceError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| WorkspaceError::Write { path: folder.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), WorkspaceError> {
    std::fs::write(path, bytes).map_err(|source| WorkspaceError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modelfile_has_the_prompt_that_the_adapter_was_trained_with() {
        let text = modelfile(Path::new("/m/base.gguf"), &Template::Alpaca);
        assert!(
            text.starts_with(
                "FROM /m/base.gguf\nADAPTER ./adapter.gguf\nTEMPLATE \"\"\"Below is an instruction"
            ),
            "{text}"
        );
        assert!(text.contains("### Instruction:\n{{ .Prompt }}") && text.ends_with("\"\"\"\n"), "{text}");
        let text = modelfile(Path::new("m"), &Template::QuestionAnswer);
        assert!(text.contains("Question: {{ .Prompt }}"), "{text}");
    }
}
