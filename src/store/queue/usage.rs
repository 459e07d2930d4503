//! What the slots of workers use.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::device::SlotUse;
use crate::job::Bytes;
use crate::queue::Owner;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::open::Store;

/// What a slot used when it was last looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredUse {
    /// The worker's process.
    pub owner: String,
    /// Milliseconds since 1970.
    pub sampled_ms: i64,
    /// What it used.
    pub slot: SlotUse,
}

impl Store {
    /// Replaces what the slots of a worker use. With no slot nothing of the worker is left.
    pub(super) async fn write_use(&self, owner: &Owner, slots: &[SlotUse]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let remove = sqlx::query("DELETE FROM slot_use WHERE owner = $1");
        remove.bind(owner.as_str()).execute(&mut *tx).await?;
        for slot in slots {
            let insert = sqlx::query(
                "INSERT INTO slot_use (owner, device, sampled_ms, used, memory, total_memory, temperature, power)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            );
            insert
                .bind(owner.as_str())
                .bind(&slot.device)
                .bind(now_ms())
                .bind(slot.used)
                .bind(slot.memory.0 as i64)
                .bind(slot.total_memory.0 as i64)
                .bind(slot.temperature)
                .bind(slot.power)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// What the slots of live workers used when they were last looked at.
    pub async fn slot_uses(&self) -> Result<Vec<StoredUse>, StoreError> {
        let query = sqlx::query(
            "SELECT owner, device, sampled_ms, used, memory, total_memory, temperature, power
             FROM slot_use ORDER BY owner, device",
        );
        let read = |row: &SqliteRow| {
            Ok(StoredUse {
                owner: row.try_get(0)?,
                sampled_ms: row.try_get(2)?,
                slot: SlotUse {
                    device: row.try_get(1)?,
                    used: row.try_get(3)?,
                    memory: Bytes(row.try_get::<i64, _>(4)?.max(0) as u64),
                    total_memory: Bytes(row.try_get::<i64, _>(5)?.max(0) as u64),
                    temperature: row.try_get(6)?,
                    power: row.try_get(7)?,
                },
            })
        };
        let all: Vec<StoredUse> =
            query.fetch_all(&self.pool).await?.iter().map(read).collect::<Result<_, StoreError>>()?;
        Ok(all.into_iter().filter(|stored| !Owner::from_store(stored.owner.clone()).is_dead()).collect())
    }
}
