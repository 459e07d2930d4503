#include "group_tiles.h"

namespace loragrid {

std::pair<at::Tensor, at::Tensor> GroupTiles::gradients(int64_t n) const {
  const auto &part = parts_[n];
  auto a = at::zeros(part.a.sizes(), part.a.options()), b = at::zeros(part.b.sizes(), part.b.options());
  with_type(a.scalar_type(), [&](auto *type) {
    using W = std::remove_pointer_t<decltype(type)>;
    const int64_t size = part.a.numel(), rank = part.rank(), columns = part.columns();
    for (int64_t tile = 0; tile < part.tiles(); ++tile) {
      const W *own = data<W>(part.partials) + tile * (size + rank * columns);
      W *to_a = mutable_data<W>(a), *to_b = mutable_data<W>(b);
      if constexpr (!std::is_same_v<W, BFloat16>) {
        for (int64_t element = 0; element < size; ++element) {
          to_a[element] += own[element];
        }
        for (int64_t row = 0; row < columns; ++row) {
          for (int64_t k = 0; k < rank; ++k) {
            to_b[row * rank + k] += own[size + k * columns + row];
          }
        }
      }
    }
  });
  return {a, b};
}

} // namespace loragrid
