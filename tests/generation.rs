//! Tasks whose answers are generated, by the real engine, against what lm_eval answered (`generate/` of LORAGRID_REFERENCE).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::support::{Scratch, stderr, stdout, sweep, tiny_model};

const ENGINE: &str = env!("CARGO_BIN_EXE_loragrid-engine");

/// Tasks that name function files of lm_eval, which the reference folder does not hold.
const BY_FUNCTION: [&str; 6] = ["gen_drop", "gen_squad", "gen_math", "gen_minerva", "gen_truth", "gen_bbh"];

/// Documents whose two best tokens are so close that either is right.
const CLOSE: f64 = 1e-3;

fn reference() -> Option<PathBuf> {
    let folder = std::env::var_os("LORAGRID_REFERENCE").map(|root| Path::new(&root).join("generate"));
    let folder = folder.filter(|folder| folder.is_dir());
    if folder.is_none() {
        let _ = writeln!(std::io::stderr(), "skipped: LORAGRID_REFERENCE has no folder generate");
    }
    folder
}

fn read(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Json> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The file below a folder whose name begins and ends so.
fn file(folder: &Path, start: &str, end: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() {
                folders.push(entry);
            } else if name.starts_with(start) && name.ends_with(end) {
                return entry;
            }
        }
    }
    panic!("{start}*{end} is not below {}", folder.display());
}

/// The arguments of a run, as lm_eval was called.
fn arguments(run: &Json, tasks: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--tasks".to_owned(), tasks.join(",")];
    let mut put = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    if let Some(text) = run["system_instruction"].as_str() {
        put("--system-instruction", text.to_owned());
    }
    for (key, name) in [
        ("gen_kwargs", "--gen-kwargs"),
        ("samples", "--samples"),
        ("num_fewshot", "--num-fewshot"),
        ("limit", "--limit"),
        ("fewshot_as_multiturn", "--fewshot-as-multiturn"),
    ] {
        if !run[key].is_null() {
            put(name, run[key].to_string());
        }
    }
    if run["apply_chat_template"] == true {
        arguments.push("--apply-chat-template".to_owned());
    }
    arguments
}

fn alike(ours: &Json, theirs: &Json, tolerance: f64) -> bool {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= tolerance,
        _ => ours == theirs,
    }
}

/// Evaluates a run's tasks and compares every line of samples and every result; returns how many lines were compared.
fn compare(folder: &Path, run: &str) -> usize {
    let expected = read(&folder.join(format!("expected/{run}.json")));
    let tasks = expected["run"]["tasks"].as_array().unwrap().iter().map(|task| task.as_str().unwrap());
    let tasks: Vec<&str> = tasks.filter(|task| !BY_FUNCTION.contains(task)).collect();
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    let model = format!("models/{}", expected["run"]["model"].as_str().unwrap());
    let common = ["eval", &model, "--include-path", "tasks", "--dtype", "fp32", "--engine", ENGINE];
    let db = scratch.path().join("db/loragrid.db");
    let mut command = scratch.command(&common);
    command.args(arguments(&expected["run"], &tasks)).arg("--output").arg(&out).arg("--db").arg(db);
    let output = command.current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{run}: {}", stderr(&output));
    let results = read(&file(&out, "results_", ".json"));
    let mut compared = 0;
    for (task, theirs) in expected["tasks"].as_object().unwrap() {
        if BY_FUNCTION.contains(&task.as_str()) {
            continue;
        }
        let close: BTreeSet<u64> = theirs["documents"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|document| document["smallest_gap"].as_f64().unwrap() < CLOSE)
            .map(|document| document["doc_id"].as_u64().unwrap())
            .collect();
        if close.is_empty() {
            for (key, value) in theirs["results"].as_object().unwrap() {
                let of_texts = ["bleu", "chrf", "ter"].iter().any(|name| key.starts_with(name));
                let tolerance = if of_texts { 1e-6 } else { 1e-9 };
                let ours = &results["results"][task][key];
                assert!(alike(ours, value, tolerance), "{run} {task} {key}: {ours} against {value}");
            }
        }
        if theirs["documents"].is_null() {
            continue;
        }
        let name = format!("samples_{task}_2");
        let ours = lines(&file(&out, &name, ".jsonl"));
        for theirs in lines(&file(&folder.join("lm_eval").join(run), &name, ".jsonl")) {
            if close.contains(&theirs["doc_id"].as_u64().unwrap()) {
                continue;
            }
            let same =
                |ours: &&Json| ours["doc_id"] == theirs["doc_id"] && ours["filter"] == theirs["filter"];
            let ours = ours.iter().find(same).unwrap();
            let keys = |line: &Json| line.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
            assert_eq!(keys(ours), keys(&theirs), "{run} {task}");
            for (key, value) in theirs.as_object().unwrap() {
                let place = format!("{run} {task} {} {}", theirs["doc_id"], theirs["filter"]);
                assert!(alike(&ours[key], value, 1e-9), "{place} {key}: {} against {value}", ours[key]);
            }
            compared += 1;
        }
    }
    compared
}

#[test]
fn answers_filters_metrics_and_files_are_lm_evals() {
    let Some(folder) = reference() else { return };
    assert!(compare(&folder, "plain") > 200);
}

#[test]
fn chats_systems_and_overrides_are_lm_evals() {
    let Some(folder) = reference() else { return };
    for run in ["chat", "chat-single", "override", "system"] {
        assert!(compare(&folder, run) > 0, "{run}");
    }
}

#[test]
fn bytes_limits_and_the_checkpoints_own_penalty_are_lm_evals() {
    let Some(folder) = reference() else { return };
    assert!(compare(&folder, "random") + compare(&folder, "random-penalty") > 60);
}

/// A task of ten sums whose answers are generated, with two pipelines.
const SUMS: &str = r#"task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{q}} ="
doc_to_target: a
generation_kwargs: {until: ["\n"], max_gen_toks: 6}
metric_list: [{metric: exact_match, ignore_case: true}, {metric: bleu}]
filter_list:
  - {name: raw, filter: [{function: take_first}]}
  - {name: number, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
metadata: {version: 1.0}
"#;

fn sums() -> Scratch {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    std::fs::create_dir(scratch.path().join("tasks")).unwrap();
    let rows: String = (0..10).map(|n| format!("{{\"q\": \"{n} + 1\", \"a\": \"{}\"}}\n", n + 1)).collect();
    scratch.write("tasks/sums.jsonl", rows);
    scratch.write("tasks/sums.yaml", SUMS);
    scratch
}

fn sweep_of(eval: &str) -> String {
    let train = "[train]\niterations = 8\nbatch_size = 8\nwarmup_steps = 0\n";
    sweep(&format!("{train}[axes]\n\"lora.rank\" = [2, 4]\n[eval]\ntasks = [\"sums\"]\n{eval}"))
}

#[test]
fn a_sweep_answers_its_tasks_and_shows_what_was_said() {
    let scratch = sums();
    scratch.write("sweep.toml", sweep_of("system_instruction = \"Add.\"\ngen_kwargs = \"max_gen_toks=4\"\n"));
    let run = ["run", "sweep.toml", "--include-path", "tasks", "--engine", ENGINE, "--json"];
    let output = scratch.run(&run);
    assert!(output.status.success(), "{}", stderr(&output));
    let top = scratch.json(&["top", "--json"]);
    assert_eq!(top["rows"].as_array().unwrap().len(), 3, "{top}");
    let base = scratch.json(&["show", "base", "--json"]);
    let metrics: Vec<&str> =
        base["scores"].as_array().unwrap().iter().map(|score| score["metric"].as_str().unwrap()).collect();
    assert_eq!(metrics, ["bleu,number", "bleu,raw", "exact_match,number", "exact_match,raw"]);
    let named = |metrics: &str| -> Vec<String> {
        let top = scratch.json(&["top", "--metrics", metrics, "--json"]);
        let scores = top["rows"][0]["scores"].as_array().unwrap();
        scores.iter().map(|score| score["metric"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        named("sums:bleu,raw,sums:exact_match,number"),
        ["exact_match,raw", "bleu,raw", "exact_match,number"]
    );
    assert_eq!(named("sums:bleu"), ["exact_match,raw", "bleu,raw"]);
    let shown = scratch.json(&["show", "base", "--examples", "sums", "--count", "2", "--json"]);
    let example = &shown["examples"][1];
    assert_eq!(example["prompt"], "Add.1 + 1 =");
    assert_eq!((example["answers"].as_array().unwrap().len(), &example["target"]), (1, &Json::from("2")));
    assert_eq!(example["filtered"][1]["filter"], "number");
    let text = stdout(&scratch.run(&["show", "base", "--examples", "sums"]));
    assert!(text.contains("target") && text.contains("number:"), "{text}");
    let compared = scratch.run(&["compare", "base", "r=2", "--examples", "2"]);
    assert!(compared.status.success(), "{}", stderr(&compared));
    // What is answered is not answered again, and other settings are other scores.
    let plan = || stdout(&scratch.run(&["plan", "sweep.toml", "--include-path", "tasks"]));
    assert!(plan().contains("3 jobs, 0 to run"), "{}", plan());
    scratch.write("sweep.toml", sweep_of("system_instruction = \"Subtract.\"\n"));
    assert!(plan().contains("3 jobs, 3 to run"), "{}", plan());
}

#[test]
fn a_chat_template_that_is_missing_and_settings_that_are_not_known_are_told() {
    let scratch = sums();
    for (eval, told) in [
        ("apply_chat_template = true\n", "has no chat template"),
        ("gen_kwargs = \"temperature\"\n", "is not KEY=VALUE"),
        ("gen_kwargs = \"num_beams=4\"\n", "generation_kwargs 'num_beams = 4' is not supported"),
        ("limits = 4\n", "unknown key 'eval.limits'"),
    ] {
        scratch.write("sweep.toml", sweep_of(eval));
        let error = stderr(&scratch.run(&["plan", "sweep.toml", "--include-path", "tasks"]));
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn an_evaluation_whose_engine_is_killed_keeps_what_was_answered() {
    let scratch = sums();
    let eval = [
        "eval",
        "model",
        "--tasks",
        "sums",
        "--include-path",
        "tasks",
        "--dtype",
        "fp32",
        "--engine",
        ENGINE,
    ];
    let run = |fault: &str| {
        let mut command = scratch.command(&eval);
        command.arg("--json").env("LORAGRID_FAULT", fault).output().unwrap()
    };
    // Answers end one after another: the longest need a pass for each token.
    let killed = run("kill@answer:8");
    let whole = run("");
    assert!(whole.status.success(), "{}", stderr(&whole));
    let fresh = sums();
    let other = fresh.command(&eval).arg("--json").output().unwrap();
    let results = |output: &std::process::Output| -> Json {
        serde_json::from_slice::<Json>(&output.stdout).unwrap()["results"].clone()
    };
    assert_eq!(results(&whole), results(&other), "{}", stderr(&killed));
}
