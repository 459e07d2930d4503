//! Plans of the shipped sweeps and of user-written ones.

use std::path::Path;

use serde_json::Value as Json;

use crate::support::{Scratch, stderr, stdout, sweep, tiny_model};

/// The plan of a shipped sweep without local data or models.
fn shipped(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/study").join(format!("{name}.toml"));
    Scratch::new().json(&["plan", &path.display().to_string(), "--json"])
}

/// The trainable parameters of each adapter of a plan.
fn trainable(plan: &Json) -> Vec<u64> {
    let jobs = plan["jobs"].as_array().unwrap().iter();
    jobs.map(|job| job["trainable_parameters"].as_u64().unwrap()).filter(|n| *n > 0).collect()
}

#[test]
fn the_studys_experiments_plan_to_their_published_counts() {
    let (qv, all) = (4_194_304, 20_277_248);
    let expected: [(&str, usize, Vec<u64>); 12] = [
        ("01-base-models", 5, vec![]),
        ("02-seeds", 4, vec![qv; 3]),
        ("03-chat", 3, vec![qv]),
        ("04-quantization", 4, vec![qv; 3]),
        ("05-optimizer", 5, vec![qv; 4]),
        ("06-iterations", 3, vec![qv; 2]),
        ("07-layers", 3, vec![qv, all]),
        ("08-rank", 3, vec![all, 40_554_496]),
        ("09-alpha", 10, [1, 2, 4, 8, 16, 32, 64, 128, 256].map(|n| n * all).to_vec()),
        ("10-alpha-control", 19, [1, 2, 4, 8, 16, 32].iter().flat_map(|n| [n * all; 3]).collect()),
        ("11-alpha-at-256", 7, vec![648_871_936; 6]),
        ("12-best", 2, vec![648_871_936]),
    ];
    for (name, jobs, counts) in expected {
        let plan = shipped(name);
        assert_eq!(plan["jobs"].as_array().unwrap().len(), jobs, "{name}");
        assert_eq!(trainable(&plan), counts, "{name}");
        if name != "01-base-models" {
            assert_eq!(plan["base_parameters"], 6_738_415_616u64, "{name}");
        }
    }
}

#[test]
fn each_claim_of_the_study_is_about_runs_that_its_sweeps_have() {
    use loragrid::report::{Claims, jobs_of};
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/study");
    for folder in [folder.clone(), folder.join("mini")] {
        let claims = Claims::parse(&std::fs::read_to_string(folder.join("findings.toml")).unwrap()).unwrap();
        for claim in &claims.claims {
            let file = claim.sweep.replacen("study-", "", 1).replacen("mini-", "", 1);
            let spec = loragrid::sweep_file::SweepSpec::read(&folder.join(format!("{file}.toml"))).unwrap();
            assert_eq!(spec.name.as_str(), claim.sweep);
            let board = crate::support::board_of(&spec);
            assert!(
                !jobs_of(&board, claim).is_empty(),
                "{}: {} compares nothing",
                folder.display(),
                claim.text
            );
        }
    }
}

#[test]
fn the_studys_default_has_the_studys_settings() {
    let plan = shipped("02-seeds");
    let settings = &plan["jobs"][1]["settings"];
    for (key, value, from) in [
        ("train.learning_rate", "0.0003", "default"),
        ("train.batch_size", "128", "default"),
        ("train.order", "\"with_replacement\"", "profile litgpt-2023"),
        ("train.loss", "\"micro_batch\"", "profile litgpt-2023"),
        ("lora.dtype", "\"compute\"", "profile litgpt-2023"),
        ("seed", "1", "axis"),
        ("data", "\"alpaca\"", "line 4"),
    ] {
        assert_eq!(settings[key]["value"].to_string(), value, "{key}");
        assert_eq!(settings[key]["from"], from, "{key}");
    }
    assert_eq!(plan["jobs"][1]["done"], Json::Null, "a model that is not here is not known to be done");
}

#[test]
fn quantized_and_momentum_free_jobs_need_less_memory() {
    let memory = |plan: &Json, at: usize| plan["jobs"][at]["estimate"]["memory"].clone();
    let plan = shipped("04-quantization");
    let weights = |at| memory(&plan, at)["weights"].as_u64().unwrap();
    assert!(weights(1) > 3 * weights(2), "{} {}", weights(1), weights(2));
    let plan = shipped("05-optimizer");
    let optimizer = |at| memory(&plan, at)["optimizer"].as_u64().unwrap();
    assert_eq!(optimizer(1), 2 * optimizer(3), "AdamW keeps two moments and SGD with momentum one");
}

#[test]
fn a_long_plan_is_folded_by_axis() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    let list = (1..=100).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    scratch.write("sweep.toml", sweep(&format!("[axes]\nseed = [{list}]\n\"lora.rank\" = [2, 4]\n")));
    let output = scratch.run(&["plan", "sweep.toml", "--set", "train.dtype=fp32"]);
    assert!(output.status.success(), "{}", stderr(&output));
    insta::with_settings!({ filters => vec![("about .*", "about [time]")] }, {
        insta::assert_snapshot!(stdout(&output));
    });
    let all = scratch.run(&["plan", "sweep.toml", "--all"]);
    assert!(stdout(&all).lines().count() > 200);
}

#[test]
fn explain_shows_where_each_value_came_from() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    let rest = "[train]\nepochs = 2\ndtype = \"fp32\"\n[axes]\n\"lora.rank\" = [2, 4]\n[zip.o]\n\
                \"train.optimizer\" = [\"adamw\", \"sgd\"]\n[derive]\n\"lora.alpha\" = \"2 * lora.rank\"\n\
                [[when]]\nif = \"train.optimizer == 'sgd'\"\nset = { \"train.momentum\" = 0.9 }\n";
    scratch.write("sweep.toml", sweep(rest));
    let output = scratch.run(&["plan", "sweep.toml", "--explain", "r=4 optimizer=sgd"]);
    assert!(output.status.success(), "{}", stderr(&output));
    insta::with_settings!({ filters => vec![("[0-9a-f]{16}", "[job id........]")] }, {
        insta::assert_snapshot!(stdout(&output));
    });
}

#[test]
fn models_and_evaluations_can_be_axes() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    std::fs::create_dir(scratch.path().join("other")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(scratch.path().join("model").join(file), scratch.path().join("other").join(file))
            .unwrap();
    }
    let config = scratch.path().join("other/config.json");
    let text = std::fs::read_to_string(&config).unwrap().replace("256,", "128,");
    std::fs::write(config, text).unwrap();
    let rest = "eval = [\"two_digit_addition\"]\nlimit = 5\n[axes]\nmodel = [\"model\", \"other\"]\n\"lora.rank\" = [2, 4]\n";
    scratch.write("sweep.toml", sweep(rest).replace("model = \"model\"\n", ""));
    let plan = scratch.json(&["plan", "sweep.toml", "--json"]);
    let labels: Vec<&str> =
        plan["jobs"].as_array().unwrap().iter().map(|job| job["label"].as_str().unwrap()).collect();
    assert_eq!(
        labels,
        ["model", "other", "model=model r=2", "model=model r=4", "model=other r=2", "model=other r=4"]
    );
}

#[test]
fn data_commands_show_lengths_and_labels() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("sweep.toml", sweep("[train]\nlabels = \"response\"\n"));
    let stats = scratch.json(&["data", "stats", "sweep.toml", "--json", "--svg", "lengths.svg"]);
    assert_eq!(stats["data"][0]["lengths"]["rows"], 7100);
    let svg = std::fs::read_to_string(scratch.path().join("lengths.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("median"), "{svg}");
    let row = scratch.json(&["data", "show", "sweep.toml", "1", "--json"]);
    let tokens = row["tokens"].as_array().unwrap();
    let scored: String =
        tokens.iter().filter(|t| t["scored"] == true).map(|t| t["text"].as_str().unwrap()).collect();
    assert!(scored.starts_with(' ') && scored.ends_with("</s>"), "{scored}");
    let whole: String = tokens.iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert!(whole.starts_with("Question: What is"), "{whole}");
}

#[test]
fn init_writes_a_file_once_and_completions_and_man_pages_come_out() {
    let scratch = Scratch::new();
    assert!(scratch.run(&["init", "mine.toml"]).status.success());
    assert!(!scratch.run(&["init", "mine.toml"]).status.success(), "a file that is there is left alone");
    for shell in ["bash", "zsh", "fish"] {
        let output = scratch.run(&["completions", shell]);
        assert!(stdout(&output).contains("loragrid"), "{shell}");
    }
    assert!(scratch.run(&["man", "pages"]).status.success());
    assert!(scratch.path().join("pages/loragrid-plan.1").is_file());
}

#[test]
fn a_folder_with_only_its_configuration_is_enough_for_a_plan() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    std::fs::remove_file(scratch.path().join("model/model.safetensors")).unwrap();
    scratch.write("sweep.toml", sweep("[lora]\nrank = 2\n"));
    let plan = scratch.json(&["plan", "sweep.toml", "--json"]);
    assert_eq!(plan["base_parameters"], 12_176);
    assert_eq!(trainable(&plan), [224]);
    assert_eq!(plan["blockers"][0]["message"], "model model is not on this machine");
}

#[test]
fn a_folder_of_tasks_is_counted_and_what_is_refused_is_named() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("tasks")).unwrap();
    let base = "dataset_path: json\ntest_split: test\noutput_type: multiple_choice\ndoc_to_target: label\n";
    scratch.write("tasks/base", base);
    let task = |name: &str, rest: &str| {
        scratch.write(&format!("tasks/{name}.yaml"), format!("include: base\ntask: {name}\n{rest}"));
    };
    task("good", "doc_to_text: \"{{ question.strip() }}\"\ndoc_to_choice: [a, b]\n");
    task("filtered", "process_docs: !function utils.only_b\ndoc_to_text: question\ndoc_to_choice: [a, b]\n");
    task("unknown", "process_docs: !function utils.other\ndoc_to_text: question\ndoc_to_choice: [a, b]\n");
    task("broken", "doc_to_text: \"{{ question|nothing }}\"\ndoc_to_choice: [a, b]\n");
    task("misspelled", "doc_to_txt: x\n");
    scratch.write(
        "tasks/utils.py",
        "def only_b(dataset):\n    return dataset.filter(lambda x: x[\"kind\"] == \"b\")\n\n\ndef other(dataset):\n    return dataset.map(f)\n",
    );
    let check = scratch.json(&["task", "check", "--include-path", "tasks", "--json"]);
    assert_eq!((&check["total"], &check["runnable"]), (&5.into(), &2.into()), "{check}");
    let names: Vec<&str> =
        check["refused"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"utils.other") && names.contains(&"doc_to_txt"), "{names:?}");
    assert!(names.iter().any(|name| name.contains("nothing")), "{names:?}");
}

#[test]
fn what_of_tasks_may_not_be_meant_is_told_by_the_plan() {
    let scratch = Scratch::new();
    crate::support::tiny_model(&scratch);
    std::fs::create_dir(scratch.path().join("tasks")).unwrap();
    let head = |name: &str| {
        format!(
            "task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: rows.jsonl}}}}\ntest_split: test\n"
        )
    };
    let body = "output_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: [a, b]\ndoc_to_target: 0\nnum_fewshot: 2\n\
                fewshot_config: {sampler: first_n, samples: [{question: 'one?'}, {question: 'two?'}]}\n";
    scratch.write("tasks/rows.jsonl", "{\"question\": \"one?\"}\n{\"question\": \"three?\"}\n");
    scratch.write("tasks/a.yaml", head("quiz") + body);
    scratch.write("tasks/b.yaml", head("quiz") + body);
    scratch.write(
        "tasks/group.yaml",
        "group: all\ntask: [quiz, {group: inner, task: [quiz]}]\naggregate_metric_list: [{metric: acc}, {metric: brier_score}]\n",
    );
    scratch.write("sweep.toml", crate::support::sweep("eval = [\"all\"]\n"));
    let output = scratch.run(&["plan", "sweep.toml", "--include-path", "tasks"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let messages = stderr(&output);
    for warning in [
        "task quiz: 1 of 2 documents appear among their own few-shot examples",
        "a.yaml defines it, and so does tasks/b.yaml, which is not used",
        "group all: none of its tasks has the metric brier_score",
        "group all: it counts quiz more than once",
    ] {
        assert!(messages.contains(warning), "{warning} is not in {messages}");
    }
}

#[test]
fn settings_without_an_effect_and_folders_that_are_missing_are_told() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("sweep.toml", sweep("[train]\nvalidate_every = 2\n"));
    let warned = stderr(&scratch.run(&["plan", "sweep.toml"]));
    assert!(warned.contains("train.validate_every = 2 has no effect"), "{warned}");
    let missing = scratch.command(&["plan", "sweep.toml"]).env("LORAGRID_DATA", "nowhere").output().unwrap();
    assert_eq!(missing.status.code(), Some(loragrid::cli::ExitCode::Usage as i32));
    assert!(stderr(&missing).contains("the data folder nowhere does not exist"), "{}", stderr(&missing));
}

#[test]
fn a_response_that_is_empty_is_told_where_the_prompt_is_trained_on() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write(
        "rows.jsonl",
        "{\"question\": \"a\", \"answer\": \"\"}\n{\"question\": \"b\", \"answer\": \"c\"}\n",
    );
    scratch.write("sweep.toml", sweep("").replace("\"two_digit_subtraction\"", "\"rows.jsonl\""));
    let warned = stderr(&scratch.run(&["plan", "sweep.toml"]));
    assert!(warned.contains("the response is empty") && warned.contains("(1 row)"), "{warned}");
}

#[test]
fn a_dry_run_downloads_and_queues_nothing() {
    let scratch = Scratch::new();
    scratch.write("sweep.toml", sweep("").replace("\"model\"", "\"HuggingFaceTB/SmolLM2-135M\""));
    for command in ["run", "submit"] {
        let output = scratch
            .command(&[command, "-n", "sweep.toml"])
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .output()
            .unwrap();
        assert!(stderr(&output).contains("is not on this machine"), "{}", stderr(&output));
    }
    assert!(!scratch.path().join("results").exists());
}
