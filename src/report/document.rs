//! A report, independent of the output format.

use super::chart::Chart;
use super::table::Table;

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// A summary in one or two sentences.
    pub lead: String,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// A section of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The part of the report that it belongs to, if the report has parts; sections of a part are adjacent.
    pub part: Option<String>,
    /// Its heading.
    pub title: String,
    /// Its content.
    pub blocks: Vec<Block>,
}

/// A block of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A list of sentences.
    List(Vec<String>),
    /// A table with its caption.
    Table(String, Table),
    /// A chart.
    Chart(Chart),
    /// The content of a file, with its caption.
    Code(String, String),
}

impl Document {
    /// For each section, the part that starts with it, if any.
    pub fn beginnings(&self) -> Vec<Option<&str>> {
        let before = std::iter::once(None).chain(self.sections.iter().map(|section| section.part.as_deref()));
        let parts = self.sections.iter().map(|section| section.part.as_deref());
        before.zip(parts).map(|(before, part)| part.filter(|_| part != before)).collect()
    }
}

impl Section {
    /// A section; none if it would be empty.
    pub fn of(title: &str, blocks: Vec<Block>) -> Option<Self> {
        (!blocks.is_empty()).then(|| Self { part: None, title: title.to_owned(), blocks })
    }
}
