//! PEFT's adapter folders.

use floor::job::{LayerKind, LoraConfig, Quantize, Scaling, Variant};
use floor::pretrained::write_safetensors;
use floor::protocol::{MergeBase, MergeOrder};
use floor::random::{Purpose, Stream};
use tch::{Kind, Tensor};

use super::*;
use crate::lora::{read_adapter, write_adapter};
use crate::merge::merge;
use crate::tensor::wide;

/// The model in `train.json`, stored as configured there.
pub(super) fn base_of(folder: &Path) -> Model {
    let text = std::fs::read_to_string(folder.join("train.json")).unwrap_or_else(|_| "{}".to_owned());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let quantize = json["quantize"].as_str().map_or(Quantize::None, |word| Quantize::parse(word).unwrap());
    let base = folder.with_file_name(json["base"].as_str().unwrap_or("llama"));
    model_in(&base, Storage { quantize, ..Storage::DENSE }, Kind::Float)
}

#[test]
fn pefts_adapter_folders_load_and_give_its_logits() {
    for folder in folders_with("adapter_model.safetensors", &[]) {
        let model = base_of(&folder);
        let adapter = read_adapter(&folder, &model).unwrap_or_else(|error| panic!("{error}"));
        for file in ["merged_expected.safetensors", "adapter_expected.safetensors"] {
            let Ok(expected) = SafetensorsFile::open(&folder.join(file)) else { continue };
            let input = expected.read_integers("input_ids").unwrap();
            let logits = logits(&model, Some(&adapter), &input);
            let difference = largest_difference(&logits, &read(&expected, "logits"));
            eprintln!("{}, {file}: {difference:.1e}", name_of(&folder));
            assert!(difference <= 1e-4, "{}, {file}: {difference}", name_of(&folder));
        }
    }
}

/// An adapter on every layer with random matrices, as after training.
fn trained(model: &Model, lora: &LoraConfig) -> Adapter {
    let adapter = Adapter::initialized(model, lora, 3, wide(model.kind));
    for (number, (_, pair)) in adapter.pairs.iter().enumerate() {
        let stream = Stream::new(4, Purpose::Init, number as u64);
        let values: Vec<f64> = (0..pair.b.numel() as u64).map(|n| 0.2 * stream.normal(n)).collect();
        adapter.fill(&pair.b, &Tensor::from_slice(&values));
        if let Some(magnitude) = &pair.magnitude {
            adapter.fill(magnitude, &(magnitude.detach() * 1.1));
        }
    }
    adapter
}

fn every_layer(variant: Variant, scaling: Scaling) -> LoraConfig {
    use LayerKind::*;
    LoraConfig { variant, scaling, ..LoraConfig::plain(3, [Query, Value, Projection, Mlp, Head]) }
}

const FORMS: [(Variant, Scaling); 3] = [
    (Variant::Lora, Scaling::Standard),
    (Variant::Lora, Scaling::RankStabilized),
    (Variant::Dora, Scaling::Standard),
];

/// Layers that share a matrix become one adapter and are read back unchanged.
#[test]
fn an_adapter_that_is_written_in_pefts_form_is_the_same_when_it_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let input = (vec![2, 9], (2..20).collect());
    for folder in folders_with("expected.safetensors", &[]) {
        let model = model(&folder, Kind::Float);
        for (variant, scaling) in FORMS {
            let lora = every_layer(variant, scaling);
            let adapter = trained(&model, &lora);
            let path = scratch.path().join("adapter");
            write_adapter(&path, &adapter, &model, &lora, "base").unwrap();
            let read =
                read_adapter(&path, &model).unwrap_or_else(|error| panic!("{}: {error}", name_of(&folder)));
            let (adapted_logits, other) =
                (logits(&model, Some(&adapter), &input), logits(&model, Some(&read), &input));
            let difference = largest_difference(&adapted_logits, &other);
            assert!(difference < 1e-4, "{} {variant:?} {scaling:?}: {difference}", name_of(&folder));
            assert!(
                largest_difference(&adapted_logits, &logits(&model, None, &input)) > 1e-2,
                "it changes nothing"
            );
        }
    }
}

#[test]
fn a_merged_folder_has_the_logits_of_the_adapter_beside_its_base() {
    let scratch = tempfile::tempdir().unwrap();
    let input = (vec![2, 9], (2..20).collect());
    let out = scratch.path().join("merged");
    for (file, gguf) in [("expected.safetensors", false), ("gguf_expected.safetensors", true)] {
        for folder in folders_with(file, &[]) {
            let path = if gguf { folder.join("model.gguf") } else { folder.clone() };
            let checkpoint = Checkpoint::open(&path).unwrap();
            let model = model(&path, Kind::Float);
            for (variant, scaling) in FORMS {
                let lora = every_layer(variant, scaling);
                let adapter = trained(&model, &lora);
                let path = scratch.path().join("adapter");
                write_adapter(&path, &adapter, &model, &lora, "base").unwrap();
                let order = MergeOrder { adapter: path, base: MergeBase::Stored, out: out.clone() };
                merge(&checkpoint, &model, &adapter, &order).unwrap();
                let merged = super::model(&out, Kind::Float);
                std::fs::remove_dir_all(&out).unwrap();
                assert!(!merged.config.tied_head, "a head with an adapter is untied");
                let (adapted_logits, other) =
                    (logits(&model, Some(&adapter), &input), logits(&merged, None, &input));
                let difference = largest_difference(&adapted_logits, &other);
                // GGUF weights are rounded to bf16 once more.
                let bound = if gguf { 0.05 * adapted_logits.abs().max().double_value(&[]) } else { 1e-4 };
                assert!(difference < bound, "{} {variant:?}: {difference}", name_of(&folder));
            }
        }
    }
}

/// A 4-bit adapter was trained on the dequantized base: only merged into that does it give the same logits.
#[test]
fn an_adapter_over_four_bits_merges_onto_the_dequantized_base() {
    let scratch = tempfile::tempdir().unwrap();
    let input = (vec![2, 9], (2..20).collect());
    for folder in folders_with("four_bit.json", &[]) {
        let text = std::fs::read_to_string(folder.join("four_bit.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let quantize = Quantize::parse(json["quantize"].as_str().unwrap()).unwrap();
        let base = folder.with_file_name(json["base"].as_str().unwrap());
        let model = model_in(&base, Storage { quantize, ..Storage::DENSE }, Kind::Float);
        let lora = every_layer(Variant::Lora, Scaling::Standard);
        let adapter = trained(&model, &lora);
        let adapted_logits = logits(&model, Some(&adapter), &input);
        let mut differences = Vec::new();
        for merge_base in [MergeBase::Dequantized(quantize), MergeBase::Stored] {
            let order = MergeOrder {
                adapter: scratch.path().join("unused"),
                base: merge_base,
                out: scratch.path().join("merged"),
            };
            merge(&Checkpoint::open(&base).unwrap(), &model, &adapter, &order).unwrap();
            let merged = super::model(&order.out, Kind::Float);
            std::fs::remove_dir_all(&order.out).unwrap();
            differences.push(largest_difference(&adapted_logits, &logits(&merged, None, &input)));
        }
        assert!(differences[0] < 1e-4 && differences[1] > 1e-2, "{}: {differences:?}", name_of(&folder));
    }
}

/// Names, shapes and values.
type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

#[test]
fn missing_unknown_and_transposed_tensors_are_errors() {
    let folder = own().join("qwen2_dora_nf4");
    let model = base_of(&folder);
    let file = open(&folder.join("adapter_model.safetensors"));
    let scratch = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    std::fs::write(scratch.path().join("adapter_config.json"), config).unwrap();
    let tensors: Tensors = file
        .tensors()
        .iter()
        .map(|info| {
            let shape = info.shape.iter().map(|&n| n as usize).collect();
            (info.name.clone(), shape, crate::tensor::to_f32(&read(&file, &info.name)).unwrap())
        })
        .collect();
    let error = |change: &dyn Fn(&mut Tensors)| {
        let mut changed = tensors.clone();
        change(&mut changed);
        let path = scratch.path().join("adapter_model.safetensors");
        write_safetensors(&path, &changed, Default::default()).unwrap();
        read_adapter(scratch.path(), &model).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error(&|_| {}), "");
    assert!(error(&|tensors| drop(tensors.remove(0))).contains("has no tensor"));
    assert!(error(&|tensors| tensors[0].1.reverse()).contains("transposed"));
    let unknown = error(&|tensors| tensors.push(("base_model.model.other".into(), vec![1], vec![0.0])));
    assert!(unknown.contains("base_model.model.other"), "{unknown}");
}
