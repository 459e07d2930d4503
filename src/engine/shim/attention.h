// Rotary positions and attention within each sequence: one node of the autograd graph.
#pragma once

#include "number.h"

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

// turn: the first `turned` features of a head by their position, the rest copied; `out` may be `x`. turned_back: the gradient of it, of the sum of
// `count` heads one after another.
#define LORAGRID_TURN(T)                                                                                             \
  void turn(const T *x, const T *cos, const T *sin, T *out, int64_t turned, int64_t width);                          \
  void turned_back(const T *g, const T *cos, const T *sin, T *out, int64_t count, typename Wide<T>::type *sum,       \
                   int64_t turned, int64_t width);
LORAGRID_TURN(BFloat16)
LORAGRID_TURN(float)
LORAGRID_TURN(double)
#undef LORAGRID_TURN

// Attention output [tokens, heads × head_dim] of [tokens, (heads + 2 · kv_heads) × head_dim], queries first, then keys, then
// values. `cos` and `sin` [tokens, turned] in the same kind, or undefined where nothing is turned.
at::Tensor attention(const at::Tensor &qkv, const at::Tensor &cos, const at::Tensor &sin, const SequenceRun *runs,
                     int64_t run_count, const AttentionForm &form);

} // namespace loragrid
