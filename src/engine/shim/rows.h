// What happens to each row between matrix products: norms and gated activations, one node of the autograd graph each.
#pragma once

#include <torch/torch.h>

namespace loragrid {

// Where a root-mean-square norm rounds, and what it multiplies by.
enum class NormForm : int { Rounded = 0, RoundedLast = 1, PlusOne = 2 };

// x over its root mean square, times a frozen weight, for x [rows, width] on a CPU.
at::Tensor rms_norm(const at::Tensor &x, const at::Tensor &weight, double eps, NormForm form);

// silu(gate) · up for [rows, 2 · width], gate first, on a CPU.
at::Tensor gated_silu(const at::Tensor &gate_up);

} // namespace loragrid
