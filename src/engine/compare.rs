//! Compares two models: log-probabilities of one are saved to a file and compared with those of the other.

use std::collections::HashMap;
use std::path::Path;

use floor::passes::plan_passes;
use floor::pretrained::{SafetensorsFile, write_safetensors};
use floor::protocol::{CompareOrder, Difference};
use tch::{Device, Kind, Tensor};

use crate::failure::EngineError;
use crate::lora::{Active, Adapter};
use crate::model::{Batch, Model};
use crate::tensor::{from_stored, to_f32};

const LOGITS: &str = "logits";
/// Maximum tokens per pass.
const TOKEN_BUDGET: usize = 512;

/// Runs the order. Errors: a file that cannot be written or read, a different vocabulary.
pub(crate) fn compare(
    model: &Model,
    adapter: Option<&Adapter>,
    order: &CompareOrder,
) -> Result<Option<Difference>, EngineError> {
    let logits = all_logits(model, adapter, &order.sequences);
    if !order.compare {
        let shape = logits.size().iter().map(|&n| n as usize).collect();
        let tensors = [(LOGITS.to_owned(), shape, to_f32(&logits)?)];
        let io = |source| EngineError::Io { what: format!("writing {}", order.file.display()), source };
        write_safetensors(&order.file, &tensors, HashMap::new()).map_err(io)?;
        return Ok(None);
    }
    difference(&read(&order.file)?, &logits).map(Some)
}

fn read(file: &Path) -> Result<Tensor, EngineError> {
    Ok(from_stored(&SafetensorsFile::open(file)?.read(LOGITS)?, Kind::Float, Device::Cpu))
}

/// Logits `[tokens of all sequences, vocab]`, in sequence order.
fn all_logits(model: &Model, adapter: Option<&Adapter>, sequences: &[Vec<u32>]) -> Tensor {
    let active = adapter.map(Active::of);
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let mut parts: Vec<Option<Tensor>> = sequences.iter().map(|_| None).collect();
    tch::no_grad(|| {
        for pass in plan_passes(&lengths, TOKEN_BUDGET) {
            let rows: Vec<&[u32]> = pass.rows.iter().map(|row| sequences[row.index].as_slice()).collect();
            let states = model.hidden_states(&Batch::new(&rows, model.device()), active.as_ref());
            let logits = model.logits(&states, active.as_ref()).to_kind(Kind::Float).to_device(Device::Cpu);
            let lengths: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
            for (row, part) in pass.rows.iter().zip(logits.split_with_sizes(lengths.as_slice(), 0)) {
                parts[row.index] = Some(part);
            }
        }
    });
    Tensor::cat(&parts.into_iter().flatten().collect::<Vec<_>>(), 0)
}

/// `first` and `second` are logits `[positions, vocab]`.
fn difference(first: &Tensor, second: &Tensor) -> Result<Difference, EngineError> {
    if first.size() != second.size() {
        let (first_size, second_size) = (first.size(), second.size());
        let reason = format!("the models have logits of the shapes {first_size:?} and {second_size:?}");
        return Err(EngineError::Adapter { path: "the second model".to_owned(), reason });
    }
    let centred = |x: &Tensor| x - x.mean_dim(-1, true, Kind::Float);
    let largest = (centred(first) - centred(second)).abs().max().double_value(&[]);
    let (p, q) = (first.log_softmax(-1, Kind::Double), second.log_softmax(-1, Kind::Double));
    let kl = (p.exp() * (&p - &q)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
    let same = first.argmax(-1, false).eq_tensor(&second.argmax(-1, false));
    Ok(Difference {
        largest_logit: largest,
        kl: kl.mean(Kind::Double).double_value(&[]),
        top1: same.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]),
        positions: first.size()[0] as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_models_are_not_apart_and_a_shift_of_all_logits_is_nothing() {
        let logits = Tensor::from_slice(&[1.0f32, 2.0, 0.0, 3.0, -1.0, 0.5]).view([2, 3]);
        let difference = difference(&logits, &(&logits + 7.0)).unwrap();
        assert!(difference.largest_logit < 1e-5 && difference.kl.abs() < 1e-9, "{difference:?}");
        assert_eq!((difference.top1, difference.positions), (1.0, 2));
    }

    #[test]
    fn the_divergence_is_that_of_the_definition() {
        let first = Tensor::from_slice(&[0.5f32.ln(), 0.5f32.ln()]).view([1, 2]);
        let second = Tensor::from_slice(&[0.9f32.ln(), 0.1f32.ln()]).view([1, 2]);
        let expected = 0.5 * (0.5f64 / 0.9).ln() + 0.5 * (0.5f64 / 0.1).ln();
        assert!((difference(&first, &second).unwrap().kl - expected).abs() < 1e-6);
    }

    #[test]
    fn another_vocabulary_is_an_error() {
        let zeros = |shape: [i64; 2]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        assert!(difference(&zeros([1, 2]), &zeros([1, 3])).is_err());
    }
}
