use super::*;
use crate::task::{Prompting, Request, Subset, build_documents};

fn catalogue<'a>(folder: &'a Path, roots: &'a DataRoots, index: &'a TaskIndex) -> Catalogue<'a> {
    Catalogue { folder, roots, index, profile: PromptProfile::LmEval }
}

fn find(name: &str) -> Result<Task, TaskError> {
    let (roots, index) = (DataRoots::default(), TaskIndex::shipped());
    catalogue(Path::new("."), &roots, &index).find(name)
}

#[test]
fn every_shipped_task_parses_and_says_which_documents_it_needs() {
    let (roots, index) = (DataRoots::default(), TaskIndex::shipped());
    let catalogue = catalogue(Path::new("."), &roots, &index);
    let names = |kind: &'static str| {
        index.names().filter(move |(_, known, _)| *known == kind).map(|(name, ..)| name.to_owned())
    };
    let tasks: Vec<String> = names("task").collect();
    for name in &tasks {
        let task = catalogue.find(name).unwrap();
        assert_eq!(task.name, *name);
        assert_eq!(task.documents.here.is_some(), name.starts_with("two_digit"), "{name}");
    }
    assert_eq!(tasks.len(), 10 + 67 + 57 + 2 + 2 + 2 + 11 + 5);
    let selected: Vec<(String, usize)> =
        names("group").map(|name| (name.clone(), catalogue.select(&[name]).unwrap().tasks.len())).collect();
    let expected = [
        ("blimp", 67),
        ("mmlu", 57),
        ("mmlu_humanities", 13),
        ("mmlu_other", 13),
        ("mmlu_social_sciences", 12),
        ("mmlu_stem", 19),
    ];
    assert_eq!(selected, expected.map(|(name, tasks)| (name.to_owned(), tasks)));
    assert_eq!(find("arithmetic_2ds").unwrap().documents.name(), "EleutherAI/arithmetic (arithmetic_2ds)");
}

#[test]
fn documents_without_a_file_say_how_to_get_them() {
    let error = build_documents(&find("piqa").unwrap(), &Subset::All).unwrap_err();
    assert_eq!(error.to_string(), "task 'piqa': data set 'baber/piqa' is not on this machine");
    assert!(error.help().contains("LORAGRID_DATA"));
}

/// A task's reference requests; none, with a message, if the references or the data are not found.
fn reference(name: &str, shots: u64) -> Option<(String, DataRoots)> {
    let (Ok(reference), Ok(data)) = (std::env::var("LORAGRID_REFERENCE"), std::env::var("LORAGRID_DATA"))
    else {
        eprintln!("skipped: lm_eval_requests: LORAGRID_REFERENCE and LORAGRID_DATA name no folders");
        return None;
    };
    let file = Path::new(&reference).join("lm_eval_requests").join(format!("{name}_{shots}shot.jsonl"));
    match std::fs::read_to_string(&file) {
        Ok(text) => Some((text, DataRoots { local: Some(data.into()), ..DataRoots::default() })),
        Err(_) => {
            eprintln!("skipped: {}: not there", file.display());
            None
        }
    }
}

#[test]
fn the_studys_requests_equal_lm_evals_to_the_letter() {
    let names = [
        "arithmetic_2ds",
        "arithmetic_4ds",
        "blimp_causative",
        "mmlu_global_facts",
        "truthfulqa_mc1",
        "truthfulqa_mc2",
    ];
    for (name, shots) in names.into_iter().flat_map(|name| [(name, 0), (name, 5)]) {
        let Some((text, roots)) = reference(name, shots) else { continue };
        let index = TaskIndex::shipped();
        let task = catalogue(Path::new("."), &roots, &index).find(name).unwrap().with_shots(Some(shots));
        let documents = build_documents(&task, &Subset::First(100)).unwrap();
        assert_eq!(documents.len(), text.lines().count(), "{name}");
        for (document, line) in documents.iter().zip(text.lines()) {
            let expected: serde_json::Value = serde_json::from_str(line).unwrap();
            let conts: Vec<&str> =
                expected["conts"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
            let continuations: Vec<&str> = document.requests.iter().map(Request::scored).collect();
            assert_eq!(continuations, conts, "{name} {}", document.id);
            for request in &document.requests {
                assert_eq!(request.context(), expected["ctx"], "{name} {}", document.id);
            }
        }
    }
}

#[test]
fn a_profile_changes_what_a_shipped_file_says_it_changes() {
    let (roots, index) = (DataRoots::default(), TaskIndex::shipped());
    let (folder, profile) = (Path::new("."), PromptProfile::LitGpt2023);
    let old = Catalogue { folder, roots: &roots, index: &index, profile }.find("blimp_causative").unwrap();
    assert_eq!(old.fields.target_delimiter, "");
    assert_eq!(find("blimp_causative").unwrap().fields.target_delimiter, " ");
}

#[test]
fn a_mistyped_task_finds_its_neighbour() {
    assert_eq!(find("blimp_causativ").unwrap_err().help(), "did you mean \"blimp_causative\"?");
    assert_eq!(
        find("mmlu_stem").unwrap_err().to_string(),
        "'mmlu_stem' is a group of 19 tasks, expected one task"
    );
}

/// A folder with a task `base` and these other files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let base = "task: base\ntag: [both]\ndataset_path: loragrid/arithmetic\ndataset_name: two_digit_addition\ntest_split: test\noutput_type: loglikelihood\ndoc_to_text: context\ndoc_to_target: completion\n";
    std::fs::write(folder.path().join("base.yaml"), base).unwrap();
    std::fs::write(folder.path().join("other.yaml"), "include: base.yaml\ntask: other\n").unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn select(folder: &Path, names: &[&str]) -> Result<Selection, TaskError> {
    let (roots, index) = (DataRoots::default(), TaskIndex::with_folder(Some(folder))?);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    catalogue(Path::new("."), &roots, &index).select(&names)
}

#[test]
fn groups_change_their_tasks_and_hold_groups_of_their_own() {
    let group = "group: all\nnum_fewshot: 2\ntask:\n  - base\n  - {task: other, task_alias: renamed, num_fewshot: 1}\n  - group: inner\n    task: [{task: written, dataset_path: loragrid/arithmetic, dataset_name: two_digit_subtraction, test_split: test, output_type: loglikelihood, doc_to_text: context, doc_to_target: completion}]\naggregate_metric_list: {metric: acc, weight_by_size: false}\n";
    let folder = folder(&[("all.yaml", group)]);
    let selection = select(folder.path(), &["all"]).unwrap();
    let shown: Vec<(&str, &str, u64)> = selection
        .tasks
        .iter()
        .map(|task| (task.name.as_str(), task.alias.as_str(), task.shots.count))
        .collect();
    let written = "all::inner::written";
    assert_eq!(shown, [("base", "base", 2), ("other", "renamed", 1), (written, written, 2)]);
    let [Member::Group(all)] = selection.roots.as_slice() else { panic!("one group") };
    assert_eq!(
        all.groups().iter().map(|group| group.name.as_str()).collect::<Vec<_>>(),
        ["all", "all::inner"]
    );
    assert_eq!((all.tasks(), all.metrics[0].weight_by_size), (vec![0, 1, 2], false));
}

#[test]
fn tags_and_patterns_are_their_tasks_and_no_task_is_asked_for_twice() {
    let folder = folder(&[]);
    assert_eq!(select(folder.path(), &["both"]).unwrap().roots, [Member::Task(0), Member::Task(1)]);
    assert_eq!(select(folder.path(), &["ba?e", "other"]).unwrap().tasks.len(), 2);
    let twice = select(folder.path(), &["base", "both"]).unwrap_err();
    assert_eq!(twice.to_string(), "task 'base' is listed twice");
}

#[test]
fn a_group_in_itself_is_an_error() {
    let folder = folder(&[("loop.yaml", "group: round\ntask: [round]\n")]);
    let error = select(folder.path(), &["round"]).unwrap_err().to_string();
    assert!(error.contains("the group 'round' is in itself"), "{error}");
}

#[test]
fn a_system_instruction_stands_before_the_description() {
    let task = find("two_digit_addition").unwrap();
    let prompting = Prompting { system: Some("Count.".to_owned()), ..Prompting::default() };
    let documents = build_documents(&task.with_prompting(&prompting), &Subset::First(1)).unwrap();
    assert!(documents[0].requests[0].context().starts_with("Count."), "{:?}", documents[0].requests[0]);
}
