//! `loragrid findings`

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::FindingsArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, write_json, write_line};
use crate::job::JobId;
use crate::report::{Claims, Finding, finding_rows_table, findings_table, jobs_of, judge, not_run};
use crate::store::{DocumentValues, Leaderboard, Store, StoreError};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &FindingsArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let (title, findings) = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let found = read_findings(&store, &arguments.file).await?;
        store.close().await;
        Ok(found)
    })?;
    if is_json() {
        write_json(&json!({ "title": title, "findings": findings }))?;
        return Ok(ExitCode::Success);
    }
    if let Some(title) = title {
        write_line(&title)?;
    }
    write_line(&show_table(&findings_table(&findings)))?;
    write_line(&show_table(&finding_rows_table(&findings)))?;
    Ok(ExitCode::Success)
}

/// The claims of a file, judged; with the file's title. Errors: the file's, a metric that a sweep does not score.
pub(super) async fn read_findings(
    store: &Store,
    file: &Path,
) -> Result<(Option<String>, Vec<Finding>), Failure> {
    let at = file.display();
    let wrong = |error: String| {
        let help = "a list of [[claim]] with text, sweep, first, second and expect".to_owned();
        Failure::new(ExitCode::SweepFile, format!("{at}: {error}"), help)
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let Claims { title, claims } = Claims::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let mut boards: HashMap<String, Option<Leaderboard>> = HashMap::new();
    // By sweep: two may ask the same job in different ways.
    let mut values: HashMap<String, HashMap<JobId, Vec<DocumentValues>>> = HashMap::new();
    let mut findings = Vec::new();
    for claim in &claims {
        if !boards.contains_key(&claim.sweep) {
            let board = match store.leaderboard(Some(&claim.sweep)).await {
                Ok(board) => Some(board),
                Err(StoreError::NoSweep { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            boards.insert(claim.sweep.clone(), board);
        }
        let Some(board) = boards.get(&claim.sweep).and_then(Option::as_ref) else {
            findings.push(not_run(claim));
            continue;
        };
        let jobs: HashSet<usize> = jobs_of(board, claim).into_iter().flat_map(|(a, b)| [a, b]).collect();
        let own = values.entry(claim.sweep.clone()).or_default();
        for at in jobs {
            let id = &board.jobs[at].id;
            if !own.contains_key(id) {
                own.insert(id.clone(), store.document_values(board, id).await?);
            }
        }
        findings.push(judge(board, claim, own)?);
    }
    Ok((title, findings))
}
