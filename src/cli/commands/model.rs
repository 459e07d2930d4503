//! `loragrid model pull`, `loragrid model show` and `loragrid push`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{ModelShowArguments, PullArguments, PushArguments};
use crate::cli::downloads::{self, EventDisplay, local_model, repository_id};
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::job::{Bytes, DType, Quantize};
use crate::plan::weight_bytes;
use crate::pretrained::{Checkpoint, ModelConfig, ModelTokenizer};
use crate::report::{Cell, Column, Table, render_terminal};
use crate::workspace::Workspace;

pub(in crate::cli) fn pull(arguments: &PullArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let id = repository_id(&arguments.id)?;
    let pulled = downloads::pull(&id, workspace)?;
    if is_json() {
        write_json(&json!({
            "id": id.name(), "revision": id.revision(), "commit": pulled.commit, "folder": pulled.folder,
            "files": pulled.files, "transferred": pulled.transferred.0,
        }))?;
    } else {
        let (files, bytes) = (pulled.files, pulled.transferred);
        write_line(&format!("{id}: {files} files, {bytes} transferred\n{}", pulled.folder.display()))?;
    }
    Ok(ExitCode::Success)
}

pub(in crate::cli) fn push(arguments: &PushArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let id = repository_id(&arguments.id)?;
    let mut display = EventDisplay::default();
    let how = (arguments.message.as_str(), arguments.private);
    let pushed = workspace.push(&id, &arguments.folder, how, &mut |event| display.show(event))?;
    if is_json() {
        write_json(
            &json!({ "id": id.name(), "revision": id.revision(), "url": pushed.url, "files": pushed.files }),
        )?;
    } else {
        write_line(&format!("{}: {}", pushed.url, pushed.files.join(", ")))?;
    }
    Ok(ExitCode::Success)
}

pub(in crate::cli) fn show(
    arguments: &ModelShowArguments,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    let path = local_model(&arguments.model, workspace)?;
    let checkpoint = Checkpoint::open(&path)?;
    let config = checkpoint.config();
    let tokenizer = ModelTokenizer::open(&checkpoint);
    let template = tokenizer.as_ref().ok().and_then(|tokenizer| tokenizer.chat_template(false));
    let tokenizer_notes = tokenizer.as_ref().map(|tokenizer| tokenizer.notes().to_vec()).unwrap_or_default();
    let notes = [checkpoint.notes(), &tokenizer_notes].concat();
    let tensors = checkpoint.tensors()?;
    let mut types: Vec<&str> = tensors.iter().map(|info| info.stored_as.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    let memory = [Quantize::None, Quantize::Nf4, Quantize::Nf4Double, Quantize::Fp4, Quantize::Fp4Double]
        .map(|form| (form, weight_bytes(config, form, false, DType::Bf16)));
    if is_json() {
        let memory: serde_json::Map<_, _> =
            memory.iter().map(|(form, bytes)| (form.as_str().to_owned(), json!(bytes.0))).collect();
        write_json(&json!({
            "path": path, "parameters": config.parameters(), "config": config, "stored_as": types,
            "file_bytes": checkpoint.size(), "weight_bytes_in_bf16": memory, "chat_template": template,
            "warnings": notes,
            "tensors": tensors.iter().map(|t| json!([t.name, t.shape, t.stored_as])).collect::<Vec<_>>(),
        }))?;
        return Ok(ExitCode::Success);
    }
    write_line(&heading(config, &checkpoint, &types.join(", ")))?;
    for note in &notes {
        write_line(&format!("warning: {note}"))?;
    }
    let row = |(form, bytes): &(Quantize, Bytes)| {
        vec![Cell::Text(form.as_str().into()), Cell::Text(bytes.to_string())]
    };
    let table = Table {
        columns: vec![Column::text("quantization"), Column::text("weights in bf16")],
        rows: memory.iter().map(row).collect(),
    };
    write_line(&render_terminal(&table, None))?;
    let tokens = match &tokenizer {
        Ok(_) => template
            .map_or_else(|| "it has no chat template".to_owned(), |text| format!("chat template:\n{text}")),
        Err(error) => format!("no tokenizer: {error}"),
    };
    write_line(&tokens)?;
    Ok(ExitCode::Success)
}

fn heading(config: &ModelConfig, checkpoint: &Checkpoint, types: &str) -> String {
    let family = serde_json::to_value(config.family).ok();
    let family = family.as_ref().and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let windows = config.layer_forms.iter().filter(|form| form.window.is_some()).count();
    let mut lines = vec![
        format!(
            "{}: {family}, {} parameters, stored as {types}, {} on disk",
            checkpoint.path().display(),
            config.parameters(),
            Bytes(checkpoint.size())
        ),
        format!(
            "{} blocks of width {}, feed-forward {}, {} heads of {} ({} for keys and values), vocabulary {}, {} positions",
            config.layers,
            config.hidden_size,
            config.intermediate_size,
            config.heads,
            config.head_dim,
            config.kv_heads,
            config.vocab_size,
            config.max_positions
        ),
    ];
    lines.push(format!("head {}", if config.tied_head { "tied to the embedding" } else { "separate" }));
    if windows > 0 {
        lines.push(format!("{windows} blocks see a sliding window"));
    }
    lines.join("\n")
}
