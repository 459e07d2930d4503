//! Arguments of the commands that serve.

use std::path::PathBuf;

use clap::Args;

use super::{LoadArguments, positive};

/// Where a server listens and who may ask.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListenArguments {
    /// Host to listen on; another one than the loopback needs a token
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(in crate::cli) host: String,
    /// File with the token that requests must have [default: LORAGRID_TOKEN, else none]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ServeArguments {
    /// Port to listen on; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(in crate::cli) port: u16,
    #[command(flatten)]
    pub(in crate::cli) listen: ListenArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ServeModelArguments {
    /// Base model: a .gguf file, a checkpoint folder, or a hub id
    pub(in crate::cli) model: String,
    /// Serve an adapter as a model of this name (repeatable)
    #[arg(long, value_name = "NAME=FOLDER", value_parser = named_folder)]
    pub(in crate::cli) adapter: Vec<(String, PathBuf)>,
    /// Serve the adapters of this sweep's best rows as SWEEP/LABEL
    #[arg(long, value_name = "SWEEP")]
    pub(in crate::cli) sweep: Option<String>,
    /// Rows of the sweep
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive, requires = "sweep")]
    pub(in crate::cli) top: usize,
    /// Name of the base model [default: as it is named here]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Template of chats: alpaca, question-answer, chat, or a .jinja file [default: a sweep's, the tokenizer's chat
    /// template, else alpaca]
    #[arg(long)]
    pub(in crate::cli) template: Option<String>,
    /// Port to listen on; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(in crate::cli) port: u16,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = positive)]
    pub(in crate::cli) max_new_tokens: usize,
    /// Most answers in progress and waiting; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive)]
    pub(in crate::cli) queue: usize,
    #[command(flatten)]
    pub(in crate::cli) listen: ListenArguments,
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

fn named_folder(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
            Ok((name.to_owned(), folder.into()))
        }
        _ => Err("expected NAME=FOLDER".to_owned()),
    }
}
