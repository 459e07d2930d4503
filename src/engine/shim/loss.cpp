#include "loss.h"
#include "number.h"

namespace loragrid {
namespace {

// Cross-entropy of one row of logits; the row becomes the gradient of weight × cross-entropy.
template <typename T>
LORAGRID_INLINE double entropy_row(T *row, int64_t target, double weight, int64_t vocabulary) {
  using W = typename Wide<T>::type;
  W lanes[kLanes];
  for (int64_t n = 0; n < kLanes; ++n) {
    lanes[n] = widen(row[n < vocabulary ? n : 0]);
  }
  int64_t whole = vocabulary - vocabulary % kLanes;
  for (int64_t first = 0; first < whole; first += kLanes) {
    for (int64_t n = 0; n < kLanes; ++n) {
      const W x = widen(row[first + n]);
      lanes[n] = x > lanes[n] ? x : lanes[n];
    }
  }
  for (int64_t n = whole; n < vocabulary; ++n) {
    const W x = widen(row[n]);
    lanes[n - whole] = x > lanes[n - whole] ? x : lanes[n - whole];
  }
  W most = lanes[0];
  for (int64_t n = 1; n < kLanes; ++n) {
    most = lanes[n] > most ? lanes[n] : most;
  }
  for (int64_t n = 0; n < kLanes; ++n) {
    lanes[n] = 0;
  }
  for (int64_t first = 0; first < whole; first += kLanes) {
    for (int64_t n = 0; n < kLanes; ++n) {
      lanes[n] += exponential(widen(row[first + n]) - most);
    }
  }
  for (int64_t n = whole; n < vocabulary; ++n) {
    lanes[n - whole] += exponential(widen(row[n]) - most);
  }
  double sum = 0;
  for (int64_t n = 0; n < kLanes; ++n) {
    sum += lanes[n];
  }
  const double log_sum = std::log(sum) + most;
  const double loss = log_sum - widen(row[target]);
  const W shift = static_cast<W>(log_sum), factor = static_cast<W>(weight);
  const W at_target = factor * (exponential(widen(row[target]) - shift) - 1);
  for (int64_t n = 0; n < vocabulary; ++n) {
    narrow(factor * exponential(widen(row[n]) - shift), row[n]);
  }
  narrow(at_target, row[target]);
  return loss * weight;
}

#define LORAGRID_ENTROPY(T)                                                                                          \
  LORAGRID_KERNEL double entropy(T *row, int64_t target, double weight, int64_t vocabulary) {                        \
    return entropy_row(row, target, weight, vocabulary);                                                             \
  }
LORAGRID_ENTROPY(BFloat16)
LORAGRID_ENTROPY(float)
LORAGRID_ENTROPY(double)

} // namespace

at::Tensor cross_entropy(const at::Tensor &logits, const at::Tensor &targets, const at::Tensor &weights) {
  at::NoGradGuard guard;
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  TORCH_CHECK(logits.is_contiguous() && logits.is_cpu() && targets.numel() == rows && weights.numel() == rows,
              "cross-entropy of logits that have other targets");
  auto losses = at::empty({rows}, at::kDouble);
  with_type(logits.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t target = data<int64_t>(targets)[row];
        TORCH_CHECK(target >= 0 && target < vocabulary, "a target beyond the vocabulary");
        mutable_data<double>(losses)[row] =
            entropy(mutable_data<T>(logits) + row * vocabulary, target, data<double>(weights)[row], vocabulary);
      }
    });
  });
  return losses;
}

} // namespace loragrid
