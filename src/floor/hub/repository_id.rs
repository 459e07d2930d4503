//! The name of a model or a data set on a hub.

use std::fmt;

/// The kind of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryKind {
    /// A model.
    Model,
    /// A data set.
    DataSet,
}

/// `organization/name`, or a name alone, with a revision: a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryId {
    kind: RepositoryKind,
    name: String,
    revision: String,
}

impl RepositoryId {
    /// Parses a model's `ID` or `ID@REVISION`; `None` for ids that no hub accepts, which could be paths.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        Self::new(name, revision)
    }

    /// A model at a revision; `None` as above.
    pub fn new(name: &str, revision: &str) -> Option<Self> {
        Self::of(RepositoryKind::Model, name, revision)
    }

    /// A data set at a revision; `None` as above.
    pub fn data_set(name: &str, revision: &str) -> Option<Self> {
        Self::of(RepositoryKind::DataSet, name, revision)
    }

    fn of(kind: RepositoryKind, name: &str, revision: &str) -> Option<Self> {
        let word = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty()
                && part.len() <= 96
                && part.chars().all(allowed)
                && !part.starts_with('.')
                && !part.contains("..")
        };
        let parts: Vec<&str> = name.split('/').collect();
        let known = parts.len() <= 2 && parts.iter().all(|part| word(part)) && !name.ends_with(".gguf");
        // Revisions may contain slashes, such as `refs/pr/1`.
        let revised = !revision.is_empty() && revision.split('/').all(word);
        (known && revised).then(|| Self { kind, name: name.to_owned(), revision: revision.to_owned() })
    }

    /// Its kind.
    pub fn kind(&self) -> RepositoryKind {
        self.kind
    }

    /// The id without its revision.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The revision.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The cache's folder name for it.
    pub(super) fn folder(&self) -> String {
        let kind = match self.kind {
            RepositoryKind::Model => "models",
            RepositoryKind::DataSet => "datasets",
        };
        format!("{kind}--{}", self.name.replace('/', "--"))
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => f.write_str(&self.name),
            revision => write!(f, "{}@{revision}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let id = RepositoryId::parse("meta-llama/Llama-2-7b-hf@v1.0").unwrap();
        assert_eq!((id.name(), id.revision()), ("meta-llama/Llama-2-7b-hf", "v1.0"));
        assert_eq!(RepositoryId::parse("gpt2").unwrap().to_string(), "gpt2");
        for path in ["../model", "/tmp/model", "a/b/c", "model.gguf", "", "a/..", "a@../b", "a b/c", "a/b@"] {
            assert_eq!(RepositoryId::parse(path), None, "{path}");
        }
    }
}
