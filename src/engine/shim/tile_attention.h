// Causal attention within one sequence for the query heads of one head of keys and values, by one thread.
#pragma once

#include "attention.h"

namespace loragrid {

// One sequence and one head of keys and values in a pass.
struct Attended {
  int64_t first, length, kv_head;
};

// qkv [tokens, (heads + 2 · kv_heads) × head_dim], turned. Writes out [tokens, heads × head_dim] and the logarithms of the
// softmax's sums [tokens, heads], for the tokens of the sequence. Products are of T with sums in W, the softmax in W.
//
// attend_back: g is out's gradient; writes that of qkv.
#define LORAGRID_ATTEND(T)                                                                                           \
  void attend(const T *qkv, const Attended &at, const AttentionForm &form, T *out, typename Wide<T>::type *sums);    \
  void attend_back(const T *qkv, const T *out, const typename Wide<T>::type *sums, const T *g, const Attended &at,   \
                   const AttentionForm &form, T *g_qkv);
LORAGRID_ATTEND(BFloat16)
LORAGRID_ATTEND(float)
LORAGRID_ATTEND(double)
#undef LORAGRID_ATTEND

} // namespace loragrid
