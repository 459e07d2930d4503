//! `loragrid init`

use std::io::Write;

use crate::cli::ExitCode;
use crate::cli::arguments::InitArguments;
use crate::cli::failure::Failure;
use crate::cli::output::write_error;

/// The file that `init` writes.
const TEMPLATE: &str = include_str!("init.toml");

pub(in crate::cli) fn run(arguments: &InitArguments) -> Result<ExitCode, Failure> {
    let path = &arguments.file;
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    written.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            let message = format!("{} already exists", path.display());
            return Failure::new(
                ExitCode::Usage,
                message,
                "name another file: loragrid init NAME.toml".to_owned(),
            );
        }
        let message = format!("{} cannot be written: {error}", path.display());
        Failure::new(ExitCode::Usage, message, "name a file in a folder that you can write to".to_owned())
    })?;
    write_error(&format!("wrote {0}; edit it, then: loragrid plan {0}", path.display()));
    Ok(ExitCode::Success)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::TEMPLATE;
    use crate::plan::expand;
    use crate::sweep_file::{SourceText, SweepSpec};

    #[test]
    fn the_template_is_a_sweep_as_it_stands_and_with_every_comment_taken_away() {
        let parse = |text: &str| SweepSpec::parse(SourceText::new(Path::new("sweep.toml"), text));
        let plain = parse(TEMPLATE).unwrap();
        assert_eq!(expand(&plain).unwrap().cells.len(), 6);
        let open: String =
            TEMPLATE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n").collect();
        assert_ne!(open, TEMPLATE);
        let spec = parse(&open).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(expand(&spec).unwrap().warnings.is_empty());
    }
}
