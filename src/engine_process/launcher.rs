//! Programs that start an engine elsewhere: `srun` within an allocation, `ssh`, `docker exec`.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::Command;

use thiserror::Error;

use crate::protocol::STANDARD_STREAMS;

/// A command that the engine's own is appended to, as in `srun -N1 -n1 --gres=gpu:1 --exact`. It runs the engine, passes standard input
/// and output through, and ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    text: String,
    program: String,
    arguments: Vec<String>,
}

/// A text that is not a command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LauncherError {
    /// Nothing in it.
    #[error("the launcher is empty; one looks like 'srun -N1 -n1 --gres=gpu:1 --exact'")]
    Empty,
    /// A quote without its end.
    #[error("the launcher '{0}' has a quote that does not end")]
    Quote(String),
}

impl Launcher {
    /// Splits a command as a shell does; nothing in it is expanded. Errors: see [`LauncherError`].
    pub fn parse(text: &str) -> Result<Self, LauncherError> {
        let words = shlex::split(text).ok_or_else(|| LauncherError::Quote(text.to_owned()))?;
        let mut words = words.into_iter();
        let program = words.next().ok_or(LauncherError::Empty)?;
        Ok(Self { text: text.to_owned(), program, arguments: words.collect() })
    }

    /// The program that starts the engine.
    pub(super) fn program(&self) -> &Path {
        Path::new(&self.program)
    }

    /// The command that starts an engine on a device of where it runs. Settings travel as arguments of `env`, since `ssh` passes no
    /// environment.
    pub(super) fn command(&self, engine: &Path, device: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command.arg("env").arg(format!("LORAGRID_DEVICE={device}")).arg("CUDA_DEVICE_ORDER=PCI_BUS_ID");
        command.arg(OsString::from(engine)).arg(STANDARD_STREAMS);
        command
    }
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_command_follows_the_launchers_words() {
        let launcher = Launcher::parse("srun -N1 --comment='two words' --exact").unwrap();
        let command = launcher.command(Path::new("/opt/loragrid-engine"), "cuda:0");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(command.get_program(), "srun");
        let wanted = ["-N1", "--comment=two words", "--exact", "env", "LORAGRID_DEVICE=cuda:0"];
        assert_eq!(words[..5], wanted);
        assert_eq!(
            words[5..],
            ["CUDA_DEVICE_ORDER=PCI_BUS_ID", "/opt/loragrid-engine", "--standard-streams"]
        );
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert_eq!(Launcher::parse("  "), Err(LauncherError::Empty));
        assert_eq!(Launcher::parse("srun 'a"), Err(LauncherError::Quote("srun 'a".to_owned())));
    }
}
