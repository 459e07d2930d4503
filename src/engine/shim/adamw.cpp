#include "adamw.h"
#include "number.h"

namespace loragrid {
namespace {

template <typename T>
LORAGRID_INLINE void step_range(const AdamW &by, T *p, const typename Wide<T>::type *g, T *first, T *second,
                                const typename Wide<T>::type *factors, int64_t count) {
  using W = typename Wide<T>::type;
  const W beta2 = by.beta2, eps = by.eps, toward1 = 1 - by.beta1, toward2 = 1 - by.beta2;
  const W rate = by.rate, decay = by.weight_decay, correction1 = by.correction1, correction2 = by.correction2;
  for (int64_t n = 0; n < count; ++n) {
    const W own_rate = factors == nullptr ? rate : factors[n] * rate;
    const W m = widen(first[n]), mean = m + toward1 * (g[n] - m);
    const W square = widen(second[n]) * beta2 + g[n] * g[n] * toward2;
    const W denominator = std::sqrt(square) / correction2 + eps;
    const W decayed = widen(p[n]) * (1 - own_rate * decay);
    narrow(decayed - mean / denominator * (own_rate / correction1), p[n]);
    narrow(mean, first[n]);
    narrow(square, second[n]);
  }
}

#define LORAGRID_STEP(T)                                                                                             \
  LORAGRID_KERNEL void step(const AdamW &by, T *p, const typename Wide<T>::type *g, T *first, T *second,             \
                            const typename Wide<T>::type *factors, int64_t count) {                                  \
    step_range(by, p, g, first, second, factors, count);                                                             \
  }
LORAGRID_STEP(BFloat16)
LORAGRID_STEP(float)
LORAGRID_STEP(double)

} // namespace

void adamw_step(const AdamW &by, const at::Tensor &parameters, const at::Tensor &gradient, const at::Tensor &first,
                const at::Tensor &second, const at::Tensor *factors) {
  const int64_t count = parameters.numel();
  TORCH_CHECK(gradient.numel() == count && first.numel() == count && second.numel() == count &&
                  (factors == nullptr || factors->numel() == count),
              "an optimizer's state has another size than its parameters");
  with_type(parameters.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    using W = typename Wide<T>::type;
    at::parallel_for(0, count, 1 << 14, [&](int64_t begin, int64_t end) {
      step(by, mutable_data<T>(parameters) + begin, data<W>(gradient) + begin, mutable_data<T>(first) + begin,
           mutable_data<T>(second) + begin, factors == nullptr ? nullptr : data<W>(*factors) + begin, end - begin);
    });
  });
}

} // namespace loragrid
