//! `loragrid report`

use std::path::Path;

use super::findings::read_findings;
use super::top::board_of;
use crate::cli::ExitCode;
use crate::cli::arguments::{ReportArguments, ReportFormat};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{output_file, write_bytes, write_error, write_file};
use crate::report::{Document, document_html, document_latex, document_markdown, sweep_report};
use crate::store::Store;
use crate::workspace::{Workspace, report_input};

pub(in crate::cli) fn run(arguments: &ReportArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let format = format_of(arguments)?;
    let document = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let names: Vec<Option<&str>> = match arguments.sweeps.as_slice() {
            [] => vec![None],
            names => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        let mut inputs = Vec::new();
        for name in names {
            let board = board_of(&store, name).await?;
            inputs.push(report_input(&store, board).await?);
        }
        let findings = match &arguments.findings {
            Some(file) => read_findings(&store, file).await?.1,
            None => Vec::new(),
        };
        store.close().await;
        let sweeps: Vec<&str> = inputs.iter().map(|input| input.board.sweep.as_str()).collect();
        let title = arguments.title.clone().unwrap_or_else(|| format!("Results of {}", sweeps.join(", ")));
        Ok(sweep_report(&title, &inputs, &findings))
    })?;
    write(&document, format, output_file(arguments.output.as_deref()))?;
    Ok(ExitCode::Success)
}

fn format_of(arguments: &ReportArguments) -> Result<ReportFormat, Failure> {
    let named = |path: &Path| match path.extension()?.to_str()? {
        "html" | "htm" => Some(ReportFormat::Html),
        "md" => Some(ReportFormat::Markdown),
        "tex" => Some(ReportFormat::Latex),
        _ => None,
    };
    match (arguments.format, output_file(arguments.output.as_deref())) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(ReportFormat::Markdown),
        (None, Some(path)) => named(path).ok_or_else(|| {
            let message = format!("the extension of '{}' does not name a format", path.display());
            Failure::new(ExitCode::Usage, message, "use a .html, .md or .tex file, or --format".to_owned())
        }),
    }
}

fn write(document: &Document, format: ReportFormat, output: Option<&Path>) -> Result<(), Failure> {
    let folder = output.map(|path| path.with_extension("charts"));
    let folder_name =
        folder.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let (text, charts) = match format {
        ReportFormat::Html => (document_html(document), Vec::new()),
        ReportFormat::Latex => (document_latex(document), Vec::new()),
        ReportFormat::Markdown => document_markdown(document, folder_name.as_deref()),
    };
    let Some(path) = output else { return Ok(write_bytes(text.as_bytes())?) };
    for (chart, folder) in charts.iter().zip(folder.iter().cycle()) {
        write_file(&folder.join(&chart.name), chart.svg.as_bytes())?;
    }
    write_file(path, text.as_bytes())?;
    write_error(&format!("wrote {}", path.display()));
    Ok(())
}
