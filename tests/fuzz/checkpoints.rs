//! Headers of GGUF and safetensors files, and `config.json`. A file that opens is also read to its end.

use std::path::{Path, PathBuf};

use loragrid::pretrained::{Checkpoint, ModelTokenizer, SafetensorsFile};
use loragrid::random::Stream;

use super::fuzz;

fn reference(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(inside)
}

/// Values written into lengths and offsets.
const NUMBERS: [u64; 8] = [0, 1, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 40, u64::MAX / 2, u64::MAX];

/// The bytes of a file with a few changes, most of them in its header.
fn damaged(bytes: &[u8], random: Stream) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in 0..=random.below(0, 5) {
        let draw = |n: u64, below: usize| random.below(8 * change + n, below.max(1) as u64) as usize;
        let reach = if draw(1, 4) == 0 { bytes.len() } else { bytes.len().min(3000) };
        let at = draw(2, reach);
        match draw(3, 5) {
            0 => bytes.truncate(at),
            1 => {
                let number = NUMBERS[draw(4, NUMBERS.len())].to_le_bytes();
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            2 => {
                bytes.insert(at, draw(5, 256) as u8);
            }
            3 => {
                let end = (at + draw(6, 16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << draw(7, 8);
                }
            }
        }
    }
    bytes
}

/// Whether a checkpoint opens; all of its content is read.
fn opens(path: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    for (name, part) in checkpoint.config().tensors() {
        // Any error is fine.
        let _ = checkpoint.read(name, part);
    }
    let _ = ModelTokenizer::open(&checkpoint);
    true
}

#[test]
fn no_damaged_gguf_file_makes_the_program_panic() {
    let names = ["gguf_llama", "gguf_qwen2", "gguf_qwen3", "gguf_gemma3"];
    let corpus = names.map(|name| std::fs::read(reference(name).join("model.gguf")).unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("model.gguf");
    let mut good = 0;
    let tries = fuzz("GGUF headers", |random| {
        let whole = &corpus[random.below(99, corpus.len() as u64) as usize];
        std::fs::write(&path, damaged(whole, random)).unwrap();
        good += u64::from(opens(&path));
    });
    eprintln!("{tries} files, {good} of them opened");
    assert!(tries > 50 && good < tries);
}

#[test]
fn no_damaged_safetensors_file_makes_the_program_panic() {
    let names = ["llama", "phi3", "falcon_40b", "llama_in_nf4", "mistral_in_fp4_dq"];
    let scratch = tempfile::tempdir().unwrap();
    let weights = scratch.path().join("model.safetensors");
    let mut good = 0;
    let corpus = names.map(|name| {
        let read = |file: &str| std::fs::read(reference(name).join(file)).unwrap();
        (read("config.json"), read("model.safetensors"))
    });
    let tries = fuzz("safetensors headers and configurations", |random| {
        let (config, tensors) = &corpus[random.below(99, corpus.len() as u64) as usize];
        let hurts_config = random.below(98, 3) == 0;
        let config = if hurts_config { damaged(config, random) } else { config.clone() };
        let tensors = if hurts_config { tensors.clone() } else { damaged(tensors, random) };
        std::fs::write(scratch.path().join("config.json"), config).unwrap();
        std::fs::write(&weights, tensors).unwrap();
        if let Ok(file) = SafetensorsFile::open(&weights) {
            for info in file.tensors() {
                let _ = file.read(&info.name);
            }
        }
        good += u64::from(opens(scratch.path()));
    });
    eprintln!("{tries} files, {good} of them opened");
    assert!(tries > 50 && good < tries);
}
