//! Logits of every family against transformers.

use floor::pretrained::Family;
use tch::{Kind, Tensor};

use super::*;
use crate::model::{PagedBatch, Sequence};

const KNOWN: &[&str] = &[
    "llama",
    "llama_gqa_tied",
    "llama3_rope",
    "llama_published_config",
    "llama3_published_config",
    "llama_for_4bit",
    "mistral",
    "phi",
    "phi3",
    "falcon_7b",
    "falcon_new",
    "gpt_neox",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "olmo2",
    "smollm3",
];

#[test]
fn logits_equal_transformers_in_single_precision() {
    for folder in folders_with("expected.safetensors", KNOWN) {
        let expected = open(&folder.join("expected.safetensors"));
        let input = expected.read_integers("input_ids").unwrap();
        let logits = logits(&model(&folder, Kind::Float), None, &input);
        let difference = largest_difference(&logits, &read(&expected, "logits"));
        eprintln!("{}: {difference:.1e}", name_of(&folder));
        assert!(difference <= 1e-4, "{}: {difference}", name_of(&folder));
    }
}

#[test]
fn logits_in_bf16_stay_as_close_as_transformers_own() {
    for folder in folders_with("expected.safetensors", KNOWN) {
        let expected = open(&folder.join("expected.safetensors"));
        if !expected.contains("logits_bf16") {
            continue;
        }
        let input = expected.read_integers("input_ids").unwrap();
        let exact = read(&expected, "logits");
        let error = (logits(&model(&folder, Kind::BFloat16), None, &input) - &exact).abs();
        let theirs = (read(&expected, "logits_bf16") - &exact).abs();
        let most = |x: &Tensor| x.max().double_value(&[]);
        let mean = |x: &Tensor| x.mean(Kind::Float).double_value(&[]);
        let ratios = (most(&error) / most(&theirs), mean(&error) / mean(&theirs));
        eprintln!("{}: largest {:.2}, mean {:.2} of transformers' own", name_of(&folder), ratios.0, ratios.1);
        assert!(ratios.0 <= 1.5 && ratios.1 <= 1.5, "{}: {ratios:?}", name_of(&folder));
    }
}

/// In double precision: any other sequences in the pass, any order.
#[test]
fn sequences_laid_end_to_end_do_not_see_each_other() {
    for folder in folders_with("expected.safetensors", &[]) {
        let model = model(&folder, Kind::Double);
        let rows: Vec<Vec<u32>> = [24, 3, 3, 40, 1].iter().map(|n| (5..5 + n).collect()).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let states =
            |rows: &[&[u32]]| tch::no_grad(|| model.hidden_states(&Batch::new(rows, device()), None));
        let alone: Vec<Tensor> = rows.iter().map(|row| states(&[row])).collect();
        let difference = largest_difference(&states(&rows), &Tensor::cat(&alone, 0));
        assert!(difference < 1e-12, "{}: {difference}", name_of(&folder));
    }
}

/// In double precision: token by token with a cache equals all at once.
#[test]
fn a_cache_continues_a_sequence_as_if_it_were_whole() {
    for folder in folders_with("expected.safetensors", &[]) {
        let model = model(&folder, Kind::Double);
        let tokens: Vec<u32> = (3..43).collect();
        let (whole, parts) = tch::no_grad(|| {
            let whole = model.hidden_states(&Batch::new(&[&tokens], device()), None);
            let (pages, mut sequence) = (model.pages(), Sequence::default());
            let mut next = |tokens: &[u32]| {
                let mut batch = PagedBatch::new(&pages);
                batch.add(&mut sequence, tokens);
                let tensors = batch.finish(model.row_rule(), device());
                model.walk(&tensors, None, &mut batch).narrow(0, 0, tokens.len() as i64)
            };
            let mut parts = vec![next(&tokens[..10])];
            parts.extend(tokens[10..].iter().map(|token| next(&[*token])));
            (whole, parts)
        });
        let difference = largest_difference(&Tensor::cat(&parts, 0), &whole);
        assert!(difference < 1e-12, "{}: {difference}", name_of(&folder));
    }
}

#[test]
fn every_family_has_a_folder_of_the_projects_own() {
    use Family::*;
    let all =
        [Llama, Mistral, Phi, Phi3, Falcon, GptNeox, Qwen2, Qwen3, Gemma, Gemma2, Gemma3Text, Olmo2, Smollm3];
    let folders = folders_with("expected.safetensors", &[]);
    let families: Vec<Family> = folders
        .iter()
        .filter(|folder| folder.starts_with(super::own()))
        .map(|folder| Checkpoint::open(folder).unwrap().config().family)
        .collect();
    for family in all {
        assert!(families.contains(&family), "{family:?}");
    }
}
