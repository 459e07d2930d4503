// Rotary positions and attention within each sequence: one node of the autograd graph.
#pragma once

#include <torch/torch.h>

namespace loragrid {

extern "C" {
// Neighboring sequences of equal length.
struct SequenceRun {
  int64_t count, length;
};

struct AttentionForm {
  int64_t heads, kv_heads, head_dim;
  double scale;
};
}

// Attention output [tokens, heads × head_dim] of [tokens, (heads + 2 · kv_heads) × head_dim], queries first, then keys, then
// values. `cos` and `sin` [tokens, turned] in the same kind, or undefined where nothing is turned.
at::Tensor attention(const at::Tensor &qkv, const at::Tensor &cos, const at::Tensor &sin, const SequenceRun *runs,
                     int64_t run_count, const AttentionForm &form);

} // namespace loragrid
