//! `loragrid import lm-eval`

use serde_json::json;

use super::top;
use crate::cli::ExitCode;
use crate::cli::arguments::{ImportArguments, ImportCommand};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{in_one_line, is_json, write_error, write_json};
use crate::job::counted;
use crate::report::lm_eval::{ReadError, read_results};
use crate::store::Store;
use crate::workspace::Workspace;

pub(in crate::cli) fn run(command: &ImportCommand, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let ImportCommand::LmEval(arguments) = command;
    lm_eval(arguments, workspace)
}

fn lm_eval(arguments: &ImportArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let mut results = read_results(&arguments.path).map_err(failure)?;
    if let (Some(label), [one]) = (&arguments.label, results.as_mut_slice()) {
        one.label.clone_from(label);
    } else if arguments.label.is_some() {
        let message = format!("--label names one model, there are {} files of results", results.len());
        return Err(Failure::new(ExitCode::Usage, message, "name one file".to_owned()));
    }
    block_on(async {
        let store = Store::open(&workspace.db).await?;
        let sweep = store.import(arguments.sweep.as_deref(), &results).await?;
        for one in &results {
            let (scores, documents) = (one.scores.len(), one.documents.len());
            let (scores, documents) =
                (counted(scores as u64, "score"), counted(documents as u64, "document"));
            write_error(&format!("{}: {scores}, {documents} into sweep {sweep}", one.label));
            if !one.left_out.is_empty() {
                write_error(&format!("  left out: {}", in_one_line(&one.left_out.join("; "))));
            }
        }
        if is_json() {
            let models: Vec<_> = results
                .iter()
                .map(|one| json!({ "label": one.label, "source": one.source, "scores": one.scores.len(), "documents": one.documents.len(), "left_out": one.left_out }))
                .collect();
            write_json(&json!({ "sweep": sweep, "models": models }))?;
        } else {
            top::show_sweep(&store, &sweep).await?;
        }
        store.close().await;
        Ok(ExitCode::Success)
    })
}

fn failure(error: ReadError) -> Failure {
    let help = match error {
        ReadError::Io { .. } => "check the path and its permissions",
        ReadError::Malformed { .. } | ReadError::None { .. } => {
            "name the folder that lm_eval's --output_path named, or one of its results_*.json"
        }
    };
    Failure::new(ExitCode::Data, error.to_string(), help.to_owned())
}
