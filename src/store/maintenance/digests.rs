//! SHA-256 of files, cached while device, inode, size and modification time stay the same.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use sqlx::Row;

use crate::job::Digest;
use crate::pretrained::{FileDigests, FileStamp};
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::queue::read_digest;

/// Cached digests, and new ones.
#[derive(Debug, Clone, Default)]
pub struct RememberedDigests {
    known: HashMap<FileStamp, Digest>,
    fresh: Vec<(FileStamp, Digest)>,
}

impl FileDigests for RememberedDigests {
    fn digest(&mut self, path: &Path) -> std::io::Result<Digest> {
        let stamp = FileStamp::of(path)?;
        if let Some(digest) = self.known.get(&stamp) {
            return Ok(*digest);
        }
        let digest = Digest::of_reader(&mut File::open(path)?)?;
        self.known.insert(stamp, digest);
        self.fresh.push((stamp, digest));
        Ok(digest)
    }
}

impl Store {
    /// The cached digests.
    pub async fn digests(&self) -> Result<RememberedDigests, StoreError> {
        let rows = sqlx::query("SELECT device, inode, size, modified_ns, digest FROM file_digests");
        let mut known = HashMap::new();
        for row in rows.fetch_all(&self.pool).await? {
            // Bit patterns: an inode above 2⁶³ is stored as a negative number.
            let bits = |column| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)? as u64);
            let (device, inode, size) = (bits(0)?, bits(1)?, bits(2)?);
            let stamp = FileStamp { device, inode, size, modified_ns: row.try_get(3)? };
            known.insert(stamp, read_digest(&row, 4)?);
        }
        Ok(RememberedDigests { known, fresh: Vec::new() })
    }

    /// Stores the newly computed digests.
    pub async fn remember(&self, digests: &RememberedDigests) -> Result<(), StoreError> {
        if digests.fresh.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for (stamp, digest) in &digests.fresh {
            let insert = sqlx::query(
                "INSERT INTO file_digests (device, inode, size, modified_ns, digest) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (device, inode) DO UPDATE
                 SET size = excluded.size, modified_ns = excluded.modified_ns, digest = excluded.digest",
            );
            insert
                .bind(stamp.device as i64)
                .bind(stamp.inode as i64)
                .bind(stamp.size as i64)
                .bind(stamp.modified_ns)
                .bind(digest.to_string())
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}
