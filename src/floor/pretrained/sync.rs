//! Files that must survive a power failure: a name is only durable once its folder is synced too.

use std::fs::File;
use std::path::Path;

/// Syncs a folder's names to disk. Error: I/O.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Syncs the name of a file or folder to disk. Error: I/O.
pub fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}
