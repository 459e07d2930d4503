//! Arguments of the tools around sweeps.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(in crate::cli) struct InitArguments {
    /// File to write; an existing file is kept
    #[arg(value_name = "SWEEP.toml", default_value = "sweep.toml")]
    pub(in crate::cli) file: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct KeysArguments {}

#[derive(Debug, Args)]
pub(in crate::cli) struct ConfigArguments {}

#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorArguments {
    /// Engine program [default: loragrid-engine beside this program, or in PATH]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) engine: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GcArguments {
    /// List what would be deleted, and delete nothing
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
    /// Delete without asking
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DbCommand {
    /// Upgrade the database of an earlier release, after a backup of the file
    Upgrade(DbUpgradeArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DbUpgradeArguments {}

#[derive(Debug, Args)]
pub(in crate::cli) struct CompletionsArguments {
    /// Shell
    pub(in crate::cli) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ManArguments {
    /// Folder to write to
    pub(in crate::cli) folder: PathBuf,
}
