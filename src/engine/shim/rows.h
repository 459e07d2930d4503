// What happens to each row between matrix products: norms and gated activations, one node of the autograd graph each.
#pragma once

#include "number.h"

namespace loragrid {

// Where a root-mean-square norm rounds, and what it multiplies by.
enum class NormForm : int { Rounded = 0, RoundedLast = 1, PlusOne = 2 };

// What happens to one row of each kind. norm returns 1 over the root mean square, which norm_back takes; silu is silu(gate) · up;
// sum is a + b; settle is sums + bias [rows, columns], without the bias where there is none. Each result is rounded once.
#define LORAGRID_ROWS(T)                                                                                             \
  typename Wide<T>::type norm(const T *x, const T *weight, double eps, NormForm form, T *out, int64_t width);        \
  void norm_back(const T *g, const T *x, const T *weight, typename Wide<T>::type scale, NormForm form, T *out,       \
                 int64_t width);                                                                                     \
  void silu(const T *gate, const T *up, T *out, int64_t width);                                                      \
  void silu_back(const T *g, const T *gate, const T *up, T *g_gate, T *g_up, int64_t width);                         \
  void sum(const T *a, const T *b, T *out, int64_t width);                                                           \
  void settle(const typename Wide<T>::type *sums, int64_t stride, const T *bias, T *out, int64_t out_stride,         \
              int64_t rows, int64_t columns);
LORAGRID_ROWS(BFloat16)
LORAGRID_ROWS(float)
LORAGRID_ROWS(double)
#undef LORAGRID_ROWS

// x over its root mean square, times a frozen weight, for x [rows, width] on a CPU.
at::Tensor rms_norm(const at::Tensor &x, const at::Tensor &weight, double eps, NormForm form);

// silu(gate) · up for [rows, 2 · width], gate first, on a CPU.
at::Tensor gated_silu(const at::Tensor &gate_up);

} // namespace loragrid
