//! GitHub-flavored Markdown.

use crate::report::chart::chart_svg_file;
use crate::report::document::{Block, Document};
use crate::report::table::{Align, Cell, Mark, Table};

/// A chart referenced by a Markdown file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartFile {
    /// Its name in the folder of charts.
    pub name: String,
    /// Its content.
    pub svg: String,
}

/// Escapes a string for Markdown, as one line.
pub fn escape_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '$' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A table in pipe syntax.
pub fn table_markdown(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(table.columns.iter().map(|column| escape_markdown(&column.heading())).collect());
    out.push_str(&line(
        table
            .columns
            .iter()
            .map(|column| if column.align == Align::Right { "---:" } else { ":---" }.to_owned())
            .collect(),
    ));
    let cell = |cell: &Cell| match cell {
        Cell::Marked(inner, Mark::Best) => format!("**{}**", escape_markdown(&inner.show())),
        other => escape_markdown(&other.show()),
    };
    table.rows.iter().for_each(|row| out.push_str(&line(row.iter().map(cell).collect())));
    out
}

/// A document, with its charts as separate files in the folder `charts`, which is relative to the document; without a folder, charts are
/// described in words.
pub fn document_markdown(document: &Document, charts: Option<&str>) -> (String, Vec<ChartFile>) {
    let mut out = format!("# {}\n\n{}\n", escape_markdown(&document.title), escape_markdown(&document.lead));
    let mut files = Vec::new();
    for (section, beginning) in document.sections.iter().zip(document.beginnings()) {
        if let Some(part) = beginning {
            out.push_str(&format!("\n## {}\n", escape_markdown(part)));
        }
        let level = if section.part.is_some() { "###" } else { "##" };
        out.push_str(&format!("\n{level} {}\n", escape_markdown(&section.title)));
        for block in &section.blocks {
            out.push('\n');
            out.push_str(&match block {
                Block::Text(text) => format!("{}\n", escape_markdown(text)),
                Block::List(items) => {
                    items.iter().map(|item| format!("- {}\n", escape_markdown(item))).collect()
                }
                Block::Table(caption, table) => {
                    format!("*{}*\n\n{}", escape_markdown(caption), table_markdown(table))
                }
                Block::Code(caption, text) => format!("*{}*\n\n{}", escape_markdown(caption), fenced(text)),
                Block::Chart(chart) => match charts {
                    None => {
                        format!("*{}*: {}\n", escape_markdown(&chart.title), escape_markdown(&chart.words()))
                    }
                    Some(folder) => {
                        let name = format!("chart-{}.svg", files.len() + 1);
                        files.push(ChartFile { name: name.clone(), svg: chart_svg_file(chart) });
                        let (title, words) = (escape_markdown(&chart.title), escape_markdown(&chart.words()));
                        format!("*{title}*\n\n![{words}](<{folder}/{name}>)\n")
                    }
                },
            });
        }
    }
    (out, files)
}

/// A string in a code fence longer than any fence in it.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}\n", text.trim_end().replace('\r', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_those_within() {
        assert_eq!(fenced("a\n````\nb\n"), "`````\na\n````\nb\n`````\n");
        assert_eq!(fenced("a"), "```\na\n```\n");
    }
}
