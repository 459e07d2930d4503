//! `loragrid wait`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::WaitArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::cli::time::{TIME_HELP, duration};
use crate::job::JobState;
use crate::store::Store;
use crate::workspace::{Workspace, wait_for_sweep};

pub(in crate::cli) fn run(arguments: &WaitArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let until = match &arguments.timeout {
        None => None,
        Some(text) => {
            let wrong =
                || Failure::new(ExitCode::Usage, format!("'{text}' is not a time"), TIME_HELP.to_owned());
            std::time::Instant::now().checked_add(duration(text).ok_or_else(wrong)?)
        }
    };
    let (sweep, ended) = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let sweep = match &arguments.sweep {
            Some(sweep) => sweep.clone(),
            None => store.last_sweep().await?,
        };
        let ended = wait_for_sweep(&store, &sweep, until).await?;
        store.close().await;
        Ok((sweep, ended))
    })?;
    if is_json() {
        write_json(&json!({ "sweep": sweep, "timed_out": ended.timed_out, "states": ended.states }))?;
    } else {
        let states: Vec<String> =
            ended.states.iter().map(|(state, count)| format!("{count} {}", state.as_str())).collect();
        write_line(&format!("sweep {sweep}: {}", states.join(", ")))?;
    }
    let count = |state| ended.states.get(&state).copied().unwrap_or_default();
    Ok(match (ended.timed_out, count(JobState::Failed) + count(JobState::Diverged)) {
        (true, _) => ExitCode::TimeUp,
        (false, 0) => ExitCode::Success,
        (false, _) => ExitCode::JobsFailed,
    })
}
