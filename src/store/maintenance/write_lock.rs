//! Starting a write transaction: waits while another program holds the lock or the database is missing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Sqlite, Transaction};

use crate::pretrained::FileStamp;
use crate::store::error::StoreError;
use crate::store::open::Store;

/// How long SQLite itself waits for another program's transaction before this program checks whether to go on.
pub(in crate::store) const BUSY: Duration = Duration::from_secs(3);
/// How long writes wait by default.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a missing database is checked for.
const LOOK: Duration = Duration::from_millis(100);

/// How long writes wait for a database that is locked or missing: half a minute, or, if endless, until `lose`. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    endless: bool,
    lost: Arc<AtomicBool>,
}

impl Patience {
    /// Waits without limit until `lose`.
    pub fn endless() -> Self {
        Self { endless: true, lost: Arc::default() }
    }

    /// From now on nothing waits for more than a moment.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Whether to go on after waiting this long.
    pub(in crate::store) fn lasts(&self, waited: Duration) -> bool {
        !self.lost.load(Ordering::Relaxed) && (self.endless || waited < LIMIT)
    }
}

/// Why a transaction cannot start now.
enum Hindrance {
    Locked(sqlx::Error),
    Away,
}

impl Store {
    /// Starts a write transaction. While another program holds the database, or its file is missing, this waits: half a minute, or as
    /// long as the store's patience lasts. Errors: [`StoreError::NoDatabase`], [`StoreError::Replaced`].
    pub(in crate::store) async fn begin(&self) -> Result<Transaction<'_, Sqlite>, StoreError> {
        let started = Instant::now();
        let mut is_told = false;
        loop {
            let hindrance = match self.try_begin().await? {
                Ok(transaction) => {
                    if is_told {
                        tracing::warn!("the database {} is back", self.path().display());
                    }
                    return Ok(transaction);
                }
                Err(hindrance) => hindrance,
            };
            if !self.patience.lasts(started.elapsed()) {
                return Err(match hindrance {
                    Hindrance::Locked(error) => error.into(),
                    Hindrance::Away => StoreError::NoDatabase { path: self.path().to_owned() },
                });
            }
            if !std::mem::replace(&mut is_told, true) {
                let what = match hindrance {
                    Hindrance::Locked(_) => "held by another program",
                    Hindrance::Away => "not at its place",
                };
                tracing::warn!("the database {} is {what}; waiting for it", self.path().display());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits, as every write does, until the database file is in place. Errors: as there.
    pub async fn reach(&self) -> Result<(), StoreError> {
        Ok(self.begin().await?.rollback().await?)
    }

    async fn try_begin(&self) -> Result<Result<Transaction<'_, Sqlite>, Hindrance>, StoreError> {
        match FileStamp::of(self.path()) {
            // Whatever is written now would be lost with the old file.
            Ok(stamp) if !stamp.is_same_file(&self.opened) => {
                return Err(StoreError::Replaced { path: self.path().to_owned() });
            }
            Ok(_) => {}
            Err(_) => return Ok(Err(Hindrance::Away)),
        }
        match self.pool.begin_with("BEGIN IMMEDIATE").await {
            Ok(transaction) => Ok(Ok(transaction)),
            Err(error) if is_locked(&error) => Ok(Err(Hindrance::Locked(error))),
            Err(error) => Err(error.into()),
        }
    }
}

fn code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// SQLITE_BUSY and SQLITE_LOCKED, in all variants.
fn is_locked(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// Whether the write failed because the disk is full: SQLITE_FULL.
pub(in crate::store) fn is_full(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code & 0xff == 13)
}

/// The kind of a network file system, by its magic number: other machines do not see the log of a database there, and locks are
/// unreliable.
pub(in crate::store) fn shared_by_machines(path: &Path) -> Option<&'static str> {
    let statistics = nix::sys::statfs::statfs(path).ok()?;
    kind_of_network(statistics.filesystem_type().0 as u64)
}

/// Numbers from Linux's `magic.h` and the file systems' sources.
fn kind_of_network(number: u64) -> Option<&'static str> {
    Some(match number & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x5346_414f => "AFS",
        0x7375_7245 => "Coda",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x0102_1997 => "9p",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        _ => return None,
    })
}

/// Whether a file system is a FUSE one (sshfs, JuiceFS, virtiofs), for which locking is unknown.
pub(in crate::store) fn is_fuse(path: &Path) -> bool {
    let number = |statistics: nix::sys::statfs::Statfs| statistics.filesystem_type().0 as u64 & 0xffff_ffff;
    nix::sys::statfs::statfs(path).is_ok_and(|statistics| number(statistics) == 0x6573_5546)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_several_machines_are_known() {
        assert_eq!(kind_of_network(0x6969), Some("NFS"));
        assert_eq!(kind_of_network(0x0102_1997), Some("9p"));
        // Some systems return the number sign-extended.
        assert_eq!(kind_of_network(0xffff_ffff_ff53_4d42), Some("SMB"));
        for local in [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0x794c_7630] {
            assert_eq!(kind_of_network(local), None);
        }
        assert_eq!(shared_by_machines(Path::new("/proc")), None);
    }
}
