//! `eval`, `task` and `import` with the fake engine: tables, files, resuming after a crash, errors in tasks.

use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};

use crate::lab::wait_until;
use crate::support::{Scratch, stderr, stdout, sweep, tiny_model};

/// A folder with the tiny model and tasks on its own rows.
struct Lab(Scratch);

const CHOICE: &str = "output_type: multiple_choice\ndoc_to_text: 'Q: {{question}}'\ndoc_to_target: gold\ndoc_to_choice: answers\n";

impl Lab {
    fn new() -> Self {
        let scratch = Scratch::new();
        tiny_model(&scratch);
        std::fs::create_dir(scratch.path().join("tasks")).unwrap();
        let row =
            |n: usize| json!({ "question": format!("{n}?"), "answers": ["a", "bc", "d"], "gold": n % 3 });
        let rows: Vec<String> = (0..100).map(|n| row(n).to_string()).collect();
        scratch.write("tasks/rows.jsonl", rows.join("\n"));
        let lab = Self(scratch);
        lab.task("one", CHOICE);
        lab
    }

    /// A task on the rows.
    fn task(&self, name: &str, body: &str) {
        let head = format!(
            "task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: rows.jsonl}}}}\ntest_split: test\n"
        );
        self.0.write(&format!("tasks/{name}.yaml"), format!("{head}{body}metadata: {{version: 1.0}}\n"));
    }

    fn eval(&self, tasks: &str, more: &[&str]) -> Output {
        self.command(tasks, more).output().unwrap()
    }

    fn command(&self, tasks: &str, more: &[&str]) -> std::process::Command {
        let engine = env!("CARGO_BIN_EXE_fake-engine");
        let common = [
            "eval",
            "model",
            "--tasks",
            tasks,
            "--include-path",
            "tasks",
            "--dtype",
            "fp32",
            "--engine",
            engine,
        ];
        self.0.command(&[&common, more].concat())
    }

    fn json(&self, tasks: &str, more: &[&str]) -> Json {
        let output = self.eval(tasks, &[more, &["--json"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Json>(&output.stdout).unwrap()["evaluations"][0].clone()
    }

    /// The error of a task, without the scratch folder's name.
    fn refused(&self, tasks: &str, more: &[&str]) -> String {
        let output = self.eval(tasks, more);
        assert!(!output.status.success(), "{}", stdout(&output));
        stderr(&output).replace(&self.0.path().display().to_string(), "FOLDER")
    }
}

/// The table without the seconds.
fn table(output: &Output) -> String {
    let text = stdout(output);
    let (heading, rest) = text.split_once('\n').unwrap();
    format!("{}\n{rest}", heading.rsplit_once(", ").unwrap().0)
}

#[test]
fn an_evaluation_prints_lm_evals_tables_and_a_second_one_scores_nothing_again() {
    let lab = Lab::new();
    lab.task(
        "other",
        &format!(
            "task_alias: the other\nnum_fewshot: 1\n{CHOICE}metric_list: [{{metric: acc}}, {{metric: mcc}}]\n"
        ),
    );
    let group =
        "group: both\ntask: [one, other]\naggregate_metric_list: [{metric: acc}]\nmetadata: {version: 2}\n";
    lab.0.write("tasks/both.yaml", group);
    let first = lab.eval("both", &["--limit", "30"]);
    assert!(first.status.success(), "{}", stderr(&first));
    insta::assert_snapshot!(table(&first));
    let second = lab.eval("both", &["--limit", "30"]);
    assert_eq!(table(&second), table(&first));
    assert!(stderr(&second).contains("60 of 60 documents are already scored"), "{}", stderr(&second));
    let again = lab.eval("both", &["--limit", "30", "--again"]);
    assert_eq!(table(&again), table(&first));
    assert!(!stderr(&again).contains("already scored"), "{}", stderr(&again));
}

#[test]
fn an_evaluation_whose_engine_crashes_goes_on_after_the_documents_that_it_scored() {
    let lab = Lab::new();
    let fault = format!("die@document={}", lab.0.path().join("fault").display());
    let output = lab.command("one", &[]).env("LORAGRID_FAKE", fault).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("requeued: the engine was killed by SIGABRT"), "{}", stderr(&output));
    assert_eq!(table(&output), table(&Lab::new().eval("one", &[])));
}

#[test]
fn an_evaluation_that_is_stopped_goes_on_after_the_documents_that_it_scored() {
    let lab = Lab::new();
    let fault = lab.0.path().join("fault");
    let mut command = lab.command("one", &[]);
    command.env("LORAGRID_FAKE", format!("hang@document={}", fault.display()));
    let mut first = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the engine hangs", || fault.exists());
    kill(Pid::from_raw(first.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(130));
    let second = lab.eval("one", &[]);
    assert!(second.status.success(), "{}", stderr(&second));
    assert!(stderr(&second).contains("70 of 100 documents are already scored"), "{}", stderr(&second));
    assert_eq!(table(&second), table(&Lab::new().eval("one", &[])));
}

#[test]
fn a_part_or_single_documents_are_scored() {
    let lab = Lab::new();
    let counts = |more: &[&str]| lab.json("one", more)["n-samples"]["one"].clone();
    assert_eq!(counts(&["--limit", "0.125"]), json!({ "original": 100, "effective": 13 }));
    assert_eq!(counts(&["--limit", "1"]), json!({ "original": 100, "effective": 1 }));
    assert_eq!(counts(&["--samples", "{\"one\": [7, 3]}"]), json!({ "original": 100, "effective": 2 }));
    let out = lab.0.path().join("out");
    lab.json("one", &["--samples", "{\"one\": [7, 3]}", "--output", out.to_str().unwrap()]);
    let samples = std::fs::read_dir(out.join("model")).unwrap().map(|entry| entry.unwrap().path());
    let samples = samples.into_iter().find(|path| path.extension().unwrap() == "jsonl").unwrap();
    let text = std::fs::read_to_string(samples).unwrap();
    let ids: Vec<Json> =
        text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["doc_id"].clone()).collect();
    assert_eq!(ids, [json!(3), json!(7)]);
}

#[test]
fn what_is_wrong_with_a_task_says_its_file_the_document_and_the_field() {
    let lab = Lab::new();
    lab.0.write("tasks/broken.yaml", "task: broken\n  output_type: [\n");
    lab.task("column", &CHOICE.replace("{{question}}", "{{qestion}}"));
    lab.task("template", &CHOICE.replace("{{question}}", "{{question"));
    lab.task("gold", &CHOICE.replace("gold\n", "question\n"));
    lab.task(
        "long",
        "output_type: loglikelihood\ndoc_to_text: question\ndoc_to_target: \"{{ 'x' * 300 }}\"\n",
    );
    lab.task("longer", "output_type: loglikelihood\ndoc_to_text: question\ndoc_to_target: \"{% for n in range(300) %}x{% endfor %}\"\n");
    lab.task("code", &CHOICE.replace("doc_to_target: gold", "doc_to_target: !function utils.gold"));
    lab.task("says", "output_type: generate_until\ndoc_to_text: question\ndoc_to_target: gold\ngeneration_kwargs: {num_beams: 4}\n");
    lab.task("gone", &CHOICE.replace("gold\n", "gold\ndataset_kwargs: {data_files: {test: gone.jsonl}}\n"));
    lab.task("many", &format!("num_fewshot: 101\n{CHOICE}"));
    lab.0.write("tasks/typo.yaml", "task: typo\noutput_typ: multiple_choice\n");
    let mut report = String::new();
    for task in [
        "tasks/broken.yaml",
        "broken",
        "column",
        "template",
        "gold",
        "longer",
        "code",
        "says",
        "gone",
        "many",
        "typo",
        "on",
    ] {
        report += &format!("--- {task}\n{}", lab.refused(task, &[]));
    }
    for samples in ["{\"one\": [100]}", "{\"two\": [1]}", "{\"one\": []}", "{"] {
        report += &format!("--- {samples}\n{}", lab.refused("one", &["--samples", samples]));
    }
    report += &format!("--- twice\n{}", lab.refused("one,o?e", &[]));
    report += &format!("--- no chat template\n{}", lab.refused("one", &["--apply-chat-template"]));
    insta::assert_snapshot!(report);
}

#[test]
fn prompts_that_are_cut_to_what_the_model_reads_are_told() {
    let lab = Lab::new();
    let output = lab.eval("one", &["--limit", "4", "--num-fewshot", "50"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("12 of 12 prompts"), "{}", stderr(&output));
}

#[test]
fn a_task_is_shown_by_its_first_prompt() {
    let lab = Lab::new();
    let shown = lab.0.run(&[
        "task",
        "show",
        "one",
        "--include-path",
        "tasks",
        "--num-fewshot",
        "1",
        "--document",
        "4",
    ]);
    insta::assert_snapshot!(stdout(&shown));
    let beyond = lab.0.run(&["task", "show", "one", "--include-path", "tasks", "--document", "100"]);
    assert_eq!(beyond.status.code(), Some(loragrid::cli::ExitCode::Usage as i32));
    let listed = lab.0.json(&["task", "list", "--include-path", "tasks", "--json"]);
    let names = listed["tasks"].as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap());
    let names: Vec<&str> = names.collect();
    assert!(["one", "mmlu", "arithmetic", "hellaswag"].iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
fn results_of_lm_eval_stand_in_the_leaderboard_of_a_sweep() {
    let lab = Lab::new();
    let engine = env!("CARGO_BIN_EXE_fake-engine");
    lab.0.write("sweep.toml", sweep("eval = [\"one\"]\nlimit = 20\n[axes]\nseed = [1]\n"));
    let ran = lab.0.run(&["run", "sweep.toml", "--include-path", "tasks", "--engine", engine]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    lab.json("one", &["--limit", "20", "--output", "out"]);
    for _ in 0..2 {
        let imported = lab.0.json(&["import", "lm-eval", "out", "--json"]);
        assert_eq!(imported["models"][0]["documents"], 20, "{imported}");
        assert_eq!(imported["sweep"], "tiny");
    }
    let rows = lab.0.json(&["top", "--json"])["rows"].as_array().unwrap().clone();
    let labels: Vec<&str> = rows.iter().map(|row| row["label"].as_str().unwrap()).collect();
    assert_eq!(labels.iter().filter(|label| **label == "model (imported)").count(), 1, "{labels:?}");
    let find = |label: &str| rows.iter().find(|row| row["label"] == label).unwrap()["scores"][0].clone();
    assert_eq!(
        find("model (imported)")["value"],
        find("base")["value"],
        "the same model on the same documents"
    );
    let renamed = lab.0.run(&["import", "lm-eval", "out", "--label", "twin"]);
    assert!(stdout(&renamed).contains("twin (imported)"), "{}", stdout(&renamed));
    let none = lab.0.run(&["import", "lm-eval", "tasks"]);
    assert!(stderr(&none).contains("there is no results_*.json"), "{}", stderr(&none));
}

#[test]
fn results_alone_are_a_leaderboard_of_their_own() {
    let lab = Lab::new();
    lab.json("one", &["--limit", "20", "--output", "out"]);
    let other = ["--db", "other.db", "import", "lm-eval", "out"];
    let output = lab.0.run(&other);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("model (imported)"), "{}", stdout(&output));
    assert!(stderr(&output).contains("into sweep imported"), "{}", stderr(&output));
}
