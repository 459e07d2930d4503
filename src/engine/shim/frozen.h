// Frozen matrices that read the same input, laid one under another, so that one product serves all of them.
#pragma once

#include "four_bit.h"
#include "panels.h"

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
  // W in this kind; and some rows of it in its own.
  at::Tensor weight(at::ScalarType kind) const;
  at::Tensor weight_rows(int64_t first, int64_t count) const;
  // [out] or undefined.
  const at::Tensor &bias() const { return bias_; }

  // Rows of a packed matrix from `first` on, which is the first of a panel, in the same memory.
  Frozen part(int64_t first, int64_t count, at::Tensor bias) const;
  // The rows `places` [count] of a packed matrix, [count, in].
  at::Tensor picked(const at::Tensor &places) const;

  // Puts a dense matrix in the order in which micro-kernels read it for x·Wᵀ, in place of the other; says whether it did. Where it did,
  // a row of a product does not depend on how many there are.
  bool pack();

  // Whether threads can read rows of it in this kind, on a CPU.
  bool has_rows(at::ScalarType kind) const;
  // `count` rows of W from `first` on, [count, in]; `scratch` has room for them.
  template <typename T> const T *rows(int64_t first, int64_t count, T *scratch) const {
    if (dense_.defined()) {
      return data<T>(dense_) + first * in_;
    }
    if (const T *all = panels<T>()) {
      for (int64_t row = first; row < first + count;) {
        const int64_t end = std::min(first + count, (row / kPanel + 1) * kPanel);
        unpack_columns(all + row / kPanel * panel_size(in_), row % kPanel, end - row, in_, scratch + (row - first) * in_);
        row = end;
      }
      return scratch;
    }
    int64_t start = 0;
    for (const auto &part : parts_) {
      const int64_t begin = std::max(first, start), end = std::min(first + count, start + part.rows);
      if (begin < end) {
        dequantize_rows(part, begin - start, end - begin, scratch + (begin - first) * in_);
      }
      start += part.rows;
    }
    return scratch;
  }

  // Wᵀ [in, out] as panels, or null where it is not packed.
  template <typename T> const T *panels() const { return packed_.defined() ? data<T>(packed_) : nullptr; }

private:
  Frozen() = default;
  template <typename T> void multiply_all(const at::Tensor &x, const at::Tensor &y) const;
  template <typename T> void multiply_back(const at::Tensor &g, const at::Tensor &g_x) const;

  at::Tensor dense_, packed_, bias_;
  std::vector<FourBit> parts_;
  int64_t out_ = 0, in_ = 0;
};

// y [rows, columns] of this stride = x [rows, depth] · some columns of a packed matrix + their biases (null: none), each sum rounded
// once. `panels` begins with the first of the columns, which is the first of a panel; `sums` has room for [rows, 64].
template <typename T>
void multiply_rounded(const T *x, int64_t x_stride, int64_t rows, const T *panels, int64_t depth, int64_t columns,
                      const T *bias, T *y, int64_t y_stride, typename Wide<T>::type *sums);

} // namespace loragrid
