//! A decoder block as one node of the autograd graph.

use std::ffi::c_void;

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use super::ffi::{
    RawAttention, RawBlock, RawBlockParts, RawLowRank, RawRun, computed, kind_number, loragrid_block,
    loragrid_has_block, pointer_or_null,
};
use super::{AttentionForm, Frozen, LowRank, RmsForm};

/// What a block is besides its matrices.
pub(crate) struct BlockShape<'a> {
    /// The weights `[hidden]` of the norms before attention and before the feed-forward layers.
    pub(crate) norms: [&'a Tensor; 2],
    pub(crate) eps: f64,
    pub(crate) norm: RmsForm,
    pub(crate) attention: AttentionForm,
}

/// Whether [`block`] can compute a block of these groups in this dtype: they are on a CPU that has micro-kernels for it.
pub(crate) fn has_block(groups: [&Frozen; 4], kind: Kind) -> bool {
    let pointers = groups.map(Frozen::as_ptr);
    // SAFETY: the objects live as long as the borrows.
    unsafe { loragrid_has_block(pointers.as_ptr(), kind_number(kind)) }
}

/// The states `[tokens, hidden]` after a pre-norm block with gated SiLU, for the groups of queries, keys and values, of the
/// output, of gate and up, and of down, each with its adapters. Rows go through norms and products in tiles of 128, so that
/// a tile stays in the cache of one thread; gradients of adapters are sums over tiles in order, whatever the threads.
/// `turn` and `runs` are those of [`super::attention`].
pub(crate) fn block(
    groups: [&Frozen; 4],
    shape: &BlockShape<'_>,
    parts: [&[LowRank<'_>]; 4],
    states: &Tensor,
    turn: Option<(&Tensor, &Tensor)>,
    runs: impl Iterator<Item = (i64, i64)>,
) -> Tensor {
    let pointers: [*const c_void; 4] = groups.map(Frozen::as_ptr);
    let raw: Vec<RawLowRank> = parts.iter().flat_map(|parts| parts.iter()).map(LowRank::raw).collect();
    let raw = RawBlockParts { parts: raw.as_ptr(), counts: parts.map(|parts| parts.len() as i64) };
    let runs: Vec<RawRun> = runs.map(|(count, length)| RawRun { count, length }).collect();
    let AttentionForm { heads, kv_heads, head_dim, scale } = shape.attention;
    let form = RawBlock {
        before_attention: shape.norms[0].as_ptr(),
        before_mlp: shape.norms[1].as_ptr(),
        eps: shape.eps,
        norm: shape.norm as i32,
        attention: RawAttention { heads, kv_heads, head_dim, scale },
    };
    let inputs: [*const C_tensor; 3] =
        [states.as_ptr(), pointer_or_null(turn.map(|turn| turn.0)), pointer_or_null(turn.map(|turn| turn.1))];
    // SAFETY: tensors, objects and runs outlive the call, which keeps reference counts of the tensors and objects and its
    // own copy of the runs' data.
    computed(|message, size| unsafe {
        loragrid_block(
            pointers.as_ptr(),
            &form,
            &raw,
            inputs.as_ptr(),
            runs.as_ptr(),
            runs.len() as i64,
            message,
            size,
        )
    })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::shim::{Mask, MaskRun, attention, gated_silu, rms_norm, vector_jacobian};

    const HIDDEN: i64 = 24;
    const INNER: i64 = 34;
    const HEADS: AttentionForm = AttentionForm { heads: 4, kv_heads: 2, head_dim: 6, scale: 0.3 };
    /// Count and length of sequences: one that fills a tile, short ones, one across tiles.
    const RUNS: [(i64, i64); 4] = [(1, 128), (3, 1), (2, 37), (1, 179)];
    const ROWS: i64 = 128 + 3 + 74 + 179;

    /// Numbers without a pattern between −1 and 1.
    fn numbers(shape: &[i64], from: i64, kind: Kind) -> Tensor {
        let count: i64 = shape.iter().product();
        let places = Tensor::arange(count, (Kind::Double, Device::Cpu)) + from;
        ((places * 1.618).sin() * 0.9).view(shape).to_kind(kind)
    }

    struct Fixture {
        groups: Vec<Frozen>,
        norms: [Tensor; 2],
        turn: [Tensor; 2],
        states: Tensor,
        /// A and B of each part, each with its group.
        adapters: Vec<(usize, Tensor, Tensor)>,
    }

    impl Fixture {
        fn new(kind: Kind) -> Self {
            let width = (HEADS.heads + 2 * HEADS.kv_heads) * HEADS.head_dim;
            let shapes = [
                (width, HIDDEN),
                (HIDDEN, HEADS.heads * HEADS.head_dim),
                (2 * INNER, HIDDEN),
                (HIDDEN, INNER),
            ];
            let group = |(n, (out, input)): (usize, &(i64, i64))| {
                let weight = numbers(&[*out, *input], 7 * n as i64, kind) * 0.3;
                let bias = numbers(&[*out], 5, kind);
                Frozen::new(Some(&weight), &[], (n == 0).then_some(&bias)).unwrap()
            };
            let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
            let adapter = |group: usize, columns: i64, rank: i64| {
                let input = shapes[group].1;
                let leaf = |shape: &[i64], from| (numbers(shape, from, wide) * 0.4).set_requires_grad(true);
                (group, leaf(&[rank, input], 3 + columns), leaf(&[columns, rank], 11 + rank))
            };
            let phase = numbers(&[ROWS, 4], 1, Kind::Double) * 3.0;
            Self {
                groups: shapes.iter().enumerate().map(group).collect(),
                norms: [numbers(&[HIDDEN], 2, kind), numbers(&[HIDDEN], 9, kind) + 1.0],
                turn: [phase.cos().to_kind(kind), phase.sin().to_kind(kind)],
                states: numbers(&[ROWS, HIDDEN], 0, kind).set_requires_grad(true),
                adapters: vec![
                    adapter(0, 24, 3),
                    adapter(0, 12, 5),
                    adapter(1, HIDDEN, 2),
                    adapter(2, INNER, 4),
                    adapter(3, HIDDEN, 1),
                ],
            }
        }

        /// The first adapter of attention has most rows and no dropout, the others the rest, and all of them.
        fn parts(&self, group: usize) -> Vec<LowRank<'_>> {
            let places = [(0..168, 0), (168..ROWS, 24), (0..ROWS, 0), (77..300, INNER), (0..ROWS, 0)];
            let mut parts = Vec::new();
            for (n, ((own, a, b), (rows, first_column))) in self.adapters.iter().zip(places).enumerate() {
                if *own != group {
                    continue;
                }
                let runs = vec![MaskRun { key: 5 + n as u64, position: 3, count: rows.end - rows.start }];
                let mask = (n > 0).then_some(Mask { p: 0.25, runs });
                parts.push(LowRank { a, b, scale: 0.5 + n as f64, rows, first_column, mask });
            }
            parts
        }

        fn tiles(&self) -> Tensor {
            let [attention, output, feed, down] = [0, 1, 2, 3].map(|group| &self.groups[group]);
            let parts = [0, 1, 2, 3].map(|group| self.parts(group));
            let shape = BlockShape {
                norms: [&self.norms[0], &self.norms[1]],
                eps: 1e-5,
                norm: RmsForm::Rounded,
                attention: HEADS,
            };
            let parts = [&parts[0][..], &parts[1], &parts[2], &parts[3]];
            let turn = Some((&self.turn[0], &self.turn[1]));
            block([attention, output, feed, down], &shape, parts, &self.states, turn, RUNS.into_iter())
        }

        fn layers(&self) -> Tensor {
            let norm = |n: usize, x: &Tensor| rms_norm(x, &self.norms[n], 1e-5, RmsForm::Rounded);
            let layer = |n: usize, x: &Tensor| self.groups[n].forward(x, &self.parts(n));
            let qkv = layer(0, &norm(0, &self.states));
            let seen = attention(&qkv, Some((&self.turn[0], &self.turn[1])), RUNS.into_iter(), HEADS);
            let states = &self.states + layer(1, &seen);
            &states + layer(3, &gated_silu(&layer(2, &norm(1, &states))))
        }

        /// The gradients of the states and of every adapter.
        fn gradients(&self, of: &Tensor) -> Vec<Tensor> {
            let leaves = self.adapters.iter().flat_map(|(_, a, b)| [a, b]);
            let wanted: Vec<&Tensor> = std::iter::once(&self.states).chain(leaves).collect();
            vector_jacobian(of, &numbers(&[ROWS, HIDDEN], 4, of.kind()), &wanted)
        }
    }

    /// The greatest difference over the greatest value.
    fn distance(own: &Tensor, other: &Tensor) -> f64 {
        let (own, other) = (own.to_kind(Kind::Double), other.to_kind(Kind::Double));
        (&own - &other).abs().max().double_value(&[]) / other.abs().max().double_value(&[])
    }

    #[test]
    fn a_block_in_tiles_is_its_layers_one_after_another() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 5e-5), (Kind::BFloat16, 0.04)] {
            let fixture = Fixture::new(kind);
            let groups = [0, 1, 2, 3].map(|group| &fixture.groups[group]);
            if !has_block(groups, kind) {
                println!("skipped: this CPU has no micro-kernels for {kind:?}");
                continue;
            }
            let (own, other) = (fixture.tiles(), fixture.layers());
            assert!(distance(&own, &other) < tolerance, "{kind:?}: {}", distance(&own, &other));
            let gradients = fixture.gradients(&own).into_iter().zip(fixture.gradients(&other));
            for (n, (own, other)) in gradients.enumerate() {
                let difference = distance(&own, &other);
                assert!(difference < tolerance, "{kind:?}, gradient {n}: {difference}");
            }
        }
    }

    #[test]
    fn a_block_has_the_same_bits_with_any_number_of_threads() {
        let fixture = Fixture::new(Kind::Float);
        let threads = tch::get_num_threads();
        let mut found = Vec::new();
        for count in [1, 2, 3] {
            tch::set_num_threads(count);
            let states = fixture.tiles();
            let mut all = fixture.gradients(&states);
            all.push(states.detach());
            found.push(all);
        }
        tch::set_num_threads(threads);
        assert!(found[1] == found[0] && found[2] == found[0]);
    }

    #[test]
    fn what_is_not_finite_in_one_adapters_rows_stays_there() {
        let mut fixture = Fixture::new(Kind::Double);
        let states = fixture.states.detach();
        // The sequence of row 165 ends with row 167, as the rows of the first adapter do; the second one begins in the same tile.
        let _ = states.get(165).fill_(f64::NAN);
        fixture.states = states.set_requires_grad(true);
        let gradients = fixture.gradients(&fixture.tiles());
        let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
        assert!(!finite(&gradients[1]), "the adapter of row 165");
        assert!(finite(&gradients[3]) && finite(&gradients[4]), "the adapter of other rows");
    }
}
