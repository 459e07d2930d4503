//! The file that says whose results a folder holds. Adapters and checkpoints of two databases in one folder could not be told
//! apart, and one would remove the other's.

use std::path::{Path, PathBuf};

use super::error::StoreError;

/// The file's name.
const NAME: &str = ".loragrid-database";

/// Notes that a folder's results belong to a database, unless they belong to another. Errors: they do; the file cannot be read
/// or written.
pub(super) fn claim(folder: &Path, database: &Path, id: String) -> Result<(), StoreError> {
    let path = folder.join(NAME);
    let failed = |source: std::io::Error| StoreError::Open { path: path.clone(), source: source.into() };
    let file = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let mut lines = text.lines();
            let (known, other) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            if known == id {
                return Ok(());
            }
            let (folder, marker) = (folder.to_owned(), path.clone());
            Err(StoreError::ForeignFolder {
                path: database.to_owned(),
                folder,
                other: PathBuf::from(other),
                marker,
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::write(&path, format!("{id}\n{file}\n")).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_databases_and_a_copy_is_the_same_database() {
        let folder = tempfile::tempdir().unwrap();
        let claim = |name: &str, id: &str| claim(folder.path(), &folder.path().join(name), id.to_owned());
        claim("a.db", "1").unwrap();
        claim("a.db", "1").unwrap();
        claim("renamed.db", "1").unwrap();
        let error = claim("b.db", "2").unwrap_err().to_string();
        assert!(error.contains("a.db"), "{error}");
    }
}
