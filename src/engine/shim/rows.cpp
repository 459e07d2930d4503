#include "rows.h"
#include "node.h"
#include "number.h"

namespace loragrid {
namespace {

// What x̂ is multiplied by.
template <typename T> LORAGRID_INLINE typename Wide<T>::type factor(T weight, NormForm form) {
  return form == NormForm::PlusOne ? widen(weight) + 1 : widen(weight);
}

template <typename T>
LORAGRID_INLINE typename Wide<T>::type norm_row(const T *x, const T *weight, double eps, NormForm form, T *out,
                                                int64_t width) {
  using W = typename Wide<T>::type;
  const W squares = lane_sum<W>(width, [&](int64_t n) __attribute__((always_inline)) { return widen(x[n]) * widen(x[n]); });
  const W scale = W(1) / std::sqrt(squares / static_cast<W>(width) + static_cast<W>(eps));
  for (int64_t n = 0; n < width; ++n) {
    const W unit = widen(x[n]) * scale;
    narrow((form == NormForm::Rounded ? rounded<T>(unit) : unit) * factor(weight[n], form), out[n]);
  }
  return scale;
}

template <typename T>
LORAGRID_INLINE void norm_back_row(const T *g, const T *x, const T *weight, typename Wide<T>::type scale,
                                   NormForm form, T *out, int64_t width) {
  using W = typename Wide<T>::type;
  const auto own = [&](int64_t n) __attribute__((always_inline)) {
    const W product = widen(g[n]) * factor(weight[n], form);
    return form == NormForm::Rounded ? rounded<T>(product) : product;
  };
  const W along = lane_sum<W>(width, [&](int64_t n) __attribute__((always_inline)) { return own(n) * widen(x[n]); });
  const W back = along / static_cast<W>(width) * scale * scale;
  for (int64_t n = 0; n < width; ++n) {
    narrow((own(n) - widen(x[n]) * back) * scale, out[n]);
  }
}

template <typename T> LORAGRID_INLINE void silu_row(const T *gate, const T *up, T *out, int64_t width) {
  using W = typename Wide<T>::type;
  for (int64_t n = 0; n < width; ++n) {
    const W x = widen(gate[n]);
    const W silu = x / (1 + exponential(-x));
    narrow(rounded<T>(silu) * widen(up[n]), out[n]);
  }
}

template <typename T> LORAGRID_INLINE void sum_row(const T *a, const T *b, T *out, int64_t width) {
  for (int64_t n = 0; n < width; ++n) {
    narrow(widen(a[n]) + widen(b[n]), out[n]);
  }
}

template <typename T>
LORAGRID_INLINE void settle_row(const typename Wide<T>::type *sums, const T *bias, T *out, int64_t width) {
  if (bias == nullptr) {
    for (int64_t n = 0; n < width; ++n) {
      narrow(sums[n], out[n]);
    }
    return;
  }
  for (int64_t n = 0; n < width; ++n) {
    narrow(sums[n] + widen(bias[n]), out[n]);
  }
}

template <typename T>
LORAGRID_INLINE void silu_back_row(const T *g, const T *gate, const T *up, T *g_gate, T *g_up, int64_t width) {
  using W = typename Wide<T>::type;
  for (int64_t n = 0; n < width; ++n) {
    const W x = widen(gate[n]);
    const W sigmoid = 1 / (1 + exponential(-x));
    const W inner = rounded<T>(widen(g[n]) * widen(up[n]));
    narrow(widen(g[n]) * rounded<T>(x * sigmoid), g_up[n]);
    narrow(inner * (sigmoid * (1 + x * (1 - sigmoid))), g_gate[n]);
  }
}

} // namespace

#define LORAGRID_ROWS(T)                                                                                             \
  LORAGRID_KERNEL typename Wide<T>::type norm(const T *x, const T *w, double eps, NormForm form, T *out, int64_t n) { \
    return norm_row(x, w, eps, form, out, n);                                                                        \
  }                                                                                                                  \
  LORAGRID_KERNEL void norm_back(const T *g, const T *x, const T *w, typename Wide<T>::type scale, NormForm form,    \
                                 T *out, int64_t n) {                                                                \
    norm_back_row(g, x, w, scale, form, out, n);                                                                     \
  }                                                                                                                  \
  LORAGRID_KERNEL void silu(const T *gate, const T *up, T *out, int64_t n) { silu_row(gate, up, out, n); }           \
  LORAGRID_KERNEL void silu_back(const T *g, const T *gate, const T *up, T *g_gate, T *g_up, int64_t n) {            \
    silu_back_row(g, gate, up, g_gate, g_up, n);                                                                     \
  }                                                                                                                  \
  LORAGRID_KERNEL void sum(const T *a, const T *b, T *out, int64_t n) { sum_row(a, b, out, n); }                     \
  LORAGRID_KERNEL void settle(const typename Wide<T>::type *sums, int64_t stride, const T *bias, T *out,             \
                              int64_t out_stride, int64_t rows, int64_t columns) {                                   \
    for (int64_t row = 0; row < rows; ++row) {                                                                       \
      settle_row(sums + row * stride, bias, out + row * out_stride, columns);                                        \
    }                                                                                                                \
  }
LORAGRID_ROWS(BFloat16)
LORAGRID_ROWS(float)
LORAGRID_ROWS(double)

namespace {

template <typename F> void each_row(int64_t rows, int64_t width, F body) {
  at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      body(row);
    }
  });
}

struct NormNode : torch::autograd::Node {
  at::Tensor x, weight, scales;
  NormForm form = NormForm::Rounded;

  variable_list apply(variable_list &&gradients) override {
    at::NoGradGuard guard;
    if (!gradients[0].defined()) {
      return {at::Tensor()};
    }
    const auto g = gradients[0].contiguous();
    auto out = at::empty_like(x);
    const int64_t width = x.size(-1);
    with_type(x.scalar_type(), [&](auto *type) {
      using T = std::remove_pointer_t<decltype(type)>;
      using W = typename Wide<T>::type;
      each_row(x.numel() / width, width, [&](int64_t row) {
        norm_back(data<T>(g) + row * width, data<T>(x) + row * width, data<T>(weight), data<W>(scales)[row], form,
                  mutable_data<T>(out) + row * width, width);
      });
    });
    return {out};
  }

  void release_variables() override {
    x.reset();
    scales.reset();
  }
};

struct SiluNode : torch::autograd::Node {
  at::Tensor gate_up;

  variable_list apply(variable_list &&gradients) override {
    at::NoGradGuard guard;
    if (!gradients[0].defined()) {
      return {at::Tensor()};
    }
    const auto g = gradients[0].contiguous();
    auto out = at::empty_like(gate_up);
    const int64_t width = g.size(1);
    with_type(g.scalar_type(), [&](auto *type) {
      using T = std::remove_pointer_t<decltype(type)>;
      each_row(g.size(0), width, [&](int64_t row) {
        const T *gate = data<T>(gate_up) + row * 2 * width;
        T *to = mutable_data<T>(out) + row * 2 * width;
        silu_back(data<T>(g) + row * width, gate, gate + width, to, to + width, width);
      });
    });
    return {out};
  }

  void release_variables() override { gate_up.reset(); }
};

} // namespace

at::Tensor rms_norm(const at::Tensor &input, const at::Tensor &weight, double eps, NormForm form) {
  const bool wanted = wants_gradient({input});
  at::NoGradGuard guard;
  const auto x = input.detach().contiguous();
  TORCH_CHECK(x.scalar_type() == weight.scalar_type() && x.size(-1) == weight.numel() && weight.is_contiguous(),
              "a norm's weight does not fit its input");
  auto out = at::empty_like(x);
  const int64_t width = x.size(-1), rows = x.numel() / width;
  auto scales = at::empty({rows}, x.options().dtype(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
  with_type(x.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    using W = typename Wide<T>::type;
    each_row(rows, width, [&](int64_t row) {
      mutable_data<W>(scales)[row] = norm(data<T>(x) + row * width, data<T>(weight), eps, form,
                                          mutable_data<T>(out) + row * width, width);
    });
  });
  if (wanted) {
    auto node = new_node<NormNode>();
    node->x = x;
    node->weight = weight.detach();
    node->scales = scales;
    node->form = form;
    hang(node, {input}, out);
  }
  return out;
}

at::Tensor gated_silu(const at::Tensor &input) {
  const bool wanted = wants_gradient({input});
  at::NoGradGuard guard;
  const auto gate_up = input.detach().contiguous();
  const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
  auto out = at::empty({rows, width}, gate_up.options());
  with_type(gate_up.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    each_row(rows, width, [&](int64_t row) {
      const T *gate = data<T>(gate_up) + row * 2 * width;
      silu(gate, gate + width, mutable_data<T>(out) + row * width, width);
    });
  });
  if (wanted) {
    auto node = new_node<SiluNode>();
    node->gate_up = gate_up;
    hang(node, {input}, out);
  }
  return out;
}

} // namespace loragrid
