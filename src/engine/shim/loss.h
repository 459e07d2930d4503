// Cross-entropy with its gradient.
#pragma once

#include <ATen/ATen.h>

namespace loragrid {

// Weighted cross-entropies [rows] of logits [rows, vocab] on a CPU, in double; the logits become the gradient of their sum.
at::Tensor cross_entropy(const at::Tensor &logits, const at::Tensor &targets, const at::Tensor &weights);

} // namespace loragrid
