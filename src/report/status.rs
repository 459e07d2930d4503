//! The status of sweeps.

use super::table::{Cell, Column, Table};
use crate::job::JobState;
use crate::store::SweepStatus;

/// One row per sweep, one column per state.
pub fn status_table(sweeps: &[SweepStatus]) -> Table {
    let mut columns = vec![Column::text("sweep"), Column::number("version", None)];
    columns.extend(JobState::ALL.map(|state| Column::number(state.as_str(), None)));
    let row = |sweep: &SweepStatus| {
        let count = |state: JobState| Cell::Count(sweep.counts.get(&state).copied().unwrap_or_default());
        let mut cells = vec![Cell::Text(sweep.name.clone()), Cell::Count(sweep.version as u64)];
        cells.extend(JobState::ALL.map(count));
        cells
    };
    Table { columns, rows: sweeps.iter().map(row).collect() }
}
