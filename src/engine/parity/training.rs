//! Training trajectories against PEFT.

use floor::data::Example;
use floor::job::{
    DType, JobConfig, LoraConfig, Loss, Optimizer, Origin, Profile, Quantize, RowOrder, Settings,
    TrainConfig, find_key,
};
use floor::pretrained::LayerName;
use tch::{Kind, Tensor};

use super::*;
use crate::lora::{PairForm, read_form};
use crate::tensor::to_f32;
use crate::train::{Member, Replica, Run, TrainingEvent, train};

const KNOWN: &[&str] = &[
    "lora_adamw",
    "lora_sgd",
    "lora_token_loss",
    "lora_clip",
    "rslora",
    "dora",
    "loraplus",
    "qlora_nf4",
    "qlora_nf4_dq",
    "qlora_fp4",
];

/// Training defaults.
fn defaults() -> TrainConfig {
    let mut settings = Settings::new();
    settings.set(find_key("model").unwrap(), "m".into(), Origin::Default);
    settings.fill_defaults(Profile::Peft);
    JobConfig::from_settings(&settings, DType::Fp32).unwrap().train
}

/// The steps of a trajectory folder as one run: rows in order, labels as given.
pub(super) struct Trajectory {
    pub(super) folder: PathBuf,
    base: PathBuf,
    file: SafetensorsFile,
    examples: Vec<Example>,
    forms: Vec<PairForm>,
    lora: LoraConfig,
    train: TrainConfig,
}

impl Trajectory {
    pub(super) fn open(folder: &Path) -> Self {
        let file = open(&folder.join("trajectory.safetensors"));
        let (shape, ids) = file.read_integers("input_ids").unwrap();
        let (_, labels) = file.read_integers("labels").unwrap();
        let length = shape[2] as usize;
        let example = |(ids, labels): (&[i64], &[i64])| Example {
            tokens: ids.iter().map(|&id| id as u32).collect(),
            scored: labels.iter().map(|&label| label != -100).collect(),
        };
        let examples = ids.chunks(length).zip(labels.chunks(length)).map(example).collect();
        let mut trajectory = Self {
            folder: folder.to_owned(),
            base: folder.with_file_name("llama"),
            file,
            examples,
            forms: Vec::new(),
            lora: LoraConfig::plain(1, []),
            train: defaults(),
        };
        trajectory.train.iterations = shape[0] * shape[1];
        trajectory.train.batch_size = shape[1];
        trajectory.train.warmup_steps = 0;
        trajectory.train.order = RowOrder::Sequential;
        trajectory.read_train();
        let config = Checkpoint::open(&trajectory.base).unwrap().config().clone();
        trajectory.forms = read_form(folder, &config).unwrap().pairs();
        trajectory
    }

    /// The contents of `train.json`; the two oldest folders have none and describe it in their README.
    fn read_train(&mut self) {
        let oldest = if self.folder.ends_with("lora_sgd") {
            r#"{"optimizer":"sgd","lr":0.1,"momentum":0.9,"weight_decay":0.0,"loss":"micro_batch"}"#
        } else {
            r#"{"optimizer":"adamw","lr":3e-3,"weight_decay":0.01,"loss":"micro_batch"}"#
        };
        let text = std::fs::read_to_string(self.folder.join("train.json"));
        let json: serde_json::Value = serde_json::from_str(&text.unwrap_or_else(|_| oldest.into())).unwrap();
        let number = |name: &str| json[name].as_f64();
        let train = &mut self.train;
        train.optimizer = Optimizer::parse(json["optimizer"].as_str().unwrap()).unwrap();
        train.loss = Loss::parse(json["loss"].as_str().unwrap()).unwrap();
        train.learning_rate = number("lr").unwrap();
        train.weight_decay = number("weight_decay").unwrap();
        train.momentum = number("momentum").unwrap_or(0.0);
        train.clip_norm = number("clip").or(number("clip_norm")).or(number("max_grad_norm")).unwrap_or(0.0);
        self.lora.dropout = number("dropout").unwrap_or(0.0);
        self.lora.plus_ratio = number("loraplus_ratio").unwrap_or(1.0);
        if let Some(base) = json["base"].as_str() {
            self.base = self.folder.with_file_name(base);
        }
        if let Some(quantize) = json["quantize"].as_str() {
            train.base.quantize = Quantize::parse(quantize).unwrap();
        }
    }

    /// PEFT's name for a matrix in `init.*` and `final.*`.
    fn matrices<'a>(&self, model: &Model, adapter: &'a Adapter) -> Vec<(String, &'a Tensor)> {
        let mut all = Vec::new();
        for (layer, pair) in &adapter.pairs {
            let parts = ["lora_A", "lora_B", "lora_magnitude_vector"];
            let module = if *layer == LayerName::Head {
                "lm_head".to_owned()
            } else {
                model.config.place(*layer).module
            };
            all.extend(pair.leaves().zip(parts).map(|(leaf, part)| (format!("{module}.{part}"), leaf)));
        }
        all
    }

    fn find(&self, prefix: &str, matrix: &str) -> Tensor {
        let infos = self.file.tensors();
        let found = infos.iter().find(|info| info.name.starts_with(prefix) && info.name.contains(matrix));
        let info = found.unwrap_or_else(|| panic!("no {prefix}{matrix} among {:?}", infos[0]));
        from_stored(&self.file.read(&info.name).unwrap(), Kind::Float, device())
    }

    pub(super) fn model(&self, kind: Kind) -> Model {
        model_in(&self.base, Storage { quantize: self.train.base.quantize, ..Storage::DENSE }, kind)
    }

    /// The initial adapter.
    fn start(&self, model: &Model) -> Adapter {
        let adapter = Adapter::zeros(&model.config, &self.forms, model.kind, device());
        for (name, matrix) in self.matrices(model, &adapter) {
            adapter.fill(matrix, &self.find("init.", &name));
        }
        adapter
    }

    /// Trains from the given start; returns the losses and the adapter.
    fn run(&self, model: &Model, token_budget: usize) -> (Vec<f64>, Adapter) {
        let mut adapter = self.start(model);
        let losses = self.train(model, &mut adapter, token_budget);
        (losses, adapter)
    }

    /// Trains an adapter; returns the losses and its final parameters.
    fn train_from(&self, model: &Model, adapter: &mut Adapter) -> (Vec<f64>, Tensor) {
        let losses = self.train(model, adapter, 4096);
        (losses, adapter.flat.copy())
    }

    fn train(&self, model: &Model, adapter: &mut Adapter, token_budget: usize) -> Vec<f64> {
        let run = Run {
            train: &self.train,
            lora: &self.lora,
            seed: 1,
            examples: &self.examples,
            checkpoints: None,
        };
        let mut losses = Vec::new();
        let mut members = [Member::new(model, adapter, run)];
        train((model, &mut []), &mut members, token_budget, &mut |_, event| {
            if let TrainingEvent::Step(report) = event {
                losses.push(report.loss);
            }
            Ok(())
        })
        .unwrap();
        losses
    }

    /// The reference's quantized runs have a wider tolerance.
    fn tolerance(&self) -> f64 {
        if self.train.base.quantize == Quantize::None { 1e-5 } else { 1e-4 }
    }
}

fn all() -> Vec<Trajectory> {
    folders_with("trajectory.safetensors", KNOWN).iter().map(|folder| Trajectory::open(folder)).collect()
}

#[test]
fn trajectories_equal_pefts_losses_and_weights() {
    for trajectory in all() {
        let (name, tolerance) = (name_of(&trajectory.folder), trajectory.tolerance());
        let model = trajectory.model(Kind::Float);
        let (losses, adapter) = trajectory.run(&model, 1);
        let expected = to_f32(&read(&trajectory.file, "losses")).unwrap();
        assert_eq!(losses.len(), expected.len());
        for (step, (loss, theirs)) in losses.iter().zip(&expected).enumerate() {
            let difference = (loss - f64::from(*theirs)).abs();
            assert!(difference <= tolerance, "{name}, step {step}: {loss} against {theirs}");
        }
        let mut worst: f64 = 0.0;
        for (matrix_name, matrix) in trajectory.matrices(&model, &adapter) {
            let difference = largest_difference(&matrix.detach(), &trajectory.find("final.", &matrix_name));
            assert!(difference <= tolerance, "{name}, {matrix_name}: {difference}");
            worst = worst.max(difference);
        }
        eprintln!("{name}: weights differ by {worst:.1e}");
    }
}

/// In double precision: the gradient of the backward pass is the slope of the loss, with half of the adapter's input
/// dropped. Masks that differ between forward and backward would fail this.
#[test]
fn gradients_under_dropout_are_finite_differences_of_the_loss() {
    for mut trajectory in all() {
        trajectory.lora.dropout = 0.5;
        trajectory.train.optimizer = Optimizer::Sgd;
        (trajectory.train.momentum, trajectory.train.weight_decay) = (0.0, 0.0);
        (trajectory.train.clip_norm, trajectory.train.learning_rate) = (0.0, 1.0);
        (trajectory.train.base.quantize, trajectory.lora.plus_ratio) = (Quantize::None, 1.0);
        trajectory.train.iterations = trajectory.train.batch_size;
        let model = trajectory.model(Kind::Double);
        let start = trajectory.start(&model);
        if start.pairs[0].1.magnitude.is_some() {
            // DoRA's row norms take no gradient by definition, though the loss depends on them.
            continue;
        }
        // One step of rate 1 moves by the gradient.
        let loss_at = |flat: &Tensor| {
            let mut adapter = trajectory.start(&model);
            tch::no_grad(|| adapter.flat.copy_(flat));
            let (losses, after) = trajectory.train_from(&model, &mut adapter);
            (losses[0], flat - after)
        };
        let (_, gradient) = loss_at(&start.flat);
        let direction = Tensor::from_slice(
            &(0..start.flat.numel() as u64)
                .map(|n| floor::random::Stream::new(5, floor::random::Purpose::Init, 0).normal(n))
                .collect::<Vec<f64>>(),
        );
        let step = 1e-6;
        let slope = (loss_at(&(&start.flat + &direction * step)).0
            - loss_at(&(&start.flat - &direction * step)).0)
            / (2.0 * step);
        let derivative = (gradient * &direction).sum(Kind::Double).double_value(&[]);
        assert!(
            (derivative - slope).abs() <= 1e-6 * slope.abs().max(1.0),
            "{}: {derivative} {slope}",
            name_of(&trajectory.folder)
        );
    }
}

/// In double precision: any token budget, activation checkpointing or not, dropout or not.
#[test]
fn a_trajectory_does_not_depend_on_how_a_window_is_cut_or_what_is_kept() {
    for mut trajectory in all() {
        for dropout in [0.0, 0.3] {
            trajectory.lora.dropout = dropout;
            let model = trajectory.model(Kind::Double);
            let (_, row_by_row) = trajectory.run(&model, 1);
            let mut others = vec![trajectory.run(&model, 50), trajectory.run(&model, 4096)];
            trajectory.train.gradient_checkpointing = true;
            others.push(trajectory.run(&model, 4096));
            trajectory.train.gradient_checkpointing = false;
            for (_, other) in others {
                let difference = largest_difference(&row_by_row.flat, &other.flat);
                assert!(
                    difference < 1e-10,
                    "{}, dropout {dropout}: {difference}",
                    name_of(&trajectory.folder)
                );
            }
        }
    }
}

/// Five runs over one base, with different rank, layers, rate, optimizer, dropout, order, batch and length; the second
/// diverges. Each equals its run alone, whether passes hold one row or many.
#[test]
fn a_job_is_the_same_alone_and_in_a_pack_whatever_its_neighbours_do() {
    for trajectory in
        all().iter().filter(|trajectory| trajectory.train.base.quantize == Quantize::None).take(2)
    {
        for (kind, tolerance) in [(Kind::Double, 1e-10), (Kind::Float, 1e-5)] {
            is_the_same_in_a_pack(trajectory, kind, tolerance);
        }
    }
}

fn is_the_same_in_a_pack(trajectory: &Trajectory, kind: Kind, tolerance: f64) {
    let model = trajectory.model(kind);
    let jobs = unequal(trajectory);
    let alone = |job: &(TrainConfig, LoraConfig, u64), budget: usize| {
        run_pack((&model, &mut []), std::slice::from_ref(job), &trajectory.examples, budget).swap_remove(0)
    };
    let together = run_pack((&model, &mut []), &jobs, &trajectory.examples, 300);
    for (number, (job, in_pack)) in jobs.iter().zip(&together).enumerate() {
        let (row_by_row, at_once) = (alone(job, 1), alone(job, 4096));
        if number == 1 {
            assert!([in_pack, &row_by_row, &at_once].iter().all(|ended| ended.is_none()), "it diverges");
            continue;
        }
        let [in_pack, row_by_row, at_once] =
            [in_pack, &row_by_row, &at_once].map(|ended| ended.as_ref().expect("it does not diverge"));
        for other in [in_pack, at_once] {
            let difference = largest_difference(row_by_row, other);
            let name = name_of(&trajectory.folder);
            assert!(difference <= tolerance, "{name}, {kind:?}, job {number}: {difference}");
        }
    }
}

/// The same five runs on two and on three devices, each a model of its own: windows of many passes, of one, and of fewer rows than there
/// are devices.
#[test]
fn jobs_are_the_same_on_one_device_and_on_several() {
    let kinds = [(Kind::Double, 1e-10), (Kind::Float, 1e-5)];
    for trajectory in
        all().iter().filter(|trajectory| trajectory.train.base.quantize == Quantize::None).take(2)
    {
        for (kind, tolerance) in kinds {
            let model = trajectory.model(kind);
            let jobs = unequal(trajectory);
            let one = run_pack((&model, &mut []), &jobs, &trajectory.examples, 4096);
            for (devices, budget) in [(2, 4096), (3, 4096), (2, 50)] {
                let mut replicas: Vec<Replica> =
                    (1..devices).map(|_| Replica::new(trajectory.model(kind))).collect();
                let several = run_pack((&model, &mut replicas), &jobs, &trajectory.examples, budget);
                for (number, (one, several)) in one.iter().zip(&several).enumerate() {
                    assert_eq!(one.is_some(), several.is_some(), "job {number} diverges on one side only");
                    let (Some(one), Some(several)) = (one, several) else { continue };
                    let difference = largest_difference(one, several);
                    let name = name_of(&trajectory.folder);
                    assert!(
                        difference <= tolerance,
                        "{name}, {kind:?}, {devices} devices, job {number}: {difference}"
                    );
                }
            }
        }
    }
}

/// Five different jobs of at most 20 steps.
fn unequal(trajectory: &Trajectory) -> Vec<(TrainConfig, LoraConfig, u64)> {
    use floor::job::LayerKind::{Head, Key, Mlp, Projection, Query, Value};
    let job = |rank, layers: &[floor::job::LayerKind], change: &dyn Fn(&mut TrainConfig, &mut LoraConfig)| {
        let mut train = trajectory.train.clone();
        let mut lora = LoraConfig::plain(rank, layers.iter().copied());
        (train.batch_size, train.iterations, train.clip_norm) = (3, 30, 0.0);
        (train.optimizer, train.learning_rate) = (Optimizer::Adamw, 1e-3);
        change(&mut train, &mut lora);
        (train, lora, rank)
    };
    vec![
        job(2, &[Query, Value], &|train, _| train.batch_size = 4),
        job(8, &[Query, Key, Value, Projection, Mlp], &|train, _| {
            (train.optimizer, train.learning_rate) = (Optimizer::Sgd, 1e200);
        }),
        job(4, &[Mlp, Head], &|train, lora| {
            (train.order, lora.dropout) = (RowOrder::Shuffle, 0.3);
        }),
        job(3, &[Key, Projection], &|train, lora| {
            (train.batch_size, train.iterations, lora.dropout) = (1, 20, 0.1);
            (train.optimizer, train.momentum, train.learning_rate) = (Optimizer::Sgd, 0.9, 0.05);
        }),
        job(16, &[Query, Key, Value, Projection, Mlp, Head], &|train, _| {
            (train.batch_size, train.loss, train.clip_norm) = (10, Loss::MicroBatch, 1.0);
        }),
    ]
}

/// Trains jobs together; returns each adapter's parameters, none for one that diverged.
fn run_pack(
    (model, replicas): (&Model, &mut [Replica]),
    jobs: &[(TrainConfig, LoraConfig, u64)],
    examples: &[Example],
    token_budget: usize,
) -> Vec<Option<Tensor>> {
    let initialized = |(_, lora, seed): &(TrainConfig, LoraConfig, u64)| {
        Adapter::initialized(model, lora, *seed, model.kind)
    };
    let mut adapters: Vec<Adapter> = jobs.iter().map(initialized).collect();
    let mut members = Vec::new();
    for (adapter, (train, lora, seed)) in adapters.iter_mut().zip(jobs) {
        let run = Run { train, lora, seed: *seed, examples, checkpoints: None };
        members.push(Member::new(model, adapter, run));
    }
    let mut ended: Vec<Option<Tensor>> = jobs.iter().map(|_| None).collect();
    train((model, replicas), &mut members, token_budget, &mut |number, event| {
        if let TrainingEvent::Trained(adapter, ..) = event {
            ended[number] = Some(adapter.flat.copy());
        }
        Ok(())
    })
    .unwrap();
    ended
}
