//! 4-bit weights against bitsandbytes, bit for bit.

use floor::quant::Code;
use tch::{Kind, Tensor};

use super::*;
use crate::lora::Active;
use crate::model::FourBitMatrix;

const FORMS: [(&str, Code, bool); 4] = [
    ("nf4", Code::Nf4, false),
    ("nf4.dq", Code::Nf4, true),
    ("fp4", Code::Fp4, false),
    ("fp4.dq", Code::Fp4, true),
];

#[test]
fn codes_and_values_are_those_of_bitsandbytes_to_the_bit() {
    let outside = reference("quant4.safetensors");
    for path in std::iter::once(own().join("quant4.safetensors")).chain(outside) {
        let file = open(&path);
        let infos = file.tensors();
        let sources = infos.iter().filter_map(|info| info.name.strip_suffix(".weight"));
        for source in sources {
            let stored = file.read(&format!("{source}.weight")).unwrap();
            // In the source's dtype: no conversion before quantization.
            let kind = match stored.elements {
                floor::pretrained::Elements::F32(_) => Kind::Float,
                floor::pretrained::Elements::F16(_) => Kind::Half,
                floor::pretrained::Elements::Bf16(_) => Kind::BFloat16,
            };
            let weight = from_stored(&stored, kind, device());
            for (form, code, double) in FORMS {
                let named = |part: &str| format!("{source}.{form}.{part}");
                if !file.contains(&named("packed")) {
                    continue;
                }
                let matrix = FourBitMatrix::quantize(&weight, code, double).unwrap();
                let (_, packed) = file.read_bytes(&named("packed")).unwrap();
                let codes = Vec::<u8>::try_from(matrix.packed()).unwrap();
                assert!(codes == packed, "{}: {source} {form}: codes differ", path.display());
                let expected = file.read(&named("dequantized")).unwrap();
                let expected = from_stored(&expected, kind, device());
                assert!(
                    matrix.dense(kind).equal(&expected.view_as(&weight)),
                    "{}: {source} {form}: values differ",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_codebooks_are_bitsandbytes_own() {
    let Some(path) = reference("quant4.safetensors") else { return };
    let file = open(&path);
    for (name, code) in [("codebook.nf4", Code::Nf4), ("codebook.fp4", Code::Fp4)] {
        let values = Tensor::from_slice(code.values());
        assert!(read(&file, name).view([-1]).equal(&values), "{name}");
    }
    let dynamic = Tensor::from_slice(&floor::quant::dynamic_code());
    assert!(read(&file, "f32.nf4.dq.nested_code").equal(&dynamic));
}

/// In double precision: a frozen layer dequantized again in backward has the same gradient as a dense one.
#[test]
fn a_four_bit_layer_has_the_output_and_gradient_of_its_dense_form() {
    use floor::job::{Dequantize, Quantize};
    for folder in folders_with("expected.safetensors", &[]) {
        let form = |dequantize| Storage { quantize: Quantize::Nf4Double, quantize_head: true, dequantize };
        let each = model_in(&folder, form(Dequantize::EachPass), Kind::Double);
        let kept = model_in(&folder, form(Dequantize::Keep), Kind::Double);
        let rows: [&[u32]; 2] = [&[5, 6, 7, 8, 9], &[10, 11, 12]];
        let lora = floor::job::LoraConfig::plain(2, [floor::job::LayerKind::Query]);
        let run = |model: &Model| {
            let adapter = Adapter::initialized(model, &lora, 1, Kind::Double);
            adapter.fill(&adapter.pairs[0].1.b, &adapter.pairs[0].1.b.ones_like());
            let active = Active::of(&adapter);
            let states = model.hidden_states(&Batch::new(&rows, device()), Some(&active));
            let logits = model.logits(&states, Some(&active));
            let gradients =
                Tensor::run_backward(&[logits.square().sum(Kind::Double)], &adapter.leaves(), false, false);
            (logits.detach(), Tensor::cat(&gradients.iter().map(|g| g.view([-1])).collect::<Vec<_>>(), 0))
        };
        let (of_each, of_kept) = (run(&each), run(&kept));
        assert!(largest_difference(&of_each.0, &of_kept.0) < 1e-10, "{}", name_of(&folder));
        let scale = of_kept.1.abs().max().double_value(&[]);
        assert!(largest_difference(&of_each.1, &of_kept.1) < 1e-10 * scale.max(1.0), "{}", name_of(&folder));
    }
}

/// A checkpoint stored in 4 bits by bitsandbytes gives the same logits as quantizing the same weights here.
#[test]
fn a_checkpoint_in_four_bits_loads_as_it_is() {
    for folder in folders_with("four_bit.json", &[]) {
        let text = std::fs::read_to_string(folder.join("four_bit.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let quantize = floor::job::Quantize::parse(json["quantize"].as_str().unwrap()).unwrap();
        let base = folder.with_file_name(json["base"].as_str().unwrap());
        let storage = Storage { quantize, ..Storage::DENSE };
        let input = (vec![1, 12], (3..15).collect());
        let stored = logits(&model(&folder, Kind::Float), None, &input);
        let quantized = logits(&model_in(&base, storage, Kind::Float), None, &input);
        assert!(stored.equal(&quantized), "{}", name_of(&folder));
    }
}
