//! `loragrid completions`: a script that asks this program for completions, so that sweeps, jobs and keys are among them.

use clap_complete::Shell;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use crate::cli::ExitCode;
use crate::cli::arguments::CompletionsArguments;
use crate::cli::failure::Failure;
use crate::cli::output::write_verbatim;

/// The variable that asks this program for completions.
const VARIABLE: &str = "COMPLETE";

pub(in crate::cli) fn run(arguments: &CompletionsArguments) -> Result<ExitCode, Failure> {
    let shell: &dyn EnvCompleter = match arguments.shell {
        Shell::Bash => &Bash,
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::PowerShell => &Powershell,
        Shell::Zsh => &Zsh,
        other => {
            let help = "use bash, zsh, fish, elvish or powershell".to_owned();
            return Err(Failure::new(ExitCode::Usage, format!("unsupported shell '{other}'"), help));
        }
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "loragrid", "loragrid", "loragrid", &mut script)?;
    write_verbatim(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::Success)
}
