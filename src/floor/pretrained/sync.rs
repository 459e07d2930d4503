//! Files that must survive a power cut: a name is only safe once its folder has reached the disk too.

use std::fs::File;
use std::path::Path;

/// Waits until a folder's names have reached the disk. Error: the system's.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Waits until the name of a file or folder has reached the disk. Error: the system's.
pub fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}
