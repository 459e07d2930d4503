//! The content of a sweep file, and locations in it.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file's content with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    path: PathBuf,
    text: String,
}

impl SourceText {
    /// Content read from `path`; a byte-order mark is dropped.
    pub fn new(path: &Path, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        Self { path: path.to_owned(), text }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same content with these bytes masked; locations do not change.
    pub(super) fn without(&self, secrets: &[Range<usize>]) -> Self {
        let mut bytes = self.text.clone().into_bytes();
        for secret in secrets {
            bytes[secret.clone()].fill(b'*');
        }
        let text = String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(self.text.len()));
        Self { path: self.path.clone(), text }
    }

    /// Line and column of a byte, both counted from 1, columns in characters.
    pub fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = 1 + before.matches('\n').count();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (line, 1 + before[start..].chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_the_mark_is_dropped() {
        let source = SourceText::new(Path::new("a.toml"), "\u{feff}ä = 1\nbü = 2\n");
        assert_eq!(source.place(0), (1, 1));
        let at = source.text().find('2').unwrap();
        assert_eq!(source.place(at), (2, 6));
    }
}
