// Numbers of the compute dtypes inside plain loops, which the compiler makes vectors of. Every kernel is built for several
// instruction sets and the processor's is chosen when the program starts; lanes are summed in one fixed order, so that the
// sets differ in nothing but speed and fused rounding is never used.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace loragrid {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LORAGRID_KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LORAGRID_KERNEL
#endif
#define LORAGRID_INLINE static inline __attribute__((always_inline))

// 16 bits with the exponent of a single, as they lie in memory.
struct BFloat16 {
  uint16_t bits;
};

// The type in which a dtype is computed.
template <typename T> struct Wide {
  using type = float;
};
template <> struct Wide<double> {
  using type = double;
};

LORAGRID_INLINE float widen(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}
LORAGRID_INLINE float widen(float x) { return x; }
LORAGRID_INLINE double widen(double x) { return x; }

// Rounds to the nearest, ties to even; NaN stays NaN.
LORAGRID_INLINE void narrow(float x, BFloat16 &out) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  out.bits = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded);
}
LORAGRID_INLINE void narrow(float x, float &out) { out = x; }
LORAGRID_INLINE void narrow(double x, double &out) { out = x; }
LORAGRID_INLINE void narrow(float x, double &out) { out = x; }
LORAGRID_INLINE void narrow(double x, float &out) { out = static_cast<float>(x); }
LORAGRID_INLINE void narrow(double x, BFloat16 &out) { narrow(static_cast<float>(x), out); }

// x as a T holds it, in T's wide type.
template <typename T> LORAGRID_INLINE typename Wide<T>::type rounded(typename Wide<T>::type x) {
  T narrowed;
  narrow(x, narrowed);
  return widen(narrowed);
}

// e^x within two units in the last place: 2^n times a polynomial of the rest (Cody and Waite's reduction).
LORAGRID_INLINE float exponential(float x) {
  const float clamped = x < -87.0f ? -87.0f : (x > 88.5f ? 88.5f : x);
  const float n = std::nearbyint(clamped * 1.44269504088896341f);
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t exponent = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &exponent, sizeof power);
  const float value = p * power;
  // Below the range it is nothing, and NaN goes through.
  return x < -87.0f ? 0.0f : (x != x ? x : value);
}
LORAGRID_INLINE double exponential(double x) { return std::exp(x); }

// Lanes of a sum or maximum.
constexpr int64_t kLanes = 32;

// The sum of lanes, in halves.
template <typename W> LORAGRID_INLINE W lanes_added(W *lanes) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t n = 0; n < half; ++n) {
      lanes[n] += lanes[n + half];
    }
  }
  return lanes[0];
}

// Sum of f(n) for n < width in a fixed number of lanes.
template <typename W, typename F> LORAGRID_INLINE W lane_sum(int64_t width, F f) {
  W lanes[kLanes] = {};
  int64_t first = 0;
  for (; first + kLanes <= width; first += kLanes) {
    for (int64_t n = 0; n < kLanes; ++n) {
      lanes[n] += f(first + n);
    }
  }
  for (int64_t n = first; n < width; ++n) {
    lanes[n - first] += f(n);
  }
  return lanes_added(lanes);
}

template <typename T> const T *data(const at::Tensor &x) { return static_cast<const T *>(x.const_data_ptr()); }
template <typename T> T *mutable_data(const at::Tensor &x) { return static_cast<T *>(x.mutable_data_ptr()); }

// Calls `body` with a null pointer of the tensor's element type.
template <typename F> void with_type(at::ScalarType kind, F body) {
  switch (kind) {
  case at::kBFloat16:
    return body(static_cast<BFloat16 *>(nullptr));
  case at::kFloat:
    return body(static_cast<float *>(nullptr));
  case at::kDouble:
    return body(static_cast<double *>(nullptr));
  default:
    TORCH_CHECK(false, "there is no kernel for ", kind);
  }
}

// Rows for one thread at a time.
inline int64_t grain(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)); }

} // namespace loragrid
