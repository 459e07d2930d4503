#include "panels.h"
#include "scratch.h"

#include <ATen/native/CPUBlas.h>

namespace loragrid {
namespace {

namespace blas = at::native::cpublas;

// Two bf16 as one word: a pair of neighbors along the depth, which the processor multiplies at once.
struct Two {
  uint16_t low, high;
};

LORAGRID_KERNEL void pair_columns(const BFloat16 *rows, int64_t stride, int64_t count, int64_t depth, Two *panel) {
  constexpr int64_t kSide = 16;
  for (int64_t row = 0; row < count; row += kSide) {
    const int64_t rows_here = std::min(kSide, count - row);
    for (int64_t k = 0; k < depth / 2; k += kSide) {
      const int64_t pairs = std::min(kSide, depth / 2 - k);
      Two block[kSide][kSide];
      for (int64_t n = 0; n < rows_here; ++n) {
        std::memcpy(block[n], rows + (row + n) * stride + 2 * k, pairs * sizeof(Two));
      }
      for (int64_t pair = 0; pair < pairs; ++pair) {
        Two *to = panel + (k + pair) * kPanel + row;
        for (int64_t n = 0; n < rows_here; ++n) {
          to[n] = block[n][pair];
        }
      }
    }
  }
}

LORAGRID_KERNEL void pair_rows(const BFloat16 *upper, const BFloat16 *lower, int64_t width, Two *to) {
  for (int64_t n = 0; n < width; ++n) {
    to[n] = {upper[n].bits, lower == nullptr ? uint16_t(0) : lower[n].bits};
  }
}

LORAGRID_KERNEL void part_columns(const Two *panel, int64_t first, int64_t count, int64_t depth, BFloat16 *rows) {
  constexpr int64_t kSide = 16;
  for (int64_t row = 0; row < count; row += kSide) {
    const int64_t rows_here = std::min(kSide, count - row);
    for (int64_t k = 0; k < depth / 2; k += kSide) {
      const int64_t pairs = std::min(kSide, depth / 2 - k);
      Two block[kSide][kSide];
      for (int64_t pair = 0; pair < pairs; ++pair) {
        const Two *from = panel + (k + pair) * kPanel + first + row;
        for (int64_t n = 0; n < rows_here; ++n) {
          block[n][pair] = from[n];
        }
      }
      for (int64_t n = 0; n < rows_here; ++n) {
        std::memcpy(rows + (row + n) * depth + 2 * k, block[n], pairs * sizeof(Two));
      }
    }
  }
}

// Four values of a panel of Wᵀ, (n, k) (n, k + 1) (n + 1, k) (n + 1, k + 1), are the same four of one of W in another order.
LORAGRID_KERNEL void turn_pairs(const BFloat16 *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth,
                                BFloat16 *panels) {
  constexpr int64_t kSide = 8;
  for (int64_t n = 0; n < count; n += 2 * kSide) {
    const int64_t rows = std::min(kSide, (count - n) / 2);
    for (int64_t k = 0; k < depth; k += 2 * kSide) {
      const int64_t pairs = std::min(kSide, (depth - k) / 2);
      uint64_t block[kSide][kSide];
      for (int64_t pair = 0; pair < pairs; ++pair) {
        const BFloat16 *from = panel + (k / 2 + pair) * 2 * kPanel + 2 * n;
        for (int64_t row = 0; row < rows; ++row) {
          uint64_t four;
          std::memcpy(&four, from + 4 * row, sizeof four);
          block[pair][row] = (four & 0xFFFF00000000FFFFu) | (four >> 16 & 0xFFFFu << 16) | (four & 0xFFFFu << 16) << 16;
        }
      }
      BFloat16 *to = panels + k / kPanel * panel_size(out_depth) + (first + n) / 2 * 2 * kPanel + k % kPanel * 2;
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t pair = 0; pair < pairs; ++pair) {
          std::memcpy(to + row * 2 * kPanel + 4 * pair, &block[pair][row], sizeof(uint64_t));
        }
      }
    }
  }
}

LORAGRID_KERNEL void add_rows(const float *from, int64_t stride, float *to, int64_t to_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t n = 0; n < columns; ++n) {
      to[row * to_stride + n] += from[row * stride + n];
    }
  }
}

// The reference form of the products, and the only one in double precision.
template <typename W>
void multiply_by_hand(const W *left, int64_t left_stride, int64_t rows, const W *right, int64_t right_stride, int64_t depth,
                      int64_t columns, W *out, int64_t out_stride, bool add) {
  for (int64_t row = 0; row < rows; ++row) {
    W *to = out + row * out_stride;
    if (!add) {
      std::fill(to, to + columns, W(0));
    }
    for (int64_t k = 0; k < depth; ++k) {
      const W x = left[row * left_stride + k];
      for (int64_t n = 0; n < columns; ++n) {
        to[n] += x * right[k * right_stride + n];
      }
    }
  }
}

// Tries a small product of small integers, which every right kernel computes without an error.
template <typename T> bool multiplies() {
  constexpr int64_t kRows = 16, kDepth = 32, kColumns = 32;
  std::vector<T> left(kRows * kDepth), right(kColumns * kDepth), panel(panel_size(kDepth));
  std::vector<float> out(kRows * kColumns);
  const auto value = [](int64_t n) { return static_cast<float>(n % 7 - 3); };
  for (size_t n = 0; n < left.size(); ++n) {
    narrow(value(n), left[n]);
  }
  for (size_t n = 0; n < right.size(); ++n) {
    narrow(value(5 * n + 1), right[n]);
  }
  try {
    pack_columns(right.data(), kDepth, kColumns, kDepth, panel.data());
    multiply(left.data(), kDepth, kRows, panel.data(), kDepth, kColumns, out.data(), kColumns, false);
    end_products();
  } catch (const std::exception &) {
    return false;
  }
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < kColumns; ++column) {
      float sum = 0;
      for (int64_t k = 0; k < kDepth; ++k) {
        sum += widen(left[row * kDepth + k]) * widen(right[column * kDepth + k]);
      }
      if (sum != out[row * kColumns + column]) {
        return false;
      }
    }
  }
  return true;
}

} // namespace

void pack_columns(const BFloat16 *rows, int64_t stride, int64_t count, int64_t depth, BFloat16 *panel) {
  auto *to = reinterpret_cast<Two *>(panel);
  if (count < kPanel) {
    std::memset(panel, 0, panel_size(depth) * sizeof(BFloat16));
  }
  pair_columns(rows, stride, count, depth, to);
  for (int64_t n = 0; depth % 2 == 1 && n < count; ++n) {
    to[depth / 2 * kPanel + n] = {rows[n * stride + depth - 1].bits, 0};
  }
}

namespace {

template <typename T>
void transpose_columns(const T *rows, int64_t stride, int64_t count, int64_t depth, T *panel) {
  constexpr int64_t kSide = 16;
  if (count < kPanel) {
    std::fill(panel, panel + panel_size(depth), T(0));
  }
  for (int64_t row = 0; row < count; row += kSide) {
    const int64_t rows_here = std::min(kSide, count - row);
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t n = 0; n < rows_here; ++n) {
        panel[k * kPanel + row + n] = rows[(row + n) * stride + k];
      }
    }
  }
}

template <typename T> void part_columns(const T *panel, int64_t first, int64_t count, int64_t depth, T *rows) {
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t k = 0; k < depth; ++k) {
      rows[n * depth + k] = panel[k * kPanel + first + n];
    }
  }
}

template <typename T>
LORAGRID_INLINE void turn_block(const T *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth, T *panels) {
  constexpr int64_t kSide = 16;
  for (int64_t k = 0; k < depth; k += kSide) {
    const int64_t columns = std::min(kSide, depth - k);
    for (int64_t n = 0; n < count; ++n) {
      T *to = panels + k / kPanel * panel_size(out_depth) + (first + n) * kPanel + k % kPanel;
      for (int64_t column = 0; column < columns; ++column) {
        to[column] = panel[(k + column) * kPanel + n];
      }
    }
  }
}

LORAGRID_KERNEL void turn_all(const float *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth,
                              float *panels) {
  turn_block(panel, first, count, depth, out_depth, panels);
}
LORAGRID_KERNEL void turn_all(const double *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth,
                              double *panels) {
  turn_block(panel, first, count, depth, out_depth, panels);
}

template <typename T>
void copy_rows(const T *rows, int64_t stride, int64_t first, int64_t count, int64_t width, int64_t depth, T *panels) {
  for (int64_t column = 0; column < width; column += kPanel) {
    T *panel = panels + column / kPanel * panel_size(depth);
    const int64_t columns = std::min(kPanel, width - column);
    for (int64_t row = 0; row < count; ++row) {
      std::memcpy(panel + (first + row) * kPanel, rows + row * stride + column, columns * sizeof(T));
    }
  }
}

} // namespace

void turn_columns(const BFloat16 *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth,
                  BFloat16 *panels) {
  TORCH_CHECK(count % 2 == 0 && depth % 2 == 0, "a packed matrix of odd size");
  turn_pairs(panel, first, count, depth, out_depth, panels);
}
void turn_columns(const float *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth, float *panels) {
  turn_all(panel, first, count, depth, out_depth, panels);
}
void turn_columns(const double *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth, double *panels) {
  turn_all(panel, first, count, depth, out_depth, panels);
}

void unpack_columns(const BFloat16 *panel, int64_t first, int64_t count, int64_t depth, BFloat16 *rows) {
  const auto *from = reinterpret_cast<const Two *>(panel);
  part_columns(from, first, count, depth, rows);
  for (int64_t n = 0; depth % 2 == 1 && n < count; ++n) {
    rows[n * depth + depth - 1].bits = from[depth / 2 * kPanel + first + n].low;
  }
}
void unpack_columns(const float *panel, int64_t first, int64_t count, int64_t depth, float *rows) {
  part_columns(panel, first, count, depth, rows);
}
void unpack_columns(const double *panel, int64_t first, int64_t count, int64_t depth, double *rows) {
  part_columns(panel, first, count, depth, rows);
}

void pack_columns(const float *rows, int64_t stride, int64_t count, int64_t depth, float *panel) {
  transpose_columns(rows, stride, count, depth, panel);
}
void pack_columns(const double *rows, int64_t stride, int64_t count, int64_t depth, double *panel) {
  transpose_columns(rows, stride, count, depth, panel);
}

void pack_rows(const BFloat16 *rows, int64_t stride, int64_t first, int64_t count, int64_t width, int64_t depth,
               BFloat16 *panels) {
  for (int64_t column = 0; column < width; column += kPanel) {
    auto *panel = reinterpret_cast<Two *>(panels + column / kPanel * panel_size(depth));
    const int64_t columns = std::min(kPanel, width - column);
    for (int64_t row = 0; row < count; row += 2) {
      const BFloat16 *upper = rows + row * stride + column;
      pair_rows(upper, row + 1 < count ? upper + stride : nullptr, columns, panel + (first + row) / 2 * kPanel);
    }
  }
}
void pack_rows(const float *rows, int64_t stride, int64_t first, int64_t count, int64_t width, int64_t depth,
               float *panels) {
  copy_rows(rows, stride, first, count, width, depth, panels);
}
void pack_rows(const double *rows, int64_t stride, int64_t first, int64_t count, int64_t width, int64_t depth,
               double *panels) {
  copy_rows(rows, stride, first, count, width, depth, panels);
}

void multiply(const BFloat16 *left, int64_t left_stride, int64_t rows, const BFloat16 *panel, int64_t depth,
              int64_t columns, float *out, int64_t out_stride, bool add) {
  blas::brgemm(rows, columns, depth, left_stride, kPanel, out_stride, add, reinterpret_cast<const at::BFloat16 *>(left),
               reinterpret_cast<const at::BFloat16 *>(panel), out, /*is_vnni=*/true);
}
// In single precision the depth is summed in blocks: a sum of thousands of terms one after another loses digits.
void multiply(const float *left, int64_t left_stride, int64_t rows, const float *panel, int64_t depth, int64_t columns,
              float *out, int64_t out_stride, bool add) {
  constexpr int64_t kBlock = 256;
  const auto some = [&](int64_t first, float *to, int64_t stride, bool adds) {
    blas::brgemm(rows, columns, std::min(kBlock, depth - first), left_stride, kPanel, stride, adds, left + first,
                 panel + first * kPanel, to, /*is_vnni=*/false);
  };
  some(0, out, out_stride, add);
  Scratch::Frame frame(Scratch::own());
  float *part = depth > kBlock ? Scratch::own().take<float>(rows * kPanel) : nullptr;
  for (int64_t first = kBlock; first < depth; first += kBlock) {
    some(first, part, kPanel, false);
    add_rows(part, kPanel, out, out_stride, rows, columns);
  }
}
void multiply(const double *left, int64_t left_stride, int64_t rows, const double *panel, int64_t depth, int64_t columns,
              double *out, int64_t out_stride, bool add) {
  multiply_by_hand(left, left_stride, rows, panel, kPanel, depth, columns, out, out_stride, add);
}

void multiply_plain(const float *left, int64_t left_stride, int64_t rows, const float *right, int64_t right_stride,
                    int64_t depth, int64_t columns, float *out, int64_t out_stride) {
  blas::brgemm(rows, columns, depth, left_stride, right_stride, out_stride, false, left, right, out, /*is_vnni=*/false);
}
void multiply_plain(const double *left, int64_t left_stride, int64_t rows, const double *right, int64_t right_stride,
                    int64_t depth, int64_t columns, double *out, int64_t out_stride) {
  multiply_by_hand(left, left_stride, rows, right, right_stride, depth, columns, out, out_stride, false);
}

void end_products() { blas::brgemm_release(/*is_vnni=*/true); }

bool has_tile_products(at::ScalarType kind) {
  static const bool single = multiplies<float>(), half = multiplies<BFloat16>();
  switch (kind) {
  case at::kDouble:
    return true;
  case at::kFloat:
    return single;
  case at::kBFloat16:
    return half;
  default:
    return false;
  }
}

} // namespace loragrid
