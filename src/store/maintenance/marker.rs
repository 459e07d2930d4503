//! The marker file that records which database owns a results folder. Two databases in one folder could remove each other's adapters and
//! checkpoints.

use std::path::{Path, PathBuf};

use crate::pretrained::sync_parent;
use crate::store::error::StoreError;

/// The file's name.
const NAME: &str = ".loragrid-database";

/// Records that a folder's results belong to a database. Errors: they belong to another one; the file cannot be read or written.
pub(in crate::store) fn claim(folder: &Path, database: &Path, id: String) -> Result<(), StoreError> {
    let file = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match owner_of(folder)? {
        Some((known, _)) if known == id => Ok(()),
        Some((_, other)) => Err(foreign(folder, database, other)),
        None => {
            let path = folder.join(NAME);
            let written = write(folder, &path, &format!("{id}\n{file}\n"));
            written.map_err(|source| StoreError::Open { path, source: source.into() })
        }
    }
}

/// Checks that a folder's results have no owner before a database is created in it. Errors: as [`claim`].
pub(in crate::store) fn require_unclaimed(folder: &Path, database: &Path) -> Result<(), StoreError> {
    match owner_of(folder)? {
        Some((_, other)) => Err(foreign(folder, database, other)),
        None => Ok(()),
    }
}

/// Writes the marker beside its place and renames it, each durable before the next: half of a marker would name another database.
fn write(folder: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let beside = folder.join(format!("{NAME}.partial-{}", std::process::id()));
    // With the rights of any file: others who share the folder read it.
    let mut file = std::fs::File::create(&beside)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_parent(path)
}

/// The id and the file name of the database that owns the results of a folder.
fn owner_of(folder: &Path) -> Result<Option<(String, PathBuf)>, StoreError> {
    let path = folder.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let mut lines = text.lines();
            let mut line = || lines.next().unwrap_or_default().to_owned();
            let (id, file) = (line(), line());
            // An earlier release did not wait for the disk: after a power cut the file may be empty, and names nobody.
            let is_whole = text.ends_with('\n') && !id.is_empty() && !id.starts_with('\0');
            Ok(is_whole.then(|| (id, PathBuf::from(file))))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Open { path, source: source.into() }),
    }
}

fn foreign(folder: &Path, database: &Path, other: PathBuf) -> StoreError {
    let (path, marker) = (database.to_owned(), folder.join(NAME));
    StoreError::ForeignFolder { path, folder: folder.to_owned(), other, marker }
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

    #[test]
    fn a_marker_that_a_power_cut_left_empty_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        for left in ["", "\0\0\0\0", "abc"] {
            std::fs::write(folder.path().join(NAME), left).unwrap();
            claim(folder.path(), &folder.path().join("a.db"), "1".to_owned()).unwrap();
            assert_eq!(
                owner_of(folder.path()).unwrap(),
                Some(("1".to_owned(), PathBuf::from("a.db"))),
                "{left:?}"
            );
        }
    }
}
