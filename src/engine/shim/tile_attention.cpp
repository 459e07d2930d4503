#include "tile_attention.h"
#include "panels.h"
#include "scratch.h"

namespace loragrid {
namespace {

// Queries that go together, and what counts of them and of keys are filled up to: few sizes are few kernels.
constexpr int64_t kQueries = 64, kFilled = 16, kKeys = 32;

int64_t filled(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// p = exp(scale · s − its greatest) for the keys that are seen, zeros behind them; returns the logarithm of the sum of exp(scale · s)
// and puts the sum of p into `total`.
template <typename T, typename W>
LORAGRID_INLINE W soften_row(const W *s, W scale, int64_t seen, int64_t width, T *p, W *total) {
  W lanes[kLanes];
  for (int64_t n = 0; n < kLanes; ++n) {
    lanes[n] = s[n < seen ? n : 0];
  }
  int64_t first = 0;
  for (; first + kLanes <= seen; first += kLanes) {
    for (int64_t n = 0; n < kLanes; ++n) {
      lanes[n] = s[first + n] > lanes[n] ? s[first + n] : lanes[n];
    }
  }
  for (int64_t n = first; n < seen; ++n) {
    lanes[n - first] = s[n] > lanes[n - first] ? s[n] : lanes[n - first];
  }
  W most = lanes[0];
  for (int64_t n = 1; n < kLanes; ++n) {
    most = lanes[n] > most ? lanes[n] : most;
  }
  most *= scale;
  W sums[kLanes] = {};
  for (first = 0; first + kLanes <= seen; first += kLanes) {
    for (int64_t n = 0; n < kLanes; ++n) {
      const W value = exponential(s[first + n] * scale - most);
      sums[n] += value;
      narrow(value, p[first + n]);
    }
  }
  for (int64_t n = first; n < seen; ++n) {
    const W value = exponential(s[n] * scale - most);
    sums[n - first] += value;
    narrow(value, p[n]);
  }
  W sum = 0;
  for (int64_t n = 0; n < kLanes; ++n) {
    sum += sums[n];
  }
  for (int64_t n = seen; n < width; ++n) {
    narrow(W(0), p[n]);
  }
  *total = sum;
  return most + std::log(sum);
}

// p = exp(scale · s − log_sum) and d = p · (g − along) · scale for the keys that are seen, zeros behind them.
template <typename T, typename W>
LORAGRID_INLINE void soften_back_row(const W *s, const W *g, W scale, W log_sum, W along, int64_t seen, int64_t width,
                                     T *p, T *d) {
  for (int64_t n = 0; n < seen; ++n) {
    const W value = exponential(s[n] * scale - log_sum);
    narrow(value, p[n]);
    narrow(value * (g[n] - along) * scale, d[n]);
  }
  for (int64_t n = seen; n < width; ++n) {
    narrow(W(0), p[n]);
    narrow(W(0), d[n]);
  }
}

template <typename T, typename W> LORAGRID_INLINE void divide_row(const W *sums, W total, T *out, int64_t count) {
  for (int64_t n = 0; n < count; ++n) {
    narrow(sums[n] / total, out[n]);
  }
}

template <typename T> LORAGRID_INLINE typename Wide<T>::type dot_row(const T *a, const T *b, int64_t width) {
  using W = typename Wide<T>::type;
  return lane_sum<W>(width, [&](int64_t n) __attribute__((always_inline)) { return widen(a[n]) * widen(b[n]); });
}

// [rows, columns] as [columns, rows], both at most a panel wide.
template <typename T>
LORAGRID_INLINE void transpose_block(const T *from, int64_t from_stride, T *to, int64_t to_stride, int64_t rows, int64_t columns) {
  constexpr int64_t kSide = 16;
  for (int64_t row = 0; row < rows; row += kSide) {
    for (int64_t column = 0; column < columns; column += kSide) {
      for (int64_t k = 0; k < kSide; ++k) {
        for (int64_t n = 0; n < kSide; ++n) {
          to[(column + k) * to_stride + row + n] = from[(row + n) * from_stride + column + k];
        }
      }
    }
  }
}

#define LORAGRID_SOFTEN(T, W)                                                                                        \
  LORAGRID_KERNEL W soften(const W *s, W scale, int64_t seen, int64_t width, T *p, W *total) {                       \
    return soften_row(s, scale, seen, width, p, total);                                                              \
  }                                                                                                                  \
  LORAGRID_KERNEL void soften_back(const W *s, const W *g, W scale, W log_sum, W along, int64_t seen, int64_t width, \
                                   T *p, T *d) {                                                                     \
    soften_back_row(s, g, scale, log_sum, along, seen, width, p, d);                                                 \
  }                                                                                                                  \
  LORAGRID_KERNEL void divide(const W *sums, W total, T *out, int64_t count) { divide_row(sums, total, out, count); } \
  LORAGRID_KERNEL W dot(const T *a, const T *b, int64_t width) { return dot_row(a, b, width); }                      \
  LORAGRID_KERNEL void transpose(const T *from, int64_t from_stride, T *to, int64_t to_stride, int64_t rows,         \
                                 int64_t columns) {                                                                  \
    transpose_block(from, from_stride, to, to_stride, rows, columns);                                                \
  }
LORAGRID_SOFTEN(BFloat16, float)
LORAGRID_SOFTEN(float, float)
LORAGRID_SOFTEN(double, double)

// One sequence and one head of keys and values.
template <typename T> struct Place {
  using W = typename Wide<T>::type;

  const AttentionForm &form;
  const Attended &at;
  Scratch &scratch = Scratch::own();

  int64_t dim() const { return form.head_dim; }
  int64_t group() const { return form.heads / form.kv_heads; }
  int64_t width() const { return (form.heads + 2 * form.kv_heads) * dim(); }
  int64_t out_width() const { return form.heads * dim(); }
  int64_t keys() const { return filled(at.length, kKeys); }
  int64_t head(int64_t n) const { return at.kv_head * group() + n; }
  // Elements from the first token's row of qkv to a head's part of it.
  int64_t query_at(int64_t n) const { return at.first * width() + head(n) * dim(); }
  int64_t key_at() const { return at.first * width() + (form.heads + at.kv_head) * dim(); }
  int64_t value_at() const { return key_at() + form.kv_heads * dim(); }
  W scale() const { return static_cast<W>(form.scale); }

  // Rows [length, dim] packed as columns of panels [dim, 64], one for each 64 tokens.
  T *columns_of(const T *rows) const {
    T *packed = scratch.take<T>(packed_size(dim(), keys()));
    for (int64_t row = 0; row < at.length; row += kPanel) {
      pack_columns(rows + row * width(), width(), std::min(kPanel, at.length - row), dim(),
                   packed + row / kPanel * panel_size(dim()));
    }
    return packed;
  }

  // The same rows as the right side of a product over tokens: panels [keys, 64] of features.
  T *rows_of(const T *rows) const { return rows_of(rows, width(), at.length, keys()); }
  T *rows_of(const T *rows, int64_t stride, int64_t count, int64_t depth) const {
    T *packed = scratch.zeros<T>(packed_size(depth, dim()));
    pack_rows(rows, stride, 0, count, dim(), depth, packed);
    return packed;
  }

  // Rows [count, dim] behind one another, zeros behind them up to `most` rows.
  T *gathered(const T *rows, int64_t stride, int64_t count, int64_t most) const {
    T *own = scratch.zeros<T>(most * dim());
    for (int64_t n = 0; n < count; ++n) {
      std::memcpy(own + n * dim(), rows + n * stride, dim() * sizeof(T));
    }
    return own;
  }

  // left [rows, depth] times panels for `columns` columns, into out [rows, columns].
  void times(const T *left, int64_t rows, int64_t depth, const T *panels, int64_t panel_depth, int64_t columns, W *out,
             int64_t stride, bool add) const {
    for (int64_t column = 0; column < columns; column += kPanel) {
      multiply(left, depth, rows, panels + column / kPanel * panel_size(panel_depth), depth,
               std::min(kPanel, columns - column), out + column, stride, add);
    }
  }
};

// Neighboring queries of one head, filled up to `rows`; they see the keys before `seen`.
struct Queries {
  int64_t start, count, rows, seen;

  Queries(int64_t first, int64_t length)
      : start(first), count(std::min(kQueries, length - first)), rows(filled(count, kFilled)),
        seen(filled(first + count, kKeys)) {}
};

template <typename T>
void attend_any(const T *qkv, const Attended &at, const AttentionForm &form, T *out, typename Wide<T>::type *sums) {
  using W = typename Wide<T>::type;
  const Place<T> place{form, at};
  Scratch::Frame whole(place.scratch);
  const int64_t dim = place.dim(), width = place.width();
  const T *keys = place.columns_of(qkv + place.key_at());
  const T *values = place.rows_of(qkv + place.value_at());
  for (int64_t head = 0; head < place.group(); ++head) {
    for (int64_t start = 0; start < at.length; start += kQueries) {
      Scratch::Frame frame(place.scratch);
      const Queries own(start, at.length);
      const T *query = place.gathered(qkv + place.query_at(head) + start * width, width, own.count, own.rows);
      W *scores = place.scratch.template take<W>(own.rows * own.seen);
      place.times(query, own.rows, dim, keys, dim, own.seen, scores, own.seen, false);
      T *weights = place.scratch.template zeros<T>(own.rows * own.seen);
      W *totals = place.scratch.template take<W>(own.count);
      for (int64_t n = 0; n < own.count; ++n) {
        sums[(at.first + start + n) * form.heads + place.head(head)] =
            soften(scores + n * own.seen, place.scale(), start + n + 1, own.seen, weights + n * own.seen, totals + n);
      }
      W *attended = place.scratch.template take<W>(own.rows * dim);
      place.times(weights, own.rows, own.seen, values, place.keys(), dim, attended, dim, false);
      for (int64_t n = 0; n < own.count; ++n) {
        divide(attended + n * dim, totals[n],
               out + (at.first + start + n) * place.out_width() + place.head(head) * dim, dim);
      }
    }
  }
}

// The gradient of some queries of one head, which adds to those of keys and values [keys, dim].
template <typename T> struct Back {
  using W = typename Wide<T>::type;

  const Place<T> &place;
  const T *qkv, *out, *g;
  const W *sums;
  T *g_qkv;
  // Packed keys as columns and rows, and values as columns.
  const T *keys, *key_rows, *values;
  W *g_keys, *g_values;

  void run(int64_t head, const Queries &own) const {
    Scratch &scratch = place.scratch;
    Scratch::Frame frame(scratch);
    const int64_t dim = place.dim(), width = place.width(), out_width = place.out_width(), seen = own.seen;
    const int64_t token = place.at.first + own.start, at_out = token * out_width + place.head(head) * dim;
    const T *query = place.gathered(qkv + place.query_at(head) + own.start * width, width, own.count, own.rows);
    const T *gradient = place.gathered(g + at_out, out_width, own.count, own.rows);
    W *scores = scratch.take<W>(own.rows * seen), *g_weights = scratch.take<W>(own.rows * seen);
    place.times(query, own.rows, dim, keys, dim, seen, scores, seen, false);
    place.times(gradient, own.rows, dim, values, dim, seen, g_weights, seen, false);
    T *weights = scratch.zeros<T>(own.rows * seen), *g_scores = scratch.zeros<T>(own.rows * seen);
    for (int64_t n = 0; n < own.count; ++n) {
      const W along = dot(g + at_out + n * out_width, out + at_out + n * out_width, dim);
      const W log_sum = sums[(token + n) * place.form.heads + place.head(head)];
      soften_back(scores + n * seen, g_weights + n * seen, place.scale(), log_sum, along, own.start + n + 1, seen,
                  weights + n * seen, g_scores + n * seen);
    }
    W *g_query = scratch.take<W>(own.rows * dim);
    place.times(g_scores, own.rows, seen, key_rows, place.keys(), dim, g_query, dim, false);
    for (int64_t n = 0; n < own.count; ++n) {
      divide(g_query + n * dim, W(1), g_qkv + place.query_at(head) + (own.start + n) * width, dim);
    }
    const T *gradient_rows = place.rows_of(gradient, dim, own.rows, own.rows);
    const T *query_rows = place.rows_of(query, dim, own.rows, own.rows);
    T *across = scratch.take<T>(kPanel * own.rows);
    for (int64_t key = 0; key < seen; key += kPanel) {
      const int64_t count = std::min(kPanel, seen - key);
      transpose(weights + key, seen, across, own.rows, own.rows, count);
      place.times(across, count, own.rows, gradient_rows, own.rows, dim, g_values + key * dim, dim, true);
      transpose(g_scores + key, seen, across, own.rows, own.rows, count);
      place.times(across, count, own.rows, query_rows, own.rows, dim, g_keys + key * dim, dim, true);
    }
  }
};

template <typename T>
void attend_back_any(const T *qkv, const T *out, const typename Wide<T>::type *sums, const T *g, const Attended &at,
                     const AttentionForm &form, T *g_qkv) {
  using W = typename Wide<T>::type;
  const Place<T> place{form, at};
  Scratch::Frame whole(place.scratch);
  const int64_t dim = place.dim(), width = place.width();
  W *g_keys = place.scratch.template zeros<W>(place.keys() * dim);
  W *g_values = place.scratch.template zeros<W>(place.keys() * dim);
  const Back<T> back{place,
                     qkv,
                     out,
                     g,
                     sums,
                     g_qkv,
                     place.columns_of(qkv + place.key_at()),
                     place.rows_of(qkv + place.key_at()),
                     place.columns_of(qkv + place.value_at()),
                     g_keys,
                     g_values};
  for (int64_t head = 0; head < place.group(); ++head) {
    for (int64_t start = 0; start < at.length; start += kQueries) {
      back.run(head, Queries(start, at.length));
    }
  }
  for (int64_t n = 0; n < at.length; ++n) {
    divide(g_keys + n * dim, W(1), g_qkv + place.key_at() + n * width, dim);
    divide(g_values + n * dim, W(1), g_qkv + place.value_at() + n * width, dim);
  }
}

} // namespace

#define LORAGRID_ATTEND(T)                                                                                           \
  void attend(const T *qkv, const Attended &at, const AttentionForm &form, T *out, typename Wide<T>::type *sums) {   \
    attend_any(qkv, at, form, out, sums);                                                                            \
  }                                                                                                                  \
  void attend_back(const T *qkv, const T *out, const typename Wide<T>::type *sums, const T *g, const Attended &at,   \
                   const AttentionForm &form, T *g_qkv) {                                                            \
    attend_back_any(qkv, out, sums, g, at, form, g_qkv);                                                             \
  }
LORAGRID_ATTEND(BFloat16)
LORAGRID_ATTEND(float)
LORAGRID_ATTEND(double)

} // namespace loragrid
