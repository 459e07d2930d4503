//! PEFT's own adapter folders.

use loragrid::job::Quantize;
use tch::Kind;

use super::*;
use crate::lora::read_adapter;

/// The model that `train.json` names, held as it says.
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
            let own = logits(&model, Some(&adapter), &input);
            let difference = largest_difference(&own, &read(&expected, "logits"));
            eprintln!("{}, {file}: {difference:.1e}", name_of(&folder));
            assert!(difference <= 1e-4, "{}, {file}: {difference}", name_of(&folder));
        }
    }
}
