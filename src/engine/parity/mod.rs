//! Reference outputs of transformers, PEFT, bitsandbytes and lm_eval against the engine's outputs.
//!
//! Reference values are in folders of one layout: the project's small ones in `tests/reference`, and those in the
//! folder named by `LORAGRID_REFERENCE` (documents in `LORAGRID_DATA`, the real model in `LORAGRID_TEST_MODEL`).
//! Without it a test prints that it was skipped. `make test-parity` fails if nothing was read there.

mod adapters;
mod four_bit;
mod gguf;
mod lm_eval;
mod logits;
mod training;

use std::path::{Path, PathBuf};

use floor::pretrained::{Checkpoint, SafetensorsFile};
use floor::protocol::{MergeBase, MergeOrder};
use tch::{Device, Kind, Tensor};

use crate::lora::{Active, Adapter};
use crate::merge::merge;
use crate::model::{Batch, Model, Storage, load};
use crate::tensor::from_stored;

/// A path inside the folder that a variable names, or prints that the test was skipped.
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

/// The project's own reference values.
fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference")
}

/// Every folder with this file: the project's own and those of `LORAGRID_REFERENCE`, under any name; a known folder
/// that is missing is skipped by name.
fn folders_with(file: &str, known: &[&str]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let outside = outside("LORAGRID_REFERENCE", "");
    for name in known {
        if outside.as_ref().is_some_and(|root| !root.join(name).is_dir()) {
            eprintln!("skipped: {name}: LORAGRID_REFERENCE has no such folder");
        }
    }
    for root in std::iter::once(own()).chain(outside) {
        let Ok(entries) = std::fs::read_dir(&root) else { continue };
        folders.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.join(file).is_file()));
    }
    folders.sort();
    folders
}

/// The tests' device: `LORAGRID_PARITY_DEVICE`, such as `cuda:0`, else the CPU.
fn device() -> Device {
    match std::env::var("LORAGRID_PARITY_DEVICE").as_deref().unwrap_or("cpu") {
        "cpu" => Device::Cpu,
        name => {
            let index = name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
            Device::Cuda(index.expect("LORAGRID_PARITY_DEVICE is cpu or cuda:N"))
        }
    }
}

/// The checkpoint; a GGUF file becomes the bf16 folder used for the reference values: a merge without an adapter.
fn in_bf16(path: &Path, scratch: &Path) -> Checkpoint {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"));
    if checkpoint.gguf().is_none() {
        return checkpoint;
    }
    let model = model(path, Kind::Float);
    let nothing = Adapter::zeros(&model.config, &[], Kind::Float, device());
    let order =
        MergeOrder { adapter: scratch.to_owned(), base: MergeBase::Stored, out: scratch.join("in_bf16") };
    merge(&checkpoint, &model, &nothing, &order).unwrap();
    Checkpoint::open(&order.out).unwrap_or_else(|error| panic!("{error}"))
}

fn name_of(folder: &Path) -> String {
    let part = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{}/{}", folder.parent().map(part).unwrap_or_default(), part(folder))
}

fn model(folder: &Path, kind: Kind) -> Model {
    model_in(folder, Storage::DENSE, kind)
}

fn model_in(folder: &Path, storage: Storage, kind: Kind) -> Model {
    let checkpoint = Checkpoint::open(folder).unwrap_or_else(|error| panic!("{error}"));
    load(&checkpoint, storage, kind, device(), &mut || Ok(())).unwrap()
}

/// Logits `[rows, tokens, vocab]` of sequences of equal length.
fn logits(model: &Model, adapter: Option<&Adapter>, input_ids: &(Vec<u64>, Vec<i64>)) -> Tensor {
    let (shape, ids) = input_ids;
    let tokens: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    let rows: Vec<&[u32]> = tokens.chunks(shape[1] as usize).collect();
    tch::no_grad(|| {
        let active = adapter.map(Active::of);
        let states = model.hidden_states(&Batch::new(&rows, device()), active.as_ref());
        model.logits(&states, active.as_ref()).view([shape[0] as i64, shape[1] as i64, -1])
    })
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn read(file: &SafetensorsFile, name: &str) -> Tensor {
    from_stored(&file.read(name).unwrap(), Kind::Float, device())
}

fn open(path: &Path) -> SafetensorsFile {
    SafetensorsFile::open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Set by `make test-parity`: there must be something to read.
#[test]
fn the_reference_folder_has_something_to_read() {
    if std::env::var_os("LORAGRID_PARITY").is_none() {
        return;
    }
    let root = reference("").expect("LORAGRID_REFERENCE names a folder");
    let found = |file| folders_with(file, &[]).iter().filter(|path| path.starts_with(&root)).count();
    let read = found("expected.safetensors") + found("trajectory.safetensors");
    assert!(read > 0 || root.join("quant4.safetensors").is_file(), "nothing to read in {}", root.display());
}
