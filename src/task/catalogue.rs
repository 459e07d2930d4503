//! Which tasks there are: the ones that loragrid ships, and YAML files beside a sweep.

use std::path::Path;

use super::definition::Task;
use super::error::TaskError;
use super::folder::TaskFolder;
use super::function::Modules;
use super::yaml::{Node, load};
use crate::data::DataRoots;

/// The shipped task files by task name.
const BUILTIN: &[(&str, &str)] = &[
    ("arithmetic_2da", include_str!("builtin/arithmetic_2da.yaml")),
    ("arithmetic_2ds", include_str!("builtin/arithmetic_2ds.yaml")),
    ("arithmetic_4ds", include_str!("builtin/arithmetic_4ds.yaml")),
    ("blimp_causative", include_str!("builtin/blimp_causative.yaml")),
    ("blimp_drop_argument", include_str!("builtin/blimp_drop_argument.yaml")),
    ("mmlu_global_facts", include_str!("builtin/mmlu_global_facts.yaml")),
    ("truthfulqa_mc1", include_str!("builtin/truthfulqa_mc1.yaml")),
    ("truthfulqa_mc2", include_str!("builtin/truthfulqa_mc2.yaml")),
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
    /// A folder of task files, which come before those that are shipped.
    pub tasks: Option<&'a TaskFolder>,
}

impl Catalogue<'_> {
    /// The task that a sweep names: a shipped one, or a `.yaml` file. Errors: unknown, malformed, unsupported.
    pub fn find(&self, name: &str) -> Result<Task, TaskError> {
        if let Some(path) = self.tasks.and_then(|tasks| tasks.find(name)) {
            return self.file(path);
        }
        if let Some((_, text)) = BUILTIN.iter().find(|(known, _)| *known == name) {
            let file = format!("the shipped task {name}");
            let node = Node::parse(text, Path::new(""));
            let node = node.map_err(|reason| TaskError::Malformed { file: file.clone(), reason })?;
            return Task::build(&file, node, self.folder, self.roots, &Modules::default());
        }
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            return self.file(&self.folder.join(name));
        }
        let nearest = BUILTIN
            .iter()
            .map(|(known, _)| (strsim::damerau_levenshtein(known, name), *known))
            .min()
            .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
            .map(|(_, known)| known.to_owned());
        Err(TaskError::Unknown { name: name.to_owned(), nearest })
    }

    fn file(&self, path: &Path) -> Result<Task, TaskError> {
        let node = load(path, &|path: &Path| std::fs::read_to_string(path))?;
        let file = path.display().to_string();
        Task::build(&file, node, self.folder, self.roots, &Modules::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_task_parses_and_says_which_documents_it_needs() {
        let roots = DataRoots::default();
        let catalogue = Catalogue { folder: Path::new("."), roots: &roots, tasks: None };
        for name in builtin_names() {
            let task = catalogue.find(name).unwrap();
            assert_eq!(task.name, name);
            assert_eq!(task.documents.is_some(), name.starts_with("two_digit"), "{name}");
        }
        assert_eq!(
            catalogue.find("arithmetic_2ds").unwrap().documents_name,
            "EleutherAI/arithmetic (arithmetic_2ds)"
        );
    }

    #[test]
    fn documents_without_a_file_say_how_to_get_them() {
        let roots = DataRoots::default();
        let task =
            Catalogue { folder: Path::new("."), roots: &roots, tasks: None }.find("arithmetic_2ds").unwrap();
        let error = crate::task::build_documents(&task, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "task 'arithmetic_2ds': the rows of 'EleutherAI/arithmetic (arithmetic_2ds)' are not here"
        );
        assert!(error.help().contains("LORAGRID_DATA"));
    }

    #[test]
    fn the_studys_requests_equal_lm_evals_to_the_letter() {
        let (Ok(reference), Ok(data)) = (std::env::var("LORAGRID_REFERENCE"), std::env::var("LORAGRID_DATA"))
        else {
            eprintln!("skipped: lm_eval_requests: LORAGRID_REFERENCE and LORAGRID_DATA name no folders");
            return;
        };
        let roots = DataRoots { local: Some(data.into()), ..DataRoots::default() };
        let catalogue = Catalogue { folder: Path::new("."), roots: &roots, tasks: None };
        let names = [
            "arithmetic_2ds",
            "arithmetic_4ds",
            "blimp_causative",
            "mmlu_global_facts",
            "truthfulqa_mc1",
            "truthfulqa_mc2",
        ];
        for (name, shots) in names.into_iter().flat_map(|name| [(name, 0), (name, 5)]) {
            let file =
                Path::new(&reference).join("lm_eval_requests").join(format!("{name}_{shots}shot.jsonl"));
            let Ok(text) = std::fs::read_to_string(&file) else {
                eprintln!("skipped: {}: not there", file.display());
                continue;
            };
            let task = catalogue.find(name).unwrap().with_shots(Some(shots));
            let documents = crate::task::build_documents(&task, Some(100)).unwrap();
            assert_eq!(documents.len(), text.lines().count(), "{name}");
            for (document, line) in documents.iter().zip(text.lines()) {
                let expected: serde_json::Value = serde_json::from_str(line).unwrap();
                let conts: Vec<&str> =
                    expected["conts"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
                let own: Vec<&str> = document.requests.iter().map(|r| r.continuation.as_str()).collect();
                assert_eq!(own, conts, "{name} {}", document.id);
                for request in &document.requests {
                    assert_eq!(request.context, expected["ctx"], "{name} {}", document.id);
                }
            }
        }
    }

    #[test]
    fn a_mistyped_task_finds_its_neighbour() {
        let roots = DataRoots::default();
        let error = Catalogue { folder: Path::new("."), roots: &roots, tasks: None }
            .find("blimp_causativ")
            .unwrap_err();
        assert_eq!(error.help(), "did you mean \"blimp_causative\"?");
    }
}
