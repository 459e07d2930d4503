//! A self-contained HTML page: no network, no other file.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use crate::report::chart::{CHART_STYLE, chart_svg};
use crate::report::document::{Block, Document};
use crate::report::table::{Align, Cell, Mark, Table};

/// The style of every page.
const STYLE: &str = include_str!("page.css");
/// Sorting. It reads the cells' content, so a page without it still shows everything.
const SCRIPT: &str = include_str!("sort.js");
/// The style and the script of pages that show parts of documents, for whoever makes such pages.
pub fn page_parts() -> (String, &'static str) {
    (format!("{STYLE}{CHART_STYLE}"), SCRIPT)
}

/// Content security policy: nothing is loaded, and only the page's own script runs, identified by its hash.
fn policy(script: &str) -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(script));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
}

/// Escapes a string for HTML.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_escaped(&mut out, text);
    out
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // Part of CRLF line ends.
            '\r' => {}
            // Also the characters that change the writing direction.
            c if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
}

/// A table that is sorted by clicking its headings.
pub fn table_html(caption: &str, table: &Table) -> String {
    let caption = escape_html(caption);
    let mut out = format!(
        "<div class=\"wide\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table class=\"sorts\"><caption><span>{caption}</span></caption><thead><tr>"
    );
    for column in &table.columns {
        out.push_str(if column.align == Align::Right {
            "<th class=\"n\" scope=\"col\""
        } else {
            "<th scope=\"col\""
        });
        out.push_str("><button type=\"button\">");
        push_escaped(&mut out, &column.heading());
        out.push_str("</button></th>");
    }
    out.push_str("</tr></thead><tbody>");
    for row in &table.rows {
        out.push_str("<tr>");
        for (at, (column, cell)) in table.columns.iter().zip(row).enumerate() {
            let (open, close) = if at == 0 { ("<th scope=\"row\"", "</th>") } else { ("<td", "</td>") };
            out.push_str(open);
            let shade = match cell {
                Cell::Shaded(_, shade) => format!(" h{shade}"),
                _ => String::new(),
            };
            out.push_str(&match column.align {
                Align::Right => format!(" class=\"n{shade}\">"),
                Align::Left => ">".to_owned(),
            });
            push_cell(&mut out, cell);
            out.push_str(close);
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn push_cell(out: &mut String, cell: &Cell) {
    match cell {
        Cell::Marked(inner, Mark::Best) => {
            out.push_str("<strong>");
            push_escaped(out, &inner.show());
            out.push_str("</strong> <span class=\"mark\" title=\"best\">*</span>");
        }
        Cell::Marked(inner, Mark::Tied) => {
            push_escaped(out, &inner.show());
            out.push_str(" <span class=\"mark\" title=\"statistically tied with the best\">≈</span>");
        }
        Cell::Shaded(inner, _) => push_cell(out, inner),
        Cell::Linked(inner, address) => {
            out.push_str("<a href=\"");
            push_escaped(out, address);
            out.push_str("\">");
            push_cell(out, inner);
            out.push_str("</a>");
        }
        other => push_escaped(out, &other.show()),
    }
}

/// A document as a page.
pub fn document_html(document: &Document) -> String {
    let title = escape_html(&document.title);
    let script = format!("\n{SCRIPT}");
    let policy = policy(&script);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<meta \
         http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{CHART_STYLE}</style>\n</head>\n<body>\n<header><h1>{title}</h1><p>{}</p></header>\n",
        escape_html(&document.lead)
    );
    let beginnings = document.beginnings();
    push_navigation(&mut out, document, &beginnings);
    out.push_str("<main>\n");
    let mut charts = 0;
    for (at, (section, beginning)) in document.sections.iter().zip(&beginnings).enumerate() {
        if let Some(part) = beginning {
            out.push_str(&format!("<h2 class=\"part\" id=\"p{at}\">{}</h2>\n", escape_html(part)));
        }
        let level = if section.part.is_some() { "h3" } else { "h2" };
        let title = escape_html(&section.title);
        out.push_str(&format!("<section id=\"s{at}\"><{level}>{title}</{level}>\n"));
        push_blocks(&mut out, &section.blocks, "chart", &mut charts);
        out.push_str("</section>\n");
    }
    out.push_str(&format!("</main>\n<script>{script}</script>\n</body>\n</html>\n"));
    out
}

/// Blocks as a part of a page; `id` begins the ids of its charts.
pub fn blocks_html(blocks: &[Block], id: &str) -> String {
    let mut out = String::new();
    push_blocks(&mut out, blocks, &format!("{id}-chart"), &mut 0);
    out
}

fn push_blocks(out: &mut String, blocks: &[Block], id: &str, charts: &mut usize) {
    // Adjacent charts share the page's width.
    for blocks in blocks.chunk_by(|a, b| is_chart(a) && is_chart(b)) {
        let is_grid = blocks.len() > 1;
        out.push_str(if is_grid { "<div class=\"charts\">\n" } else { "" });
        blocks.iter().for_each(|block| push_block(out, block, id, charts));
        out.push_str(if is_grid { "</div>\n" } else { "" });
    }
}

/// Links to the sections, or, in a report with parts, to each part.
fn push_navigation(out: &mut String, document: &Document, beginnings: &[Option<&str>]) {
    out.push_str("<nav aria-label=\"Sections\"><ul>");
    for (at, (section, beginning)) in document.sections.iter().zip(beginnings).enumerate() {
        let (letter, title) = match (beginning, &section.part) {
            (Some(part), _) => ('p', *part),
            (None, None) => ('s', section.title.as_str()),
            (None, Some(_)) => continue,
        };
        out.push_str(&format!("<li><a href=\"#{letter}{at}\">{}</a></li>", escape_html(title)));
    }
    out.push_str("</ul></nav>\n");
}

fn is_chart(block: &Block) -> bool {
    matches!(block, Block::Chart(_))
}

fn push_block(out: &mut String, block: &Block, id: &str, charts: &mut usize) {
    match block {
        Block::Text(text) => out.push_str(&format!("<p>{}</p>\n", escape_html(text))),
        Block::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>", escape_html(item))).collect();
            out.push_str(&format!("<ul>{items}</ul>\n"));
        }
        Block::Table(caption, table) => out.push_str(&table_html(caption, table)),
        Block::Chart(chart) => {
            *charts += 1;
            let drawn = chart_svg(chart, &format!("{id}{charts}"));
            let title = escape_html(&chart.title);
            out.push_str(&format!(
                "<figure><figcaption>{title}</figcaption><div class=\"plot\" role=\"region\" aria-label=\"{title}\" \
                 tabindex=\"0\">{drawn}</div></figure>\n"
            ));
        }
        Block::Code(caption, text) => {
            let (caption, text) = (escape_html(caption), escape_html(text));
            out.push_str(&format!(
                "<details><summary>{caption}</summary><pre tabindex=\"0\">{text}</pre></details>\n"
            ));
        }
    }
}
