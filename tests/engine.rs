//! Both programs together on a tiny model, and what they are linked with.

use std::process::Command;

use crate::support::{Scratch, stderr, sweep, tiny_model};

#[test]
fn loragrid_does_not_need_libtorch() {
    let needed = needed(env!("CARGO_BIN_EXE_loragrid"));
    assert!(!needed.contains("torch") && !needed.contains("c10"), "{needed}");
    assert!(self::needed(env!("CARGO_BIN_EXE_loragrid-engine")).contains("libtorch_cpu"));
}

/// The shared libraries that a program names.
fn needed(program: &str) -> String {
    let output = Command::new("readelf").args(["-d", program]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains("NEEDED")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_engine_finds_its_libraries_without_help() {
    // Descriptor 3 is closed, which the engine tells; a library that is not found would be told by the loader.
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
    let board: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
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
