// Frozen matrices that read the same input, laid one under another, so that one product serves all of them.
#pragma once

#include "four_bit.h"

#include <vector>

namespace loragrid {

class Frozen {
public:
  // `dense` [out, in], or undefined where `parts` has the matrices in 4 bits; `bias` [out] or undefined.
  Frozen(at::Tensor dense, std::vector<FourBit> parts, at::Tensor bias);

  int64_t out() const { return out_; }
  int64_t in() const { return in_; }

  // x·Wᵀ + b for x [tokens, in].
  at::Tensor forward(const at::Tensor &x) const;
  // g·W for g [tokens, out].
  at::Tensor backward(const at::Tensor &g) const;
  // W in this kind.
  at::Tensor weight(at::ScalarType kind) const;

private:
  at::Tensor dense_, bias_;
  std::vector<FourBit> parts_;
  int64_t out_ = 0, in_ = 0;
};

} // namespace loragrid
