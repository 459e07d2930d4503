//! Dropout masks that depend only on row, position, layer and feature. A row has the same mask in any pass, and a
//! resumed run continues with the same masks.

use floor::random::{Purpose, Stream};
use tch::{Kind, Tensor};

use crate::shim::{Mask, MaskRun};

/// Consecutive positions of one row of a run in a pass.
#[derive(Debug, Clone, Copy)]
struct Positions {
    /// The row's random stream.
    stream: Stream,
    first: u64,
    count: i64,
}

/// The masks for some rows of a pass.
#[derive(Debug, Clone)]
pub(crate) struct Masks {
    /// Probability that an element is dropped.
    p: f64,
    seed: u64,
    positions: Vec<Positions>,
}

impl Masks {
    /// Empty masks for a run with this seed.
    pub(crate) fn new(p: f64, seed: u64) -> Self {
        Self { p, seed, positions: Vec::new() }
    }

    /// Adds positions of the run's row with this index, counted from 0.
    pub(crate) fn add(&mut self, place: u64, first: usize, count: usize) {
        let stream = Stream::new(self.seed, Purpose::Dropout, place);
        self.positions.push(Positions { stream, first: first as u64, count: count as i64 });
    }

    /// The masks of single positions, from those added one by one.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self { p: self.p, seed: self.seed, positions: self.positions[range].to_vec() }
    }

    /// The input mask of layer number `layer`.
    pub(crate) fn of_layer(&self, layer: usize) -> Mask {
        let run = |positions: &Positions| {
            let key = positions.stream.part(layer as u64).key();
            MaskRun { key, position: positions.first, count: positions.count }
        };
        Mask { p: self.p, runs: self.positions.iter().map(run).collect() }
    }

    /// The mask as factors, 0 or 1/(1−p), `[rows, width]`.
    pub(crate) fn factors(&self, layer: usize, width: usize, kind: Kind) -> Tensor {
        let keep = (1.0 / (1.0 - self.p)) as f32;
        // An element is dropped if its top 32 bits are below p.
        let threshold = (self.p * (1u64 << 32) as f64) as u64;
        let mut values = Vec::new();
        for positions in &self.positions {
            let stream = positions.stream.part(layer as u64);
            let first = positions.first * width as u64;
            let elements = first..first + positions.count as u64 * width as u64;
            let factor = |element| if stream.bits(element) >> 32 < threshold { 0.0 } else { keep };
            values.extend(elements.map(factor));
        }
        Tensor::from_slice(&values).view([-1, width as i64]).to_kind(kind)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::shim::{Frozen, LowRank};

    #[test]
    fn a_row_keeps_its_mask_in_any_pass() {
        let (mut alone, mut second) = (Masks::new(0.5, 9), Masks::new(0.5, 9));
        alone.add(7, 0, 3);
        second.add(1, 0, 5);
        second.add(7, 0, 3);
        let (alone, second) = (alone.factors(2, 8, Kind::Float), second.factors(2, 8, Kind::Float));
        assert_eq!(second.narrow(0, 5, 3), alone);
    }

    #[test]
    fn half_of_the_elements_are_dropped_and_the_rest_doubled() {
        let mut masks = Masks::new(0.5, 9);
        masks.add(0, 0, 100);
        let mask = masks.factors(0, 100, Kind::Float);
        let mean = mask.mean(Kind::Float).double_value(&[]);
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert_eq!(mask.max().double_value(&[]), 2.0);
    }

    /// Compares the kernel that generates masks in place with the same values generated one by one.
    #[test]
    fn the_kernels_masks_are_those_of_the_stream() {
        let mut masks = Masks::new(0.3, 4);
        masks.add(11, 0, 3);
        masks.add(2, 5, 2);
        let width = 70;
        let options = (Kind::Double, Device::Cpu);
        let x = Tensor::ones([5, width], options);
        let identity = Tensor::eye(width, options);
        let frozen = Frozen::new(Some(&Tensor::zeros([width, width], options)), &[], None).unwrap();
        let mask = Some(masks.of_layer(6));
        let part = LowRank { a: &identity, b: &identity, scale: 1.0, rows: 0..5, first_column: 0, mask };
        let seen = frozen.forward(&x, &[part]);
        assert_eq!(seen, masks.factors(6, width as usize, Kind::Double));
    }
}
