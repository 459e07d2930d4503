// AdamW over one flat buffer.
#pragma once

#include <ATen/ATen.h>

namespace loragrid {

extern "C" {
// One step's numbers; the corrections are 1 − β₁ᵗ and √(1 − β₂ᵗ).
struct AdamW {
  double rate, weight_decay, beta1, beta2, eps, correction1, correction2;
};
}

// Moves parameters and moments [elements], of one kind, by a gradient in their wide kind; `factors` of the rate, in that
// kind too, or null. All on a CPU.
void adamw_step(const AdamW &by, const at::Tensor &parameters, const at::Tensor &gradient, const at::Tensor &first,
                const at::Tensor &second, const at::Tensor *factors);

} // namespace loragrid
