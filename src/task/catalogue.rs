//! Which tasks there are: the ones that loragrid ships, and YAML files beside a sweep.

use std::path::Path;

use super::definition::Task;
use super::error::TaskError;
use crate::data::DataRoots;

/// The shipped task files by task name.
const BUILTIN: &[(&str, &str)] = &[
    ("arithmetic_2da", include_str!("builtin/arithmetic_2da.yaml")),
    ("arithmetic_2ds", include_str!("builtin/arithmetic_2ds.yaml")),
    ("arithmetic_4ds", include_str!("builtin/arithmetic_4ds.yaml")),
    ("blimp_causative", include_str!("builtin/blimp_causative.yaml")),
    ("blimp_drop_argument", include_str!("builtin/blimp_drop_argument.yaml")),
    ("two_digit_addition", include_str!("builtin/two_digit_addition.yaml")),
    ("two_digit_subtraction", include_str!("builtin/two_digit_subtraction.yaml")),
];

/// Names of the shipped tasks, sorted.
pub fn builtin_names() -> Vec<&'static str> {
    BUILTIN.iter().map(|(name, _)| *name).collect()
}

/// Finds tasks by name or by the path of their file.
#[derive(Debug)]
pub struct Catalogue<'a> {
    /// Folder that relative task files are looked up in.
    pub folder: &'a Path,
    /// Local data.
    pub roots: &'a DataRoots,
}

impl Catalogue<'_> {
    /// The task that a sweep names: a shipped one, or a `.yaml` file. Errors: unknown, malformed, unsupported.
    pub fn find(&self, name: &str) -> Result<Task, TaskError> {
        if let Some((_, text)) = BUILTIN.iter().find(|(known, _)| *known == name) {
            return Task::parse(&format!("the shipped task {name}"), text, self.roots);
        }
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            let path = self.folder.join(name);
            let file = path.display().to_string();
            let text = std::fs::read_to_string(&path)
                .map_err(|source| TaskError::Io { file: file.clone(), source })?;
            return Task::parse(&file, &text, self.roots);
        }
        let nearest = BUILTIN
            .iter()
            .map(|(known, _)| (strsim::damerau_levenshtein(known, name), *known))
            .min()
            .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
            .map(|(_, known)| known.to_owned());
        Err(TaskError::Unknown { name: name.to_owned(), nearest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_task_whose_documents_are_generated_parses() {
        let roots = DataRoots::default();
        let catalogue = Catalogue { folder: Path::new("."), roots: &roots };
        for name in ["two_digit_subtraction", "two_digit_addition"] {
            assert_eq!(catalogue.find(name).unwrap().name, name);
        }
    }

    #[test]
    fn a_shipped_task_without_its_documents_says_how_to_get_them() {
        let roots = DataRoots::default();
        let error = Catalogue { folder: Path::new("."), roots: &roots }.find("arithmetic_2ds").unwrap_err();
        assert_eq!(
            error.to_string(),
            "task 'arithmetic_2ds': the documents of 'EleutherAI/arithmetic (arithmetic_2ds)' are not here"
        );
        assert!(error.help().contains("LORAGRID_DATA"));
    }

    #[test]
    fn a_mistyped_task_finds_its_neighbour() {
        let roots = DataRoots::default();
        let error = Catalogue { folder: Path::new("."), roots: &roots }.find("blimp_causativ").unwrap_err();
        assert_eq!(error.help(), "did you mean \"blimp_causative\"?");
    }
}
