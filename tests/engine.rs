//! Both programs together on a tiny model, and their shared libraries.

use std::process::Command;

use crate::support::{Scratch, stderr, stdout, sweep, tiny_model};

#[test]
fn loragrid_does_not_need_libtorch() {
    let needed = needed(env!("CARGO_BIN_EXE_loragrid"));
    assert!(!needed.contains("torch") && !needed.contains("c10"), "{needed}");
    assert!(self::needed(env!("CARGO_BIN_EXE_loragrid-engine")).contains("libtorch_cpu"));
}

/// The shared libraries that a program links.
fn needed(program: &str) -> String {
    let output = Command::new("readelf").args(["-d", program]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains("NEEDED")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_engine_finds_its_libraries_without_help() {
    // Descriptor 3 is closed, which the engine reports; a missing library would be reported by the loader.
    let output = Command::new(env!("CARGO_BIN_EXE_loragrid-engine")).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("started by loragrid"), "{}", stderr(&output));
}

#[test]
fn a_sweep_trains_scores_and_writes_peft_adapters() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    let train = "[train]\niterations = 32\nbatch_size = 8\nwarmup_steps = 0\nlearning_rate = 0.01\nlabels = \"response\"\n";
    let rest = format!(
        "eval = [\"two_digit_subtraction\"]\nlimit = 20\n{train}[lora]\nlayers = \"all\"\n[axes]\n\"lora.rank\" = [2, 4]\n"
    );
    scratch.write("sweep.toml", sweep(&rest));
    let engine = env!("CARGO_BIN_EXE_loragrid-engine");
    let output = scratch.run(&["run", "sweep.toml", "--engine", engine, "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let board = crate::support::last_event(&output);
    let rows = board["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows[1]["last_loss"].as_f64().unwrap() < 5.6, "{}", rows[1]); // ln 258 = 5.55 is chance
    let adapters = std::fs::read_dir(scratch.path().join("results/adapters")).unwrap();
    for folder in adapters.map(|entry| entry.unwrap().path()) {
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("adapter_config.json")).unwrap())
                .unwrap();
        assert_eq!(config["peft_type"], "LORA");
        assert!(folder.join("adapter_model.safetensors").is_file());
    }
    let logs: Vec<String> = std::fs::read_dir(scratch.path().join("results/logs"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(logs.iter().any(|log| log.contains("step 4/4")), "no attempt's log has its steps");
}

#[test]
fn two_runs_of_one_seed_are_equal_to_the_bit() {
    let adapters: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let scratch = Scratch::new();
            tiny_model(&scratch);
            let rest = "[train]\niterations = 24\nbatch_size = 8\n[lora]\ndropout = 0.2\n";
            scratch.write("sweep.toml", sweep(rest));
            let engine = env!("CARGO_BIN_EXE_loragrid-engine");
            let output = scratch.run(&["run", "sweep.toml", "--engine", engine]);
            assert!(output.status.success(), "{}", stderr(&output));
            let mut folders = std::fs::read_dir(scratch.path().join("results/adapters")).unwrap();
            let folder = folders.next().unwrap().unwrap().path();
            std::fs::read(folder.join("adapter_model.safetensors")).unwrap()
        })
        .collect();
    assert_eq!(adapters[0], adapters[1]);
}

/// The adapter of a sweep with these lines, and its scratch folder.
fn adapter_of(rest: &str) -> (Scratch, String) {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("sweep.toml", sweep(rest));
    let output = scratch.run(&["run", "sweep.toml", "--engine", ENGINE]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut folders = std::fs::read_dir(scratch.path().join("results/adapters")).unwrap();
    let folder = folders.next().unwrap().unwrap().path();
    (scratch, folder.display().to_string())
}

const ENGINE: &str = env!("CARGO_BIN_EXE_loragrid-engine");
const SHORT: &str = "[train]\niterations = 32\nbatch_size = 8\nwarmup_steps = 0\nlearning_rate = 0.05\n";

#[test]
fn a_merged_model_is_the_adapter_beside_its_base_and_the_base_is_not() {
    let (scratch, adapter) = adapter_of(&format!("{SHORT}[lora]\nlayers = \"all\"\n"));
    let fp32 = ["--engine", ENGINE, "--dtype", "fp32", "--json"];
    let merge = ["merge", "model", "--adapter", &adapter, "--out", "merged"];
    let merged = scratch.json(&[&merge[..], &fp32].concat());
    assert_eq!(merged["changed"], 15);
    assert!(merged["difference"]["kl"].as_f64().unwrap() < 1e-9, "{merged}");
    let again = scratch.run(&[&merge[..], &fp32].concat());
    assert_eq!(again.status.code(), Some(2), "a folder that is there is never overwritten");
    let same = scratch.json(&[&["verify", "model", "merged", "--adapter-a", &adapter], &fp32[..]].concat());
    assert_eq!(same["within"], true);
    assert_eq!(same["difference"]["top1"], 1.0);
    let apart = scratch.run(&[&["verify", "model", "merged", "--max-kl", "1e-6"], &fp32[..]].concat());
    assert_eq!(apart.status.code(), Some(12), "{}", stderr(&apart));
}

#[test]
fn qlora_dora_and_loraplus_train_and_validate() {
    let rest = "eval = [\"two_digit_subtraction\"]\nlimit = 3\n".to_owned()
        + SHORT
        + "quantize = \"bnb.nf4-dq\"\nquantize_head = true\nvalidation_split = 0.01\nvalidate_every = 2\n\
           gradient_checkpointing = true\n[lora]\nvariant = \"dora\"\nloraplus_lr_ratio = 4.0\ndtype = \"compute\"\n";
    let (scratch, adapter) = adapter_of(&rest);
    let config = std::fs::read_to_string(std::path::Path::new(&adapter).join("adapter_config.json")).unwrap();
    assert!(config.contains("\"use_dora\": true"), "{config}");
    let board = scratch.json(&["top", "--json"]);
    let job = board["rows"][1]["jobs"][0].as_str().unwrap();
    let shown = scratch.run(&["show", job]);
    assert!(stdout(&shown).contains("validation loss:"), "{}", stdout(&shown));
    let plan = scratch.run(&["plan", "sweep.toml", "--set", "seed=2"]);
    assert!(stdout(&plan).contains("bnb.nf4-dq: dequantized in every pass"), "{}", stdout(&plan));
}

#[test]
fn kept_and_again_dequantized_weights_train_the_same_adapter() {
    let train = |dequantize: &str| {
        let lines =
            format!("{SHORT}dtype = \"fp32\"\nquantize = \"bnb.fp4\"\ndequantize = \"{dequantize}\"\n");
        let (_scratch, adapter) = adapter_of(&lines);
        std::fs::read(std::path::Path::new(&adapter).join("adapter_model.safetensors")).unwrap()
    };
    assert!(train("each_pass") == train("keep"));
}

#[test]
fn a_text_is_continued_the_same_way_twice_and_a_chat_answers_each_line() {
    use std::io::Write;
    let scratch = Scratch::new();
    tiny_model(&scratch);
    let generate =
        ["generate", "model", "--prompt", "1 + 1 =", "--max-new-tokens", "12", "--engine", ENGINE, "--json"];
    let first = scratch.json(&generate);
    assert_eq!(first["text"], scratch.json(&generate)["text"]);
    let tokens = first["tokens"].as_u64().unwrap();
    assert!((1..=12).contains(&tokens), "{first}");
    let mut chat = scratch.command(&["chat", "model", "--max-new-tokens", "3", "--engine", ENGINE]);
    let mut child =
        chat.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n\nonce more\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("tokens/s").count(), 2, "{}", stderr(&output));
}

#[test]
fn an_evaluation_scores_alike_fast_and_exact_and_writes_lm_evals_files() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    let tasks = "two_digit_subtraction,two_digit_addition";
    let common = ["eval", "model", "--tasks", tasks, "--limit", "5", "--num-fewshot", "2", "--dtype", "fp32"];
    let run = |more: &[&str]| scratch.json(&[&common, more, &["--engine", ENGINE, "--json"]].concat());
    let fast = run(&["--output", "out"]);
    let exact = run(&["--exact"]);
    let results = &fast["evaluations"][0]["results"];
    assert_eq!(results, &exact["evaluations"][0]["results"]);
    assert_eq!(results["two_digit_addition"]["sample_len"], 5);
    let files: Vec<String> = std::fs::read_dir(scratch.path().join("out/model"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let count = |start: &str| files.iter().filter(|name| name.starts_with(start)).count();
    assert_eq!((count("results_"), count("samples_two_digit_")), (1, 2), "{files:?}");
}
