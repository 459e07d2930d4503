//! `loragrid task`

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{TaskCheckArguments, TaskCommand, TaskListArguments, TaskShowArguments};
use crate::cli::downloads::pull_rows;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, write_json, write_line};
use crate::job::PromptProfile;
use crate::report::{Cell, Column, Table};
use crate::task::{Catalogue, Document, Gold, Request, Subset, TaskIndex, build_documents};
use crate::workspace::Workspace;

/// Reasons that are listed one by one for people.
const SHOWN: usize = 20;

pub(in crate::cli) fn run(command: &TaskCommand, workspace: &Workspace) -> Result<ExitCode, Failure> {
    match command {
        TaskCommand::Check(arguments) => check(arguments),
        TaskCommand::List(arguments) => list(arguments),
        TaskCommand::Show(arguments) => show(arguments, workspace),
    }
}

fn check(arguments: &TaskCheckArguments) -> Result<ExitCode, Failure> {
    let check = TaskIndex::open(&arguments.include_path)?.check();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, _, count) in &check.refused {
        *kinds.entry(kind).or_default() += count;
    }
    if is_json() {
        let reasons: Vec<_> = check
            .refused
            .iter()
            .map(|(kind, name, count)| json!({ "kind": kind, "name": name, "tasks": count }))
            .collect();
        write_json(&json!({
            "total": check.total, "runnable": check.runnable, "generating": check.generating,
            "groups": check.groups, "classes": check.classes, "refused_by_kind": kinds, "refused": reasons,
        }))?;
        return Ok(ExitCode::Success);
    }
    let part = 100.0 * check.runnable as f64 / check.total.max(1) as f64;
    write_line(&format!(
        "{} tasks, {} can be scored ({part:.1} %), {} of them by generated answers\n{} groups, {} \
         tasks that are Python classes",
        check.total, check.runnable, check.generating, check.groups, check.classes
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
        write_line(&show_table(&table))?;
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        write_line(&format!("refused by kind: {}", kinds.join(", ")))?;
    }
    Ok(ExitCode::Success)
}

fn list(arguments: &TaskListArguments) -> Result<ExitCode, Failure> {
    let index = TaskIndex::with_folder(arguments.include_path.as_deref())?;
    if is_json() {
        let of =
            |(name, kind, from): (&str, &str, String)| json!({ "name": name, "kind": kind, "from": from });
        write_json(&json!({ "tasks": index.names().map(of).collect::<Vec<_>>() }))?;
        return Ok(ExitCode::Success);
    }
    let columns = vec![Column::text("name"), Column::text("kind"), Column::text("from")];
    let row = |(name, kind, from): (&str, &str, String)| {
        vec![Cell::Text(name.to_owned()), Cell::Text(kind.to_owned()), Cell::Text(from)]
    };
    let rows = index.names().map(row).collect();
    write_line(&show_table(&Table { columns, rows }))?;
    Ok(ExitCode::Success)
}

fn show(arguments: &TaskShowArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let index = TaskIndex::with_folder(arguments.include_path.as_deref())?;
    let (folder, roots, profile) = (Path::new("."), &workspace.roots, PromptProfile::LmEval);
    let catalogue = Catalogue { folder, roots, index: &index, profile };
    let find = || Ok::<_, Failure>(catalogue.find(&arguments.name)?.with_shots(arguments.num_fewshot));
    let mut task = find()?;
    if arguments.file {
        write_json(&task.config)?;
        return Ok(ExitCode::Success);
    }
    if pull_rows(std::iter::once(&task), workspace)? {
        task = find()?;
    }
    let documents = build_documents(&task, &Subset::Numbers(vec![arguments.document]))?;
    let Some(document) = documents.first() else {
        let message = format!("'{}' has no document {}", task.name, arguments.document);
        return Err(Failure::new(ExitCode::Usage, message, "documents count from 0".to_owned()));
    };
    let metrics: Vec<&str> = task.metrics.iter().map(|metric| metric.metric.as_str()).collect();
    if is_json() {
        let requests: Vec<_> = document
            .requests
            .iter()
            .map(|request| json!({ "context": request.context(), "continuation": request.scored() }))
            .collect();
        write_json(&json!({
            "task": task.name, "file": task.file, "output_type": task.output_type.as_str(), "version": task.version,
            "metrics": metrics, "num_fewshot": task.shots.count, "rows": task.documents.name(),
            "document": document.id, "requests": requests, "choices": document.choices, "target": document.target,
        }))?;
        return Ok(ExitCode::Success);
    }
    write_line(&format!(
        "{}: {}, version {}, {}, {} examples\nfrom {}, document {} of {}\n",
        task.name,
        task.output_type.as_str(),
        task.version,
        metrics.join(", "),
        task.shots.count,
        task.file,
        document.id,
        task.documents.name(),
    ))?;
    for line in shown(document) {
        write_line(&line)?;
    }
    Ok(ExitCode::Success)
}

/// A document for people: contexts that differ are shown each, one that all choices share once.
fn shown(document: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = None;
    let golds: &[usize] = match &document.gold {
        Gold::Choices(golds) => golds,
        _ => &[],
    };
    let is_true = |number: usize| match &document.gold {
        Gold::True(labels) => labels.get(number).copied().unwrap_or_default(),
        _ => golds.contains(&number),
    };
    for (number, request) in document.requests.iter().enumerate() {
        if last != Some(request.context()) {
            lines.push(format!("prompt: {:?}", request.context()));
            last = Some(request.context());
        }
        let mark = if is_true(number) { "  <- right" } else { "" };
        let what = if document.choices.is_empty() { "target".to_owned() } else { format!("choice {number}") };
        let scored = match request {
            Request::Generate { .. } => document.target.as_str(),
            request => request.scored(),
        };
        lines.push(format!("{what}: {scored:?}{mark}"));
    }
    lines
}
