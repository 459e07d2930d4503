//! Loss curves.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row};

use crate::job::JobId;
use crate::store::error::StoreError;
use crate::store::open::Store;

/// A point of a loss curve.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct CurvePoint {
    /// Optimizer steps made.
    pub step: i64,
    /// Loss of the step's window; none if it was not finite.
    pub loss: Option<f64>,
    /// Validation loss, if requested.
    pub validation_loss: Option<f64>,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Seconds since training began.
    pub seconds: f64,
}

impl Store {
    /// The loss curves of some jobs; a job that was not trained has none.
    pub async fn curves(&self, jobs: &[JobId]) -> Result<HashMap<JobId, Vec<CurvePoint>>, StoreError> {
        let mut query = QueryBuilder::new(
            "SELECT j.id, c.step, c.loss, c.validation_loss, c.learning_rate, c.seconds FROM jobs j
             JOIN curve_points c ON c.subject = j.subject WHERE j.id IN (",
        );
        let mut list = query.separated(", ");
        for job in jobs {
            list.push_bind(job.as_str());
        }
        query.push(") ORDER BY j.id, c.step");
        let mut curves: HashMap<JobId, Vec<CurvePoint>> = HashMap::new();
        for row in query.build().fetch_all(&self.pool).await? {
            let point = CurvePoint {
                step: row.try_get(1)?,
                loss: row.try_get(2)?,
                validation_loss: row.try_get(3)?,
                learning_rate: row.try_get(4)?,
                seconds: row.try_get(5)?,
            };
            curves.entry(JobId::from_store(row.try_get(0)?)).or_default().push(point);
        }
        Ok(curves)
    }
}
