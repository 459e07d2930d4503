//! A scratch folder with a tiny model, and the program run in it.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loragrid::pretrained::{LayerName, LlamaSizes, ModelConfig, write_safetensors};
use loragrid::random::{Purpose, Stream};
use serde_json::{Value as Json, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A folder that is removed after its test.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program with arguments, run in the folder without the user's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loragrid"));
        command.args(arguments).current_dir(self.path());
        command.env_remove("LC_ALL").env_remove("LC_CTYPE").env("LANG", "C.UTF-8");
        for variable in [
            "HF_HOME",
            "HF_TOKEN",
            "HF_ENDPOINT",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "LORAGRID_DB",
            "LORAGRID_RESULTS",
            "LORAGRID_JOURNAL",
            "XDG_CACHE_HOME",
            "LORAGRID_ENGINE",
            "LORAGRID_DATA",
            "LORAGRID_DEVICES",
            "LORAGRID_LOG",
            "COLUMNS",
            "XDG_CONFIG_HOME",
            "LORAGRID_PACK",
            "LORAGRID_TOKEN",
            "MLFLOW_TRACKING_URI",
            "MLFLOW_TRACKING_TOKEN",
            "MLFLOW_TRACKING_USERNAME",
            "TRACKIO_DIR",
            "SLURM_JOB_END_TIME",
            "SLURM_NTASKS",
        ] {
            command.env_remove(variable);
        }
        command.env("PATH", "/nowhere").env("HOME", self.path()).env("LORAGRID_PRODUCT_RATE", "400e9");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The JSON value that a successful command printed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The last event of a run with --json.
pub(crate) fn last_event(output: &Output) -> Json {
    serde_json::from_str(stdout(output).lines().last().unwrap_or_default()).unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A reference file with small inputs and expected values; none, with a message, if LORAGRID_CASES is not a folder.
#[allow(dead_code, reason = "chaos does not ask")]
pub(crate) fn case(file: &str) -> Option<Json> {
    let folder = std::env::var_os("LORAGRID_CASES").filter(|folder| !folder.is_empty());
    let Some(folder) = folder else {
        let _ = writeln!(std::io::stderr(), "skipped: {file}: LORAGRID_CASES names no folder");
        return None;
    };
    Some(serde_json::from_str(&std::fs::read_to_string(Path::new(&folder).join(file)).unwrap()).unwrap())
}

/// A sweep over the tiny model with these additional lines.
pub(crate) fn sweep(rest: &str) -> String {
    format!("name = \"tiny\"\nmodel = \"model\"\ndata = \"two_digit_subtraction\"\n{rest}")
}

/// Writes a two-block Llama with random weights and a byte-level tokenizer into the folder `model`.
pub(crate) fn tiny_model(scratch: &Scratch) {
    let folder = scratch.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let config = ModelConfig::llama(LlamaSizes {
        vocab_size: 258,
        hidden_size: 16,
        intermediate_size: 24,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
    });
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = config
        .layer_names()
        .into_iter()
        .enumerate()
        .map(|(number, name)| {
            let shape: Vec<usize> = config.shape(name).iter().map(|&n| n as usize).collect();
            let stream = Stream::new(7, Purpose::Init, number as u64);
            let size = shape.iter().product::<usize>() as u64;
            let is_norm = matches!(name, LayerName::FinalNorm | LayerName::Norm(..));
            let value = |n| if is_norm { 1.0 } else { (stream.uniform(n) - 0.5) as f32 * 0.4 };
            (format!("{}.weight", config.place(name).module), shape, (0..size).map(value).collect())
        })
        .collect();
    write_safetensors(&folder.join("model.safetensors"), &tensors, HashMap::new()).unwrap();
    let json = json!({
        "model_type": "llama", "vocab_size": 258, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "max_position_embeddings": 256, "bos_token_id": 256,
        "eos_token_id": 257,
    });
    std::fs::write(folder.join("config.json"), json.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer.json"), byte_tokenizer().to_string()).unwrap();
    let special = json!({ "bos_token": "<s>", "eos_token": "</s>" });
    std::fs::write(folder.join("tokenizer_config.json"), special.to_string()).unwrap();
}

fn byte_tokenizer() -> Json {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocab: serde_json::Map<String, Json> =
        alphabet.iter().enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false })
    };
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "added_tokens": [special(256, "<s>"), special(257, "</s>")], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                   "vocab": vocab, "merges": [] },
    })
}

/// A base model and every cell of a sweep file, as a leaderboard without a score.
#[allow(dead_code, reason = "chaos does not ask")]
pub(crate) fn board_of(spec: &loragrid::sweep_file::SweepSpec) -> loragrid::store::Leaderboard {
    use loragrid::job::{JobId, JobState};
    let job = |number: usize, settings: &loragrid::job::Settings| loragrid::store::BoardJob {
        id: JobId::from_store(number.to_string()),
        is_base: number == 0,
        imported: false,
        label: number.to_string(),
        model: String::new(),
        dtype: String::new(),
        state: JobState::Queued,
        reason: None,
        settings: settings
            .iter()
            .map(|(key, setting)| (key.path.to_owned(), setting.value.clone()))
            .collect(),
        trainable: 0,
        seconds: None,
        work: Default::default(),
        peak_memory: None,
        losses: None,
        converged: None,
        scores: Vec::new(),
    };
    let cells = loragrid::plan::expand(spec).unwrap().cells;
    let base = std::iter::once(job(0, &loragrid::job::Settings::new()));
    loragrid::store::Leaderboard {
        sweep: spec.name.to_string(),
        version: 1,
        axes: spec.varied().into_iter().map(str::to_owned).collect(),
        tasks: Vec::new(),
        metrics: Vec::new(),
        objective: None,
        groups: Vec::new(),
        jobs: base.chain(cells.iter().enumerate().map(|(at, cell)| job(at + 1, cell))).collect(),
    }
}
