//! LaTeX with booktabs.

use super::terminal::fitting;
use crate::report::chart::chart_pgf;
use crate::report::document::{Block, Document};
use crate::report::table::{Align, Cell, Mark, Table};

/// Characters of small print per line of a landscape page.
const WIDTH: usize = 150;
/// Tables with more rows are split over several pages.
const LONG: usize = 32;
/// Further rows are not printed.
const MOST: usize = 200;

/// Escapes a string for LaTeX.
pub(in crate::report) fn escape_latex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        match c {
            // Two hyphens would become a dash.
            '-' if before == '-' => out.push_str("{}-"),
            '`' => out.push_str("\\textasciigrave{}"),
            '\'' => out.push_str("\\textquotesingle{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '"' => out.push_str("\\symbol{34}"),
            '±' => out.push_str("$\\pm$"),
            '×' => out.push_str("$\\times$"),
            '−' => out.push_str("$-$"),
            '≈' => out.push_str("$\\approx$"),
            '…' => out.push_str("\\dots{}"),
            '–' => out.push_str("--"),
            'α' => out.push_str("$\\alpha$"),
            '·' => out.push_str("$\\cdot$"),
            c if c.is_control() => out.push(' '),
            // Characters of Latin type 1 fonts; others stop pdflatex.
            c if c.is_ascii() || ('\u{a1}'..='\u{ff}').contains(&c) => out.push(c),
            c => out.push_str(&format!("\\texttt{{[U+{:04X}]}}", c as u32)),
        }
        before = c;
    }
    out
}

/// A table in a `tabular` with booktabs' rules; needs `\usepackage{booktabs}`.
pub fn table_latex(table: &Table) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let (head, rows) = lines(table, &all);
    format!(
        "\\begin{{tabular}}{{{}}}\n\\toprule\n{head}\\midrule\n{}\\bottomrule\n\\end{{tabular}}\n",
        alignment(table, &all),
        rows.concat()
    )
}

/// Longer strings are broken into lines.
const BROKEN: usize = 48;

fn alignment(table: &Table, kept: &[usize]) -> String {
    let is_long = |at: usize| table.rows.iter().any(|row| row[at].show().chars().count() > BROKEN);
    let long = kept.iter().filter(|&&at| is_long(at)).count();
    let letter = |&at: &usize| match table.columns[at].align {
        Align::Right => "r".to_owned(),
        Align::Left if is_long(at) => format!("p{{{:.2}\\linewidth}}", 0.6 / long as f64),
        Align::Left => "l".to_owned(),
    };
    kept.iter().map(letter).collect()
}

fn lines(table: &Table, kept: &[usize]) -> (String, Vec<String>) {
    let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
    let head = line(kept.iter().map(|&at| escape_latex(&table.columns[at].heading())).collect());
    // After the end of a row, LaTeX reads a bracket as a distance and a star as a modifier.
    let first = |text: String| if text.starts_with(['[', '*']) { format!("{{}}{text}") } else { text };
    let cells = |row: &Vec<Cell>| {
        kept.iter()
            .enumerate()
            .map(|(place, &at)| {
                let text = cell(&row[at]);
                if place == 0 { first(text) } else { text }
            })
            .collect()
    };
    let rows = table.rows.iter().map(|row| line(cells(row)));
    (head, rows.collect())
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Marked(inner, Mark::Best) => format!("\\textbf{{{}}}", escape_latex(&inner.show())),
        other => escape_latex(&other.show()),
    }
}

/// A document for pdflatex, with landscape pages.
pub fn document_latex(document: &Document) -> String {
    let mut out = format!(
        "\\documentclass[a4paper,landscape,10pt]{{article}}\n\\usepackage[T1]{{fontenc}}\n\\usepackage[utf8]{{inputenc}}\n\
         \\usepackage{{textcomp}}\n\\usepackage[margin=1.6cm]{{geometry}}\n\\usepackage{{booktabs,longtable}}\n\
         \\usepackage{{pgfplots}}\n\\pgfplotsset{{compat=1.16}}\n\\usepackage{{fancyvrb}}\n\\setlength{{\\parindent}}{{0pt}}\n\
         \\setlength{{\\parskip}}{{6pt}}\n\\begin{{document}}\n\\section*{{{}}}\n{}\n",
        escape_latex(&document.title),
        escape_latex(&document.lead)
    );
    for (section, beginning) in document.sections.iter().zip(document.beginnings()) {
        if let Some(part) = beginning {
            out.push_str(&format!("\n\\section*{{{}}}\n", escape_latex(part)));
        }
        out.push_str(&format!("\n\\subsection*{{{}}}\n", escape_latex(&section.title)));
        for block in &section.blocks {
            out.push_str(&match block {
                Block::Text(text) => format!("{}\n\n", escape_latex(text)),
                Block::List(items) => {
                    let items: String =
                        items.iter().map(|item| format!("\\item {}\n", escape_latex(item))).collect();
                    format!("\\begin{{itemize}}\n{items}\\end{{itemize}}\n")
                }
                Block::Table(caption, table) => page_table(caption, table),
                // In one box, so that no page break separates a title from its chart.
                Block::Chart(chart) => format!(
                    "\n\\begin{{minipage}}{{0.62\\linewidth}}\n\\textit{{{}}}\\par\n{}\\end{{minipage}}\n\n",
                    escape_latex(&chart.title),
                    chart_pgf(chart)
                ),
                Block::Code(caption, text) => format!(
                    "\\textit{{{}}}\n\\begin{{Verbatim}}[fontsize=\\footnotesize]\n{}\n\\end{{Verbatim}}\n",
                    escape_latex(caption),
                    verbatim(text)
                ),
            });
        }
    }
    out.push_str("\\end{document}\n");
    out
}

/// A table of a document: the columns and rows that fit, and a note on what was left out.
fn page_table(caption: &str, table: &Table) -> String {
    let kept = fitting(table, WIDTH);
    let (head, mut rows) = lines(table, &kept);
    let mut notes = Vec::new();
    if kept.len() < table.columns.len() {
        let left: Vec<&str> = (0..table.columns.len())
            .filter(|at| !kept.contains(at))
            .map(|at| table.columns[at].title.as_str())
            .collect();
        notes.push(format!("not shown: {}", left.join(", ")));
    }
    if rows.len() > MOST {
        notes.push(format!("{} more rows", rows.len() - MOST));
        rows.truncate(MOST);
    }
    let columns = alignment(table, &kept);
    let body = if rows.len() > LONG {
        format!(
            "\\begin{{longtable}}{{{columns}}}\n\\toprule\n{head}\\midrule\n\\endhead\n{}\\bottomrule\n\\end{{longtable}}\n",
            rows.concat()
        )
    } else {
        format!(
            "\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\\midrule\n{}\\bottomrule\n\\end{{tabular}}\n",
            rows.concat()
        )
    };
    let notes =
        if notes.is_empty() { String::new() } else { format!("{}\\par\n", escape_latex(&notes.join("; "))) };
    format!("{{\\footnotesize\n\\textit{{{}}}\\par\\nopagebreak\n{body}\n{notes}}}\n", escape_latex(caption))
}

/// A string that is safe inside `Verbatim` and in the font.
fn verbatim(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' => c,
        '×' | '·' => '*',
        '−' | '–' => '-',
        c if c.is_ascii() && !c.is_control() => c,
        _ => '?',
    };
    text.trim_end()
        .replace('\r', "")
        .replace('\t', "    ")
        .chars()
        .map(plain)
        .collect::<String>()
        .replace("\\end{Verbatim}", "\\end {Verbatim}")
}
