//! A small file system in memory.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::support::Scratch;

/// A small file system in memory, unmounted after its test.
pub(crate) struct SmallDisk(Scratch);

impl SmallDisk {
    /// A file system with these `mount` options; none, with a message, if this process may not mount.
    pub(crate) fn new(size: &str) -> Option<Self> {
        let scratch = Scratch::new();
        let mut mount = Command::new("/bin/mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(scratch.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: a small disk: this process may not mount a file system"
            );
        }
        mounted.then_some(Self(scratch))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last byte with a file.
    pub(crate) fn fill(&self) -> std::path::PathBuf {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as an exiting program may still have a file open.
        let _ = Command::new("/bin/umount").arg("-l").arg(self.path()).output();
    }
}
