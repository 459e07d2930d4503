//! Claims about sweeps, and whether the results bear them out.

mod claim;
mod judge;
mod table;

pub use claim::{Claim, Claims, ClaimsError, Expect, Side};
pub use judge::{Finding, FindingRow, Outcome, jobs_of, judge, not_run};
pub use table::{finding_rows_table, findings_table};
