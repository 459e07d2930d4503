// A decoder block as one node of the autograd graph: two regions of row tiles a direction, with attention between them.
#pragma once

#include "attention.h"
#include "frozen.h"
#include "low_rank.h"
#include "rows.h"

#include <array>

namespace loragrid {

extern "C" {
// What a block is besides its matrices: weights of its two norms [hidden], and its attention.
struct BlockForm {
  const at::Tensor *before_attention, *before_mlp;
  double eps;
  int norm;
  AttentionForm attention;
};

// Adapters of each of a block's four groups one after another, and how many there are of each.
struct BlockParts {
  const LowRank *parts;
  int64_t counts[4];
};
}

// The four groups of a block: queries with keys and values, output, gate with up, down.
using BlockMatrices = std::array<std::shared_ptr<const Frozen>, 4>;

// Whether a block of this kind on a CPU has tiles: its matrices can be read by rows, and its widths are even.
bool has_block(const BlockMatrices &matrices, at::ScalarType kind);

// x + attention(norm(x)) = h, then h + down(silu(gate) · up) of norm(h), for x [tokens, hidden].
at::Tensor block(const BlockMatrices &matrices, const BlockForm &form, const BlockParts &parts, const at::Tensor &x,
                 const at::Tensor &cos, const at::Tensor &sin, const SequenceRun *runs, int64_t run_count);

} // namespace loragrid
