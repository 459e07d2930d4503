//! Rows for exports, by sweep.

use sqlx::Row;

use crate::store::boards::frame::Frame;
use crate::store::boards::query::read_datum;
use crate::store::error::StoreError;
use crate::store::open::Store;

impl Store {
    /// The loss curves of a sweep's jobs, one row per point.
    pub async fn curve_rows(&self, sweep: &str) -> Result<Frame, StoreError> {
        self.rows_of(
            sweep,
            "SELECT r.job_id, r.label, c.step, c.loss, c.validation_loss, c.learning_rate, c.tokens, c.seconds
             FROM runs r JOIN curve_points c ON c.subject = r.subject WHERE r.sweep = $1 ORDER BY r.position, c.step",
            &["job_id", "label", "step", "loss", "validation_loss", "learning_rate", "tokens", "seconds"],
        )
        .await
    }

    /// The scores of each document that a sweep wants, one row per document.
    pub async fn document_rows(&self, sweep: &str) -> Result<Frame, StoreError> {
        self.rows_of(
            sweep,
            "SELECT w.job_id, r.label, t.task, d.document, d.requests, d.metrics FROM runs r
             JOIN sweeps s ON s.name = r.sweep
             JOIN sweep_tasks t ON t.sweep_id = s.id AND t.version = r.version
             JOIN wanted_scores w ON w.sweep_id = s.id AND w.version = r.version AND w.task_position = t.position
                 AND w.job_id = r.job_id
             JOIN scored_documents d ON d.score_key = w.score_key
             WHERE r.sweep = $1 ORDER BY r.position, t.position, d.document",
            &["job_id", "label", "task", "document", "requests", "metrics"],
        )
        .await
    }

    async fn rows_of(&self, sweep: &str, sql: &'static str, columns: &[&str]) -> Result<Frame, StoreError> {
        let found = sqlx::query(sql).bind(sweep).fetch_all(&self.pool).await?;
        let read = |row| (0..Row::len(row)).map(|at| read_datum(row, at)).collect();
        let rows = found.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Frame { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows })
    }
}
