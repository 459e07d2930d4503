//! Where the engine is.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use thiserror::Error;

/// The engine's file name.
const NAME: &str = "loragrid-engine";

/// No engine was found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "loragrid-engine not found: neither at LORAGRID_ENGINE, beside loragrid, nor in PATH; `make build` builds it"
)]
pub struct EngineNotFound;

/// The engine's path: `named` (from `LORAGRID_ENGINE`) if there is one, else beside the program, else in `path_list`
/// (as in `PATH`). Error: none of these is a file.
pub fn find_engine(
    named: Option<&Path>,
    program: Option<&Path>,
    path_list: Option<&std::ffi::OsStr>,
) -> Result<PathBuf, EngineNotFound> {
    if let Some(named) = named {
        return if named.is_file() { Ok(named.to_owned()) } else { Err(EngineNotFound) };
    }
    let beside = program.and_then(Path::parent).map(|folder| folder.join(NAME));
    let in_path = path_list.into_iter().flat_map(std::env::split_paths).map(|folder| folder.join(NAME));
    beside.into_iter().chain(in_path).find(|path| path.is_file()).ok_or(EngineNotFound)
}

/// The engine's answer to `--describe`.
#[derive(Debug, Deserialize)]
struct Description {
    cuda: bool,
}

/// Whether an engine reports that it supports GPUs; one that does not answer does not.
pub fn has_cuda(engine: &Path) -> bool {
    let output = std::process::Command::new(engine).arg("--describe").stdin(Stdio::null()).output();
    let described = output.ok().and_then(|output| serde_json::from_slice::<Description>(&output.stdout).ok());
    described.is_some_and(|description| description.cuda)
}

/// The engine's answer to `--rate`.
#[derive(Debug, Deserialize)]
struct Rate {
    flops: f64,
}

/// The rate of matrix products that an engine measures on a device, in floating-point operations per second; none if it does
/// not answer.
pub fn product_rate(engine: &Path, device: &str, dtype: &str) -> Option<f64> {
    let mut command = std::process::Command::new(engine);
    command.args(["--rate", dtype]).env("LORAGRID_DEVICE", device);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    serde_json::from_slice::<Rate>(&output.stdout).ok().map(|rate| rate.flops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_engine_wins_and_a_wrong_name_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join(NAME);
        std::fs::write(&beside, "").unwrap();
        let program = folder.path().join("loragrid");
        assert_eq!(find_engine(None, Some(&program), None), Ok(beside));
        assert_eq!(
            find_engine(Some(Path::new("/nowhere/engine")), Some(&program), None),
            Err(EngineNotFound)
        );
    }

    #[test]
    fn it_is_looked_for_in_path_last() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "").unwrap();
        let found = find_engine(None, Some(Path::new("/nowhere/loragrid")), Some(folder.path().as_os_str()));
        assert_eq!(found, Ok(folder.path().join(NAME)));
    }
}
