// What an adapter adds to a layer's output: which rows and columns, its dropout mask, and what happens to each row on the way.
#pragma once

#include "number.h"

#include <memory>
#include <utility>
#include <vector>

namespace loragrid {

extern "C" {
// Elements of a dropout mask: `count` rows of the input one after another, whose random numbers are those of stream `key`
// from the element `position` × width on.
struct MaskRun {
  uint64_t key;
  uint64_t position;
  int64_t count;
};

// What one adapter adds to some of the rows and some of the columns of the output.
struct LowRank {
  // [r, in] and [columns, r], of one kind.
  const at::Tensor *a;
  const at::Tensor *b;
  double scale;
  int64_t first_row, rows;
  int64_t first_column;
  // Probability that an element of its input is dropped, times 2³², and what the others are multiplied by.
  uint64_t threshold;
  float kept;
  const MaskRun *runs;
  int64_t run_count;
};
}

// Which elements of a part's input are kept: [rows, ceil(width / 64)] words, made by rows.
class Mask {
public:
  // Nothing is made yet on a CPU; elsewhere the states of the rows are sent there.
  Mask(const LowRank &part, int64_t width, at::Device device);

  // Makes the words of rows from `begin` to `end` of the part.
  void make(int64_t begin, int64_t end);
  const uint64_t *row(int64_t n) const { return words_.data() + n * per_row_; }

  // Whether each element is kept [rows, width], made on the states' device by the same arithmetic.
  at::Tensor kept_there(int64_t width) const;

private:
  int64_t width_, per_row_;
  uint64_t threshold_;
  // Key and first element of each row.
  std::vector<std::pair<uint64_t, uint64_t>> rows_;
  std::vector<uint64_t> words_;
  // The state of the first element of each row, where masks are made on another device.
  at::Tensor states_;
};

// Kernels for one row and each pair of kinds: T of the model, K of the adapter.
//
// masked: out = K(x · kept) where a bit is set, else 0; K(x) without words. add: y = T(K(y) + K(scale · low)). scaled: out = K(K(g) · scale).
#define LORAGRID_PAIR(T, K)                                                                                          \
  void masked(const T *x, const uint64_t *words, K kept, K *out, int64_t width);                                     \
  void add(const K *low, double scale, T *y, int64_t columns);                                                       \
  void scaled(const T *g, double scale, K *out, int64_t columns);
LORAGRID_PAIR(BFloat16, float)
LORAGRID_PAIR(BFloat16, BFloat16)
LORAGRID_PAIR(float, float)
LORAGRID_PAIR(double, double)
#undef LORAGRID_PAIR

// sum += K(g · kept) where a bit is set, or everywhere without words.
#define LORAGRID_SUM(K)                                                                                              \
  void add_masked(const K *g, const uint64_t *words, K kept, typename Wide<K>::type *sum, int64_t width);
LORAGRID_SUM(BFloat16)
LORAGRID_SUM(float)
LORAGRID_SUM(double)
#undef LORAGRID_SUM

// out = T(out + sum).
#define LORAGRID_ROUND(T) void add_rounded(const typename Wide<T>::type *sum, T *out, int64_t width);
LORAGRID_ROUND(BFloat16)
LORAGRID_ROUND(float)
LORAGRID_ROUND(double)
#undef LORAGRID_ROUND

// Calls `body` with null pointers of the two element types.
template <typename F> void with_pair(at::ScalarType model, at::ScalarType adapter, F body) {
  if (model == at::kBFloat16 && adapter == at::kFloat) {
    return body(static_cast<BFloat16 *>(nullptr), static_cast<float *>(nullptr));
  }
  TORCH_CHECK(model == adapter, "an adapter in ", adapter, " over a model in ", model);
  with_type(model, [&](auto *type) { body(type, type); });
}

} // namespace loragrid
