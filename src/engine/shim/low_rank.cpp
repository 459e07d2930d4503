#include "low_rank.h"

namespace loragrid {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

// SplitMix64's output function, as `passes/random` has it.
LORAGRID_INLINE uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Which of 64 elements are kept, one bit each; `state` belongs to the first.
LORAGRID_KERNEL uint64_t kept_word(uint64_t state, uint64_t threshold, int64_t count) {
  uint64_t word = 0;
  for (int64_t n = 0; n < count; ++n) {
    const uint64_t bits = mix(state + static_cast<uint64_t>(n) * kGolden) >> 32;
    word |= static_cast<uint64_t>(bits >= threshold) << n;
  }
  return word;
}

// z ^= z >> count, without its sign.
at::Tensor &shift_xor(at::Tensor &z, int64_t count) {
  return z.bitwise_xor_(z.bitwise_right_shift(count).bitwise_and_((int64_t(1) << (64 - count)) - 1));
}

template <typename T, typename K>
LORAGRID_INLINE void masked_row(const T *x, const uint64_t *words, K kept, K *out, int64_t width) {
  if (words == nullptr) {
    for (int64_t n = 0; n < width; ++n) {
      narrow(widen(x[n]), out[n]);
    }
    return;
  }
  for (int64_t first = 0; first < width; first += 64) {
    const uint64_t word = words[first / 64];
    const int64_t count = std::min<int64_t>(64, width - first);
    for (int64_t n = 0; n < count; ++n) {
      typename Wide<K>::type value = widen(x[first + n]) * widen(kept);
      value = (word >> n) & 1 ? value : 0;
      narrow(value, out[first + n]);
    }
  }
}

template <typename K>
LORAGRID_INLINE void add_masked_row(const K *g, const uint64_t *words, K kept, typename Wide<K>::type *sum,
                                    int64_t width) {
  for (int64_t first = 0; first < width; first += 64) {
    const uint64_t word = words == nullptr ? ~uint64_t(0) : words[first / 64];
    const int64_t count = std::min<int64_t>(64, width - first);
    for (int64_t n = 0; n < count; ++n) {
      const auto value = rounded<K>(widen(g[first + n]) * widen(kept));
      sum[first + n] += (word >> n) & 1 ? value : 0;
    }
  }
}

// y = x-kind(K(y) + K(scale · low)) for one row.
template <typename T, typename K>
LORAGRID_INLINE void add_row(const K *low, double scale, T *y, int64_t columns) {
  using W = typename Wide<K>::type;
  const W factor = static_cast<W>(scale);
  for (int64_t n = 0; n < columns; ++n) {
    const W part = rounded<K>(widen(low[n]) * factor);
    const W sum = rounded<K>(rounded<K>(static_cast<W>(widen(y[n]))) + part);
    narrow(sum, y[n]);
  }
}

// out = K(K(g) · scale) for one row.
template <typename T, typename K>
LORAGRID_INLINE void scaled_row(const T *g, double scale, K *out, int64_t columns) {
  using W = typename Wide<K>::type;
  const W factor = static_cast<W>(scale);
  for (int64_t n = 0; n < columns; ++n) {
    narrow(rounded<K>(static_cast<W>(widen(g[n]))) * factor, out[n]);
  }
}

} // namespace

Mask::Mask(const LowRank &part, int64_t width, at::Device device)
    : width_(width), per_row_((width + 63) / 64), threshold_(part.threshold) {
  rows_.reserve(part.rows);
  for (int64_t run = 0; run < part.run_count; ++run) {
    for (int64_t n = 0; n < part.runs[run].count; ++n) {
      rows_.emplace_back(part.runs[run].key, (part.runs[run].position + n) * width);
    }
  }
  TORCH_CHECK(static_cast<int64_t>(rows_.size()) == part.rows, "a dropout mask of ", rows_.size(), " rows for ",
              part.rows);
  if (device.is_cpu()) {
    words_.resize(part.rows * per_row_);
    return;
  }
  std::vector<int64_t> first;
  first.reserve(rows_.size());
  for (const auto &[key, element] : rows_) {
    first.push_back(static_cast<int64_t>(key + element * kGolden));
  }
  states_ = at::tensor(first, at::kLong).to(device, /*non_blocking=*/true);
}

void Mask::make(int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t word = 0; word < per_row_; ++word) {
      const uint64_t element = rows_[row].second + 64 * word;
      const int64_t count = std::min<int64_t>(64, width_ - 64 * word);
      words_[row * per_row_ + word] = kept_word(rows_[row].first + element * kGolden, threshold_, count);
    }
  }
}

at::Tensor Mask::kept_there(int64_t width) const {
  const auto places = at::arange(width, states_.options()) * static_cast<int64_t>(kGolden);
  auto z = states_.unsqueeze(1) + places;
  shift_xor(z, 30).mul_(static_cast<int64_t>(0xBF58476D1CE4E5B9u));
  shift_xor(z, 27).mul_(static_cast<int64_t>(0x94D049BB133111EBu));
  shift_xor(z, 31);
  return z.bitwise_right_shift_(32).bitwise_and_(0xFFFFFFFF).ge(static_cast<int64_t>(threshold_));
}

// The kernels for each pair of kinds: of the model and of the adapter.
#define LORAGRID_PAIR(T, K)                                                                                          \
  LORAGRID_KERNEL void masked(const T *x, const uint64_t *words, K kept, K *out, int64_t width) {                    \
    masked_row(x, words, kept, out, width);                                                                          \
  }                                                                                                                  \
  LORAGRID_KERNEL void add(const K *low, double scale, T *y, int64_t columns) { add_row(low, scale, y, columns); }   \
  LORAGRID_KERNEL void scaled(const T *g, double scale, K *out, int64_t columns) { scaled_row(g, scale, out, columns); }
LORAGRID_PAIR(BFloat16, float)
LORAGRID_PAIR(BFloat16, BFloat16)
LORAGRID_PAIR(float, float)
LORAGRID_PAIR(double, double)

#define LORAGRID_SUM(K)                                                                                              \
  LORAGRID_KERNEL void add_masked(const K *g, const uint64_t *words, K kept, typename Wide<K>::type *sum,            \
                                  int64_t width) {                                                                   \
    add_masked_row(g, words, kept, sum, width);                                                                      \
  }
LORAGRID_SUM(BFloat16)
LORAGRID_SUM(float)
LORAGRID_SUM(double)

#define LORAGRID_ROUND(T)                                                                                            \
  LORAGRID_KERNEL void add_rounded(const typename Wide<T>::type *sum, T *out, int64_t width) {                       \
    for (int64_t n = 0; n < width; ++n) {                                                                            \
      narrow(widen(out[n]) + sum[n], out[n]);                                                                        \
    }                                                                                                                \
  }
LORAGRID_ROUND(BFloat16)
LORAGRID_ROUND(float)
LORAGRID_ROUND(double)

} // namespace loragrid
