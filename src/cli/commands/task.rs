//! `loragrid task check` and `loragrid task list`

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{TaskCheckArguments, TaskCommand, TaskListArguments};
use crate::cli::failure::Failure;
use crate::cli::output::{terminal_width, write_json, write_line};
use crate::report::{Cell, Column, Table, render_terminal};
use crate::task::{TaskFolder, builtin_names};

/// Reasons that are listed one by one for people.
const SHOWN: usize = 20;

pub(in crate::cli) fn run(command: &TaskCommand) -> Result<ExitCode, Failure> {
    match command {
        TaskCommand::Check(arguments) => check(arguments),
        TaskCommand::List(arguments) => list(arguments),
    }
}

fn check(arguments: &TaskCheckArguments) -> Result<ExitCode, Failure> {
    let check = TaskFolder::open(&arguments.include_path)?.check();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, _, count) in &check.refused {
        *kinds.entry(kind).or_default() += count;
    }
    if arguments.json {
        let reasons: Vec<_> = check
            .refused
            .iter()
            .map(|(kind, name, count)| json!({ "kind": kind, "name": name, "tasks": count }))
            .collect();
        write_json(&json!({
            "total": check.total, "runnable": check.runnable, "need_generation": check.need_generation,
            "groups": check.groups, "classes": check.classes, "refused_by_kind": kinds, "refused": reasons,
        }))?;
        return Ok(ExitCode::Success);
    }
    let part = 100.0 * check.runnable as f64 / check.total.max(1) as f64;
    write_line(&format!(
        "{} tasks, {} understood ({part:.1} %), {} of them by generating text, which is not scored yet\n{} groups, {} \
         tasks that are Python classes",
        check.total, check.runnable, check.need_generation, check.groups, check.classes
    ))?;
    let table = Table {
        columns: vec![Column::text("refused for"), Column::text("name"), Column::number("tasks", None)],
        rows: check
            .refused
            .iter()
            .take(SHOWN)
            .map(|(kind, name, count)| {
                vec![Cell::Text(kind.clone()), Cell::Text(name.clone()), Cell::Count(*count as u64)]
            })
            .collect(),
    };
    if !table.rows.is_empty() {
        write_line(&render_terminal(&table, terminal_width()))?;
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        write_line(&format!("refused by kind: {}", kinds.join(", ")))?;
    }
    Ok(ExitCode::Success)
}

fn list(arguments: &TaskListArguments) -> Result<ExitCode, Failure> {
    let folder = arguments.include_path.as_deref().map(TaskFolder::open).transpose()?;
    let mut names: BTreeMap<&str, String> =
        builtin_names().into_iter().map(|name| (name, "shipped".to_owned())).collect();
    if let Some(folder) = &folder {
        names.extend(folder.tasks().map(|(name, path)| (name, path.display().to_string())));
    }
    if arguments.json {
        let tasks: Vec<_> = names.iter().map(|(name, from)| json!({ "name": name, "from": from })).collect();
        write_json(&json!({ "tasks": tasks }))?;
        return Ok(ExitCode::Success);
    }
    for (name, from) in names {
        write_line(&format!("{name}  {from}"))?;
    }
    Ok(ExitCode::Success)
}
