#include "frozen.h"

namespace loragrid {

Frozen::Frozen(at::Tensor dense, std::vector<FourBit> parts, at::Tensor bias)
    : dense_(std::move(dense)), bias_(std::move(bias)), parts_(std::move(parts)) {
  if (dense_.defined()) {
    out_ = dense_.size(0);
    in_ = dense_.size(1);
    return;
  }
  TORCH_CHECK(!parts_.empty(), "a frozen layer without a matrix");
  in_ = parts_.front().columns;
  for (const auto &part : parts_) {
    TORCH_CHECK(part.columns == in_, "matrices that read the same input differ in its width");
    out_ += part.rows;
  }
}

at::Tensor Frozen::weight(at::ScalarType kind) const {
  if (dense_.defined()) {
    return dense_.to(kind);
  }
  auto all = at::empty({out_, in_}, parts_.front().packed.options().dtype(kind));
  int64_t row = 0;
  for (const auto &part : parts_) {
    dequantize_into(part, all.narrow(0, row, part.rows));
    row += part.rows;
  }
  return all;
}

at::Tensor Frozen::forward(const at::Tensor &x) const { return at::linear(x, weight(x.scalar_type()), bias_); }

at::Tensor Frozen::backward(const at::Tensor &g) const { return at::mm(g, weight(g.scalar_type())); }

} // namespace loragrid
