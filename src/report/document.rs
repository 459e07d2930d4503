//! A report before any syntax.

use super::chart::Chart;
use super::table::Table;

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// What it is about, in a sentence or two.
    pub lead: String,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// A section of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The part of the report that it is in, where the report has parts; sections of a part follow each other.
    pub part: Option<String>,
    /// Its heading.
    pub title: String,
    /// What is in it.
    pub blocks: Vec<Block>,
}

/// Something in a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Sentences that stand beside each other.
    List(Vec<String>),
    /// A table with what it shows.
    Table(String, Table),
    /// A chart.
    Chart(Chart),
    /// A text as it is in a file, with what it is.
    Code(String, String),
}

impl Document {
    /// For each section the part that begins with it, if one does.
    pub fn beginnings(&self) -> Vec<Option<&str>> {
        let before = std::iter::once(None).chain(self.sections.iter().map(|section| section.part.as_deref()));
        let parts = self.sections.iter().map(|section| section.part.as_deref());
        before.zip(parts).map(|(before, part)| part.filter(|_| part != before)).collect()
    }
}

impl Section {
    /// A section; none where it would be empty.
    pub fn of(title: &str, blocks: Vec<Block>) -> Option<Self> {
        (!blocks.is_empty()).then(|| Self { part: None, title: title.to_owned(), blocks })
    }
}
