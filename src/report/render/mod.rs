//! Renderers know only syntax: a table or a document in one output format.

mod html;
mod json;
mod latex;
mod markdown;
mod terminal;

pub use html::{blocks_html, document_html, escape_html, page_parts, table_html};
pub use json::render_json_rows;
pub(super) use latex::escape_latex;
pub use latex::{document_latex, table_latex};
pub use markdown::{ChartFile, document_markdown, escape_markdown, table_markdown};
pub(super) use terminal::fitting;
pub use terminal::{plain, render_terminal};
