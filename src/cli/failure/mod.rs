//! Errors at the edge: one exit code, a message, a place, a fix.

mod of_errors;
mod of_workspace;

use std::ops::Range;
use std::path::PathBuf;

use miette::{GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use serde_json::{Value as Json, json};

use super::exit_code::ExitCode;
use super::output::{ascii_only, in_ascii, is_colored, is_json, terminal_width, versioned, write_error};
use crate::plan::Blocker;
use crate::sweep_file::{Problem, SourceText};

/// What the user is told when a command cannot do its work.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    pub(in crate::cli) code: ExitCode,
    details: Vec<Detail>,
}

/// One problem.
#[derive(Debug)]
struct Detail {
    message: String,
    help: Option<String>,
    place: Option<Location>,
}

/// Where it is.
#[derive(Debug)]
struct Location {
    file: PathBuf,
    line: Option<usize>,
    source: Option<(SourceText, Range<usize>)>,
}

impl Failure {
    /// A failure without a place.
    pub(in crate::cli) fn new(
        code: ExitCode,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Self {
        Self { code, details: vec![Detail { message: message.into(), help: help.into(), place: None }] }
    }

    fn at(mut self, file: PathBuf, line: Option<usize>) -> Self {
        if let Some(detail) = self.details.first_mut() {
            detail.place = Some(Location { file, line, source: None });
        }
        self
    }

    /// A problem of `--set`.
    pub(in crate::cli) fn of_override(problem: &Problem) -> Self {
        Self::new(ExitCode::Usage, format!("--set: {problem}"), problem.help())
    }

    /// A plan that cannot run, with everything that is missing; `None` if nothing is.
    pub(in crate::cli) fn of_blockers(blockers: &[Blocker]) -> Option<Self> {
        let code = match blockers.first()? {
            Blocker::Model { .. } => ExitCode::Model,
            Blocker::Data { .. } => ExitCode::Data,
            Blocker::Documents { .. } => ExitCode::Task,
        };
        let detail = |blocker: &Blocker| Detail {
            message: blocker.to_string(),
            help: Some(blocker.help().to_owned()),
            place: None,
        };
        Some(Self { code, details: blockers.iter().map(detail).collect() })
    }

    /// Prints to standard error: for people, or as one JSON object.
    pub(in crate::cli) fn print(&self) {
        if is_json() {
            return write_error(&versioned(&self.json()).to_string());
        }
        for detail in &self.details {
            let text = detail.render();
            write_error(&if ascii_only() { in_ascii(&text) } else { text });
        }
    }

    /// {error: {code, message, file, line, column, help}}; further problems of the same file in `others`.
    fn json(&self) -> Json {
        let mut details = self.details.iter().map(Detail::json);
        let mut error = details.next().unwrap_or_else(|| json!({}));
        error["code"] = json!(self.code.as_str());
        let others: Vec<Json> = details.collect();
        if !others.is_empty() {
            error["others"] = json!(others);
        }
        json!({ "error": error })
    }
}

impl Detail {
    fn line_and_column(&self) -> (Option<usize>, Option<usize>) {
        match &self.place {
            Some(Location { source: Some((source, span)), .. }) => {
                let (line, column) = source.place(span.start);
                (Some(line), Some(column))
            }
            Some(Location { line, .. }) => (*line, None),
            None => (None, None),
        }
    }

    fn json(&self) -> Json {
        let (line, column) = self.line_and_column();
        json!({
            "code": null,
            "message": self.message,
            "file": self.place.as_ref().map(|place| place.file.display().to_string()),
            "line": line,
            "column": column,
            "help": self.help,
        })
    }

    fn render(&self) -> String {
        let mut diagnostic = MietteDiagnostic::new(self.message.clone());
        if let Some(help) = &self.help {
            diagnostic = diagnostic.with_help(help.clone());
        }
        let source = self.place.as_ref().and_then(|place| place.source.as_ref());
        let report = match source {
            Some((source, span)) => {
                let label = LabeledSpan::new_with_span(None, (span.start, span.len()));
                let named = NamedSource::new(source.path().display().to_string(), source.text().to_owned());
                Report::new(diagnostic.with_label(label)).with_source_code(named)
            }
            None => Report::new(diagnostic),
        };
        let mut text = String::new();
        let handler = match is_colored(std::io::IsTerminal::is_terminal(&std::io::stderr())) {
            true => GraphicalReportHandler::new()
                .with_width(terminal_width().map_or(100, |width| usize::from(width.max(40)))),
            false => GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor()),
        };
        match handler.render_report(&mut text, report.as_ref()) {
            Ok(()) => text.trim_end().to_owned(),
            Err(_) => self.message.clone(),
        }
    }
}
