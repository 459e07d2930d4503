// What libtorch can do and tch has no door to. mod.rs is its only caller; nothing here throws across the border.

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/torch.h>

#include <cstring>

namespace {

// Elements that share a magnitude, and bytes that hold them.
constexpr int64_t kBlock = 64;
constexpr int64_t kBlockBytes = kBlock / 2;

// One product in single precision, rounded once to T. `table` has the two values of every byte.
template <typename T>
void dequantise_cpu(const uint8_t *packed, const float *absmax, const float *table, T *out, int64_t elements) {
  const int64_t blocks = (elements + kBlock - 1) / kBlock;
  at::parallel_for(0, blocks, 64, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const float scale = absmax[block];
      const uint8_t *bytes = packed + block * kBlockBytes;
      const int64_t first = block * kBlock;
      const int64_t count = std::min(kBlock, elements - first);
      T *to = out + first;
      for (int64_t n = 0; n + 1 < count; n += 2) {
        const float *pair = table + 2 * bytes[n / 2];
        to[n] = static_cast<T>(pair[0] * scale);
        to[n + 1] = static_cast<T>(pair[1] * scale);
      }
      if (count % 2 == 1) {
        to[count - 1] = static_cast<T>(table[2 * bytes[count / 2]] * scale);
      }
    }
  });
}

at::Tensor dequantise(const at::Tensor &packed, const at::Tensor &absmax, const at::Tensor &table, int64_t rows,
                      int64_t columns, at::ScalarType kind) {
  const int64_t elements = rows * columns;
  TORCH_CHECK(packed.numel() == (elements + 1) / 2 && absmax.numel() == (elements + kBlock - 1) / kBlock,
              "a 4-bit matrix of ", rows, " x ", columns, " has other parts than it needs");
  if (packed.is_cpu()) {
    auto out = at::empty({rows, columns}, packed.options().dtype(kind));
    const auto *bytes = packed.const_data_ptr<uint8_t>();
    const auto *scales = absmax.const_data_ptr<float>();
    const auto *values = table.const_data_ptr<float>();
    switch (kind) {
    case at::kFloat:
      dequantise_cpu(bytes, scales, values, out.mutable_data_ptr<float>(), elements);
      break;
    case at::kDouble:
      dequantise_cpu(bytes, scales, values, out.mutable_data_ptr<double>(), elements);
      break;
    case at::kHalf:
      dequantise_cpu(bytes, scales, values, out.mutable_data_ptr<at::Half>(), elements);
      break;
    case at::kBFloat16:
      dequantise_cpu(bytes, scales, values, out.mutable_data_ptr<at::BFloat16>(), elements);
      break;
    default:
      TORCH_CHECK(false, "a 4-bit matrix cannot become ", kind);
    }
    return out;
  }
  auto pairs = table.view({256, 2}).index_select(0, packed.view({-1}).to(at::kInt)).view({-1});
  auto scales = absmax.repeat_interleave(kBlock).slice(0, 0, pairs.numel());
  return (pairs.slice(0, 0, scales.numel()) * scales).slice(0, 0, elements).view({rows, columns}).to(kind);
}

// x · Wᵀ with a frozen W in 4 bits that is dequantised again in the backward pass and never kept in between.
struct FrozenFourBit : torch::autograd::Function<FrozenFourBit> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x, const at::Tensor &packed,
                            const at::Tensor &absmax, const at::Tensor &table, int64_t rows, int64_t columns) {
    ctx->save_for_backward({packed, absmax, table});
    ctx->saved_data["rows"] = rows;
    ctx->saved_data["columns"] = columns;
    at::AutoDispatchBelowADInplaceOrView below;
    return at::linear(x, dequantise(packed, absmax, table, rows, columns, x.scalar_type()));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &gradient = gradients[0];
    const auto weight = dequantise(saved[0], saved[1], saved[2], ctx->saved_data["rows"].toInt(),
                                   ctx->saved_data["columns"].toInt(), gradient.scalar_type());
    return {gradient.matmul(weight), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// Runs `body` and turns an exception into a null result with its text in `message`.
template <typename F> at::Tensor *guarded(char *message, size_t size, F body) {
  try {
    return new at::Tensor(body());
  } catch (const std::exception &error) {
    std::strncpy(message, error.what(), size - 1);
    message[size - 1] = '\0';
  }
  return nullptr;
}

} // namespace

extern "C" {

at::Tensor *loragrid_dequantise(const at::Tensor *packed, const at::Tensor *absmax, const at::Tensor *table,
                                int64_t rows, int64_t columns, int kind, char *message, size_t size) {
  return guarded(message, size, [&] {
    return dequantise(*packed, *absmax, *table, rows, columns, static_cast<at::ScalarType>(kind));
  });
}

at::Tensor *loragrid_frozen_four_bit(const at::Tensor *x, const at::Tensor *packed, const at::Tensor *absmax,
                                     const at::Tensor *table, int64_t rows, int64_t columns, char *message,
                                     size_t size) {
  return guarded(message, size,
                 [&] { return FrozenFourBit::apply(*x, *packed, *absmax, *table, rows, columns); });
}

// Sets whether the backward passes of one-dimensional kernels must be the same at every run.
void loragrid_deterministic(bool strict) { at::globalContext().setDeterministicAlgorithms(strict, false); }
}
