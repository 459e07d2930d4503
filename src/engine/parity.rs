//! What transformers, PEFT and lm_eval answer on given inputs, and what the engine answers.
//!
//! Reference values are in the folder that `LORAGRID_REFERENCE` names (documents in `LORAGRID_DATA`, the real model in
//! `LORAGRID_TEST_MODEL`); without it a test says that it was skipped. `make test-parity` fails if it read nothing.

use std::path::PathBuf;

use loragrid::checkpoint::{Checkpoint, ModelTokenizer, SafetensorsFile};
use loragrid::data::Example;
use loragrid::job::{
    DType, JobConfig, LoraConfig, Loss, Optimizer, Origin, Profile, RowOrder, Settings, TrainConfig, find_key,
};
use loragrid::task::{Request, RequestScore, encode_request};
use tch::{Device, Kind, Tensor};

use crate::lora::{Active, Adapter, read_adapter, read_lora};
use crate::model::{Batch, Model, load};
use crate::score::score_requests;
use crate::tensor::{from_stored, to_f32};
use crate::train::{Run, train};

/// A path inside the folder that a variable names, or a word that the test was skipped.
fn outside(variable: &str, inside: &str) -> Option<PathBuf> {
    let root = std::env::var_os(variable).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    let path = root.as_ref().map(|root| if inside.is_empty() { root.clone() } else { root.join(inside) });
    match path {
        Some(path) if path.exists() => Some(path),
        _ => {
            eprintln!("skipped: {inside}: {variable} names no such folder or file");
            None
        }
    }
}

fn reference(inside: &str) -> Option<PathBuf> {
    outside("LORAGRID_REFERENCE", inside)
}

fn model(folder: &std::path::Path, kind: Kind) -> Model {
    load(&Checkpoint::open(folder).unwrap(), kind, Device::Cpu).unwrap()
}

/// Logits `[rows, tokens, vocab]` of equally long sequences.
fn logits(model: &Model, adapter: Option<&Adapter>, input_ids: &(Vec<u64>, Vec<i64>)) -> Tensor {
    let (shape, ids) = input_ids;
    let tokens: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    let rows: Vec<&[u32]> = tokens.chunks(shape[1] as usize).collect();
    tch::no_grad(|| {
        let active = adapter.map(|adapter| Active { adapter, masks: None });
        let states = model.hidden_states(&Batch::new(&rows, Device::Cpu), active.as_ref());
        model.logits(&states, active.as_ref()).view([shape[0] as i64, shape[1] as i64, -1])
    })
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn read(file: &SafetensorsFile, name: &str) -> Tensor {
    from_stored(&file.read(name).unwrap(), Kind::Float, Device::Cpu)
}

#[test]
fn llama_logits_equal_transformers_in_fp32() {
    let Some(folder) = reference("llama") else { return };
    let expected = SafetensorsFile::open(&folder.join("expected.safetensors")).unwrap();
    let input = expected.read_integers("input_ids").unwrap();
    let difference =
        largest_difference(&logits(&model(&folder, Kind::Float), None, &input), &read(&expected, "logits"));
    assert!(difference <= 1e-4, "{difference}");
}

#[test]
fn grouped_queries_a_tied_head_and_bf16_stay_as_close_as_transformers_own_bf16() {
    for name in ["llama", "llama_gqa_tied"] {
        let Some(folder) = reference(name) else { continue };
        let expected = SafetensorsFile::open(&folder.join("expected.safetensors")).unwrap();
        let input = expected.read_integers("input_ids").unwrap();
        let exact = read(&expected, "logits");
        let single = largest_difference(&logits(&model(&folder, Kind::Float), None, &input), &exact);
        assert!(single <= 1e-4, "{name}: {single}");
        let own = largest_difference(&logits(&model(&folder, Kind::BFloat16), None, &input), &exact);
        let theirs = largest_difference(&read(&expected, "logits_bf16"), &exact);
        assert!(own <= 1.5 * theirs, "{name}: {own} against {theirs}");
    }
}

#[test]
fn sequences_laid_end_to_end_do_not_see_each_other() {
    let Some(folder) = reference("llama") else { return };
    let model = model(&folder, Kind::Double);
    let rows: [&[u32]; 3] = [&[5, 6, 7, 8], &[9, 10], &[11, 12]];
    let states = |rows: &[&[u32]]| tch::no_grad(|| model.hidden_states(&Batch::new(rows, Device::Cpu), None));
    let together = states(&rows);
    let alone = Tensor::cat(&rows.map(|row| states(&[row])), 0);
    assert!(largest_difference(&together, &alone) < 1e-12);
}

/// The defaults of a training.
fn defaults() -> TrainConfig {
    let mut settings = Settings::new();
    settings.set(find_key("model").unwrap(), "m".into(), Origin::Default);
    settings.fill_defaults(Profile::Peft);
    JobConfig::from_settings(&settings, DType::Fp32).unwrap().train
}

/// What `train.json` says; the two oldest folders have none, and their README says it instead.
fn read_train(folder: &std::path::Path, name: &str, train: &mut TrainConfig) {
    let text = std::fs::read_to_string(folder.join("train.json")).unwrap_or_else(|_| match name {
        "lora_sgd" => {
            r#"{"optimizer":"sgd","lr":0.1,"momentum":0.9,"weight_decay":0.0,"loss":"micro_batch"}"#.into()
        }
        _ => r#"{"optimizer":"adamw","lr":3e-3,"weight_decay":0.01,"loss":"micro_batch"}"#.into(),
    });
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |name: &str| json[name].as_f64();
    train.optimizer = Optimizer::parse(json["optimizer"].as_str().unwrap()).unwrap();
    train.loss = Loss::parse(json["loss"].as_str().unwrap()).unwrap();
    train.learning_rate = number("lr").unwrap();
    train.weight_decay = number("weight_decay").unwrap();
    train.momentum = number("momentum").unwrap_or(0.0);
    train.clip_norm = number("clip").unwrap_or(0.0);
}

/// The six steps of a trajectory folder as one run: rows in order, labels as given.
struct Trajectory {
    folder: PathBuf,
    file: SafetensorsFile,
    examples: Vec<Example>,
    lora: LoraConfig,
    train: TrainConfig,
}

impl Trajectory {
    fn open(name: &str) -> Option<Self> {
        let folder = reference(name)?;
        let file = SafetensorsFile::open(&folder.join("trajectory.safetensors")).unwrap();
        let (shape, ids) = file.read_integers("input_ids").unwrap();
        let (_, labels) = file.read_integers("labels").unwrap();
        let length = shape[2] as usize;
        let example = |(ids, labels): (&[i64], &[i64])| Example {
            tokens: ids.iter().map(|&id| id as u32).collect(),
            scored: labels.iter().map(|&label| label != -100).collect(),
        };
        let examples = ids.chunks(length).zip(labels.chunks(length)).map(example).collect();
        let lora = read_lora(&folder).unwrap();
        let mut train = defaults();
        train.dtype = DType::Fp32;
        train.iterations = shape[0] * shape[1];
        train.batch_size = shape[1];
        train.warmup_steps = 0;
        train.order = RowOrder::Sequential;
        read_train(&folder, name, &mut train);
        Some(Self { folder, file, examples, lora, train })
    }

    /// PEFT's name of a matrix in `init.*` and `final.*`.
    fn matrices(adapter: &Adapter) -> Vec<(String, &Tensor)> {
        let name = |layer: &loragrid::checkpoint::LayerName, part| {
            format!("base_model.model.{}.lora_{part}", layer.module())
        };
        adapter
            .pairs
            .iter()
            .flat_map(|(layer, pair)| [(name(layer, "A"), &pair.a), (name(layer, "B"), &pair.b)])
            .collect()
    }

    fn find(&self, prefix: &str, matrix: &str) -> Tensor {
        let infos = self.file.tensors();
        let found = infos.iter().find(|info| info.name.starts_with(prefix) && info.name.contains(matrix));
        let info = found.unwrap_or_else(|| panic!("no {prefix}{matrix} among {:?}", infos[0]));
        from_stored(&self.file.read(&info.name).unwrap(), Kind::Float, Device::Cpu)
    }

    /// Trains from the given start; the losses and the adapter.
    fn run(&self, kind: Kind, token_budget: usize) -> (Vec<f64>, Adapter) {
        let model = model(&self.folder.with_file_name("llama"), kind);
        let mut adapter = Adapter::zeros(&model.config, &self.lora, kind, Device::Cpu);
        for (name, matrix) in Self::matrices(&adapter) {
            adapter.fill(matrix, &self.find("init.", &name));
        }
        let run =
            Run { train: &self.train, lora: &self.lora, seed: 1, examples: &self.examples, token_budget };
        let mut losses = Vec::new();
        train(&model, &mut adapter, &run, |report| {
            losses.push(report.loss);
            Ok(())
        })
        .unwrap();
        (losses, adapter)
    }
}

#[test]
fn lora_trajectories_equal_pefts_losses_and_weights() {
    for name in ["lora_adamw", "lora_sgd", "lora_token_loss", "lora_clip", "rslora"] {
        let Some(trajectory) = Trajectory::open(name) else { continue };
        let (losses, adapter) = trajectory.run(Kind::Float, 1);
        let expected = to_f32(&read(&trajectory.file, "losses")).unwrap();
        assert_eq!(losses.len(), expected.len());
        for (step, (own, theirs)) in losses.iter().zip(&expected).enumerate() {
            assert!((own - f64::from(*theirs)).abs() <= 1e-5, "{name}, step {step}: {own} against {theirs}");
        }
        for (matrix_name, matrix) in Trajectory::matrices(&adapter) {
            let difference = largest_difference(&matrix.detach(), &trajectory.find("final.", &matrix_name));
            assert!(difference <= 1e-5, "{name}, {matrix_name}: {difference}");
        }
    }
}

#[test]
fn the_trajectory_does_not_depend_on_how_a_window_is_cut_into_passes() {
    let Some(mut trajectory) = Trajectory::open("lora_adamw") else { return };
    for dropout in [0.0, 0.3] {
        trajectory.lora.dropout = dropout;
        let (_, row_by_row) = trajectory.run(Kind::Double, 1);
        let (_, together) = trajectory.run(Kind::Double, 4096);
        let difference = largest_difference(&row_by_row.flat, &together.flat);
        assert!(difference < 1e-10, "dropout {dropout}: {difference}");
    }
}

#[test]
fn pefts_own_adapter_folders_load_and_give_its_logits() {
    for name in ["lora_adamw", "lora_sgd", "lora_token_loss", "lora_clip", "rslora"] {
        let Some(folder) = reference(name) else { continue };
        let model = model(&folder.with_file_name("llama"), Kind::Float);
        let adapter = read_adapter(&folder, &model, Device::Cpu).unwrap();
        for file in ["merged_expected.safetensors", "adapter_expected.safetensors"] {
            let Ok(expected) = SafetensorsFile::open(&folder.join(file)) else { continue };
            let input = expected.read_integers("input_ids").unwrap();
            let difference =
                largest_difference(&logits(&model, Some(&adapter), &input), &read(&expected, "logits"));
            assert!(difference <= 1e-4, "{name}, {file}: {difference}");
        }
    }
}

#[test]
fn the_real_models_log_likelihoods_equal_lm_evals() {
    let (Some(path), Some(file)) = (outside("LORAGRID_TEST_MODEL", ""), reference("lm_eval_smollm2.json"))
    else {
        return;
    };
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
    let model = load(&checkpoint, Kind::Float, Device::Cpu).unwrap();
    for task in ["arithmetic_2ds", "blimp_causative"] {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for document in json["tasks"][task]["docs"].as_array().unwrap() {
            for (index, pair) in document["requests"].as_array().unwrap().iter().enumerate() {
                let text = |side: usize| pair[side].as_str().unwrap().to_owned();
                let request = Request { context: text(0), continuation: text(1) };
                requests.push(encode_request(&tokenizer, &request, 8192).unwrap());
                expected.push(RequestScore {
                    log_likelihood: document["loglikelihoods"][index].as_f64().unwrap(),
                    is_greedy: document["is_greedy"][index].as_bool().unwrap(),
                });
            }
        }
        let (scores, _) = score_requests(&model, None, &requests, 1024).unwrap();
        let mut worst: f64 = 0.0;
        for (own, theirs) in scores.iter().zip(&expected) {
            worst = worst.max((own.log_likelihood - theirs.log_likelihood).abs());
            assert_eq!(own.is_greedy, theirs.is_greedy, "{task}");
        }
        assert!(worst <= 1e-3, "{task}: {worst}");
    }
}
