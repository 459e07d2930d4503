// Products of some rows with a matrix that was packed once, called by one thread inside a parallel region. The micro-kernels are
// oneDNN's (AMX, AVX-512, AVX2), through libtorch.
#pragma once

#include "number.h"

namespace loragrid {

// Columns of a packed matrix that lie together.
constexpr int64_t kPanel = 64;

// Elements of one panel with this many rows, and of all panels of a matrix [depth, width].
inline int64_t panel_size(int64_t depth) { return (depth + 1) / 2 * 2 * kPanel; }
inline int64_t packed_size(int64_t depth, int64_t width) {
  return (width + kPanel - 1) / kPanel * panel_size(depth);
}

// Whether this processor has micro-kernels for this kind, found by trying one.
bool has_tile_products(at::ScalarType kind);

// For each kind T with its wide type W:
//
// pack_columns packs up to 64 rows [count, depth] as the columns of one panel [depth, 64]; columns without a row become zeros.
// unpack_columns is the reverse, for `count` columns of a panel from `first` on.
// pack_rows packs rows [count, width], the first of which is row `first` (an even number) of a matrix [depth, width], into each of
// its panels.
// turn_columns packs the columns of one panel of Wᵀ as rows of W, from row `first` on, into each panel of W: what unpack_columns and
// pack_rows do one after another.
// multiply makes out [rows, columns] = left [rows, depth] · the first `columns` of a panel [depth, 64], or adds it to out.
#define LORAGRID_PANELS(T, W)                                                                                        \
  void pack_columns(const T *rows, int64_t stride, int64_t count, int64_t depth, T *panel);                          \
  void pack_rows(const T *rows, int64_t stride, int64_t first, int64_t count, int64_t width, int64_t depth,          \
                 T *panels);                                                                                         \
  void unpack_columns(const T *panel, int64_t first, int64_t count, int64_t depth, T *rows);                         \
  void turn_columns(const T *panel, int64_t first, int64_t count, int64_t depth, int64_t out_depth, T *panels);      \
  void multiply(const T *left, int64_t left_stride, int64_t rows, const T *panel, int64_t depth, int64_t columns,    \
                W *out, int64_t out_stride, bool add);
LORAGRID_PANELS(BFloat16, float)
LORAGRID_PANELS(float, float)
LORAGRID_PANELS(double, double)

// out [rows, columns] = left [rows, depth] · right [depth, columns], nothing packed.
void multiply_plain(const float *left, int64_t left_stride, int64_t rows, const float *right, int64_t right_stride,
                    int64_t depth, int64_t columns, float *out, int64_t out_stride);
void multiply_plain(const double *left, int64_t left_stride, int64_t rows, const double *right, int64_t right_stride,
                    int64_t depth, int64_t columns, double *out, int64_t out_stride);

// Ends what micro-kernels have set on the calling thread.
void end_products();

} // namespace loragrid
