#include "frozen.h"
#include "rows.h"
#include "scratch.h"

namespace loragrid {
namespace {

// Rows and columns of a product that are one task.
constexpr int64_t kTaskRows = 128, kTaskColumns = 4 * kPanel;
// Rows of W that are packed for g·W at once, whose part of it is added to the sums.
constexpr int64_t kDepth = 2048;

} // namespace

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

bool Frozen::pack() {
  if (!dense_.defined() || !dense_.is_cpu() || in_ % 2 == 1 || out_ % 2 == 1 || !has_tile_products(dense_.scalar_type())) {
    return false;
  }
  const auto from = dense_.contiguous();
  auto to = at::empty({packed_size(in_, out_)}, from.options());
  with_type(from.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    each_task((out_ + kPanel - 1) / kPanel, [&](int64_t panel) {
      const int64_t first = panel * kPanel;
      pack_columns(data<T>(from) + first * in_, in_, std::min(kPanel, out_ - first), in_,
                   mutable_data<T>(to) + panel * panel_size(in_));
    });
  });
  packed_ = to;
  dense_.reset();
  return true;
}

bool Frozen::has_rows(at::ScalarType kind) const {
  if (dense_.defined()) {
    return dense_.is_cpu() && dense_.is_contiguous() && dense_.scalar_type() == kind;
  }
  if (packed_.defined()) {
    return packed_.scalar_type() == kind;
  }
  return std::all_of(parts_.begin(), parts_.end(), [&](const FourBit &part) { return loragrid::has_rows(part, kind); });
}

at::Tensor Frozen::weight_rows(int64_t first, int64_t count) const {
  TORCH_CHECK(packed_.defined() && first >= 0 && first + count <= out_, "rows that a packed matrix does not have");
  auto all = at::empty({count, in_}, packed_.options());
  with_type(all.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    each_task((count + kPanel - 1) / kPanel, [&](int64_t n) {
      const int64_t begin = n * kPanel;
      rows(first + begin, std::min(kPanel, count - begin), mutable_data<T>(all) + begin * in_);
    });
  });
  return all;
}

Frozen Frozen::part(int64_t first, int64_t count, at::Tensor bias) const {
  TORCH_CHECK(packed_.defined() && first % kPanel == 0 && first + count <= out_, "a part that is not whole panels");
  Frozen own;
  own.packed_ = packed_.narrow(0, first / kPanel * panel_size(in_), packed_size(in_, count));
  own.bias_ = std::move(bias);
  own.out_ = count;
  own.in_ = in_;
  return own;
}

at::Tensor Frozen::picked(const at::Tensor &places) const {
  TORCH_CHECK(packed_.defined(), "rows of a matrix that is not packed");
  const auto from = places.contiguous();
  auto all = at::empty({from.numel(), in_}, packed_.options());
  with_type(all.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, from.numel(), grain(in_), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t row = data<int64_t>(from)[n];
        TORCH_CHECK(row >= 0 && row < out_, "a row beyond the matrix");
        rows(row, 1, mutable_data<T>(all) + n * in_);
      }
    });
  });
  return all;
}

at::Tensor Frozen::weight(at::ScalarType kind) const {
  if (dense_.defined()) {
    return dense_.to(kind);
  }
  if (packed_.defined()) {
    return weight_rows(0, out_).to(kind);
  }
  auto all = at::empty({out_, in_}, parts_.front().packed.options().dtype(kind));
  int64_t row = 0;
  for (const auto &part : parts_) {
    dequantize_into(part, all.narrow(0, row, part.rows));
    row += part.rows;
  }
  return all;
}

template <typename T> void Frozen::multiply_all(const at::Tensor &x, const at::Tensor &y) const {
  using W = typename Wide<T>::type;
  const int64_t count = x.size(0), across = (out_ + kTaskColumns - 1) / kTaskColumns;
  const int64_t tiles = (count + kTaskRows - 1) / kTaskRows;
  // Neighboring tasks read the same columns.
  each_task(tiles * across, [&](int64_t task) {
    Scratch::Frame frame(Scratch::own());
    const int64_t row = task % tiles * kTaskRows, column = task / tiles * kTaskColumns;
    const int64_t rows = std::min(kTaskRows, count - row), columns = std::min(kTaskColumns, out_ - column);
    multiply_rounded(data<T>(x) + row * in_, in_, rows, panels<T>() + column / kPanel * panel_size(in_), in_, columns,
                     bias_.defined() ? data<T>(bias_) + column : nullptr, mutable_data<T>(y) + row * out_ + column, out_,
                     Scratch::own().take<W>(rows * kPanel));
    end_products();
  });
}

at::Tensor Frozen::forward(const at::Tensor &x) const {
  if (!packed_.defined() || x.scalar_type() != packed_.scalar_type()) {
    return at::linear(x, weight(x.scalar_type()), bias_);
  }
  const auto from = x.contiguous();
  auto y = at::empty({x.size(0), out_}, x.options());
  with_type(x.scalar_type(), [&](auto *type) { multiply_all<std::remove_pointer_t<decltype(type)>>(from, y); });
  return y;
}

template <typename T> void Frozen::multiply_back(const at::Tensor &g, const at::Tensor &g_x) const {
  using W = typename Wide<T>::type;
  Scratch::Frame room(Scratch::own());
  const int64_t count = g.size(0), tiles = (count + kTaskRows - 1) / kTaskRows;
  T *back = Scratch::own().take<T>(packed_size(std::min(kDepth, out_), in_));
  W *sums = Scratch::own().take<W>(count * in_);
  for (int64_t first = 0; first < out_; first += kDepth) {
    const int64_t depth = std::min(kDepth, out_ - first);
    each_task((depth + kPanel - 1) / kPanel, [&](int64_t n) {
      const int64_t row = n * kPanel;
      const T *panel = panels<T>() + (first + row) / kPanel * panel_size(in_);
      turn_columns(panel, row, std::min(kPanel, depth - row), in_, depth, back);
    });
    each_task(tiles, [&](int64_t tile) {
      const int64_t row = tile * kTaskRows, rows = std::min(kTaskRows, count - row);
      for (int64_t column = 0; column < in_; column += kPanel) {
        multiply(data<T>(g) + row * out_ + first, out_, rows, back + column / kPanel * panel_size(depth), depth,
                 std::min(kPanel, in_ - column), sums + row * in_ + column, in_, first > 0);
      }
      end_products();
    });
  }
  at::parallel_for(0, count, grain(in_), [&](int64_t begin, int64_t end) {
    settle(sums + begin * in_, in_, static_cast<const T *>(nullptr), mutable_data<T>(g_x) + begin * in_, in_,
           end - begin, in_);
  });
}

at::Tensor Frozen::backward(const at::Tensor &g) const {
  if (!packed_.defined() || g.scalar_type() != packed_.scalar_type()) {
    return at::mm(g, weight(g.scalar_type()));
  }
  const auto from = g.contiguous();
  auto g_x = at::empty({g.size(0), in_}, g.options());
  with_type(g.scalar_type(), [&](auto *type) { multiply_back<std::remove_pointer_t<decltype(type)>>(from, g_x); });
  return g_x;
}

template <typename T>
void multiply_rounded(const T *x, int64_t x_stride, int64_t rows, const T *panels, int64_t depth, int64_t columns,
                      const T *bias, T *y, int64_t y_stride, typename Wide<T>::type *sums) {
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t count = std::min(kPanel, columns - column);
    multiply(x, x_stride, rows, panels + column / kPanel * panel_size(depth), depth, count, sums, kPanel, false);
    settle(sums, kPanel, bias == nullptr ? bias : bias + column, y + column, y_stride, rows, count);
  }
}

#define LORAGRID_ROUNDED(T)                                                                                          \
  template void multiply_rounded(const T *, int64_t, int64_t, const T *, int64_t, int64_t, const T *, T *, int64_t,  \
                                 typename Wide<T>::type *);
LORAGRID_ROUNDED(BFloat16)
LORAGRID_ROUNDED(float)
LORAGRID_ROUNDED(double)

} // namespace loragrid
