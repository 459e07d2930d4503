//! Claims about sweeps, judged by the results.

mod claim;
mod finding;
mod judge;
mod measured;
mod pairs;
mod scored;
mod table;

pub use claim::{Claim, Claims, ClaimsError, Expect, Side};
pub use finding::{Finding, FindingRow, Outcome, not_run};
pub use judge::judge;
pub use pairs::jobs_of;
pub use table::{finding_rows_table, findings_table};
