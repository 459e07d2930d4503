#include "group.h"
#include "node.h"
#include "number.h"

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

// Which elements of the input are kept: [rows, ceil(width / 64)] words.
struct Mask {
  std::vector<uint64_t> words;
  int64_t per_row = 0;
  // The state of the first element of each row, and the threshold, where masks are made on another device.
  at::Tensor states;
  int64_t threshold = 0;

  Mask(const LowRank &part, int64_t width, at::Device device)
      : per_row((width + 63) / 64), threshold(static_cast<int64_t>(part.threshold)) {
    std::vector<std::pair<uint64_t, uint64_t>> rows;
    rows.reserve(part.rows);
    for (int64_t run = 0; run < part.run_count; ++run) {
      for (int64_t n = 0; n < part.runs[run].count; ++n) {
        rows.emplace_back(part.runs[run].key, (part.runs[run].position + n) * width);
      }
    }
    TORCH_CHECK(static_cast<int64_t>(rows.size()) == part.rows, "a dropout mask of ", rows.size(), " rows for ",
                part.rows);
    if (!device.is_cpu()) {
      std::vector<int64_t> first;
      first.reserve(rows.size());
      for (const auto &[key, element] : rows) {
        first.push_back(static_cast<int64_t>(key + element * kGolden));
      }
      states = at::tensor(first, at::kLong).to(device, /*non_blocking=*/true);
      return;
    }
    words.resize(part.rows * per_row);
    at::parallel_for(0, part.rows, grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t word = 0; word < per_row; ++word) {
          const uint64_t element = rows[row].second + 64 * word;
          const int64_t count = std::min<int64_t>(64, width - 64 * word);
          words[row * per_row + word] = kept_word(rows[row].first + element * kGolden, part.threshold, count);
        }
      }
    });
  }

  const uint64_t *row(int64_t n) const { return words.data() + n * per_row; }

  // Whether each element is kept [rows, width], made of `states` on their device by the same arithmetic.
  at::Tensor kept_there(int64_t width) const {
    const auto places = at::arange(width, states.options()) * static_cast<int64_t>(kGolden);
    auto z = states.unsqueeze(1) + places;
    shift_xor(z, 30).mul_(static_cast<int64_t>(0xBF58476D1CE4E5B9u));
    shift_xor(z, 27).mul_(static_cast<int64_t>(0x94D049BB133111EBu));
    shift_xor(z, 31);
    return z.bitwise_right_shift_(32).bitwise_and_(0xFFFFFFFF).ge(threshold);
  }

  // z ^= z >> count, without its sign.
  static at::Tensor &shift_xor(at::Tensor &z, int64_t count) {
    return z.bitwise_xor_(z.bitwise_right_shift(count).bitwise_and_((int64_t(1) << (64 - count)) - 1));
  }
};

template <typename T, typename K>
LORAGRID_INLINE void masked_row(const T *x, const uint64_t *words, K kept, K *out, int64_t width) {
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

// Calls `body` with null pointers of the two element types.
template <typename F> void with_pair(at::ScalarType model, at::ScalarType adapter, F body) {
  if (model == at::kBFloat16 && adapter == at::kFloat) {
    return body(static_cast<BFloat16 *>(nullptr), static_cast<float *>(nullptr));
  }
  TORCH_CHECK(model == adapter, "an adapter in ", adapter, " over a model in ", model);
  with_type(model, [&](auto *type) { body(type, type); });
}

struct Part {
  at::Tensor a, b;
  double scale;
  int64_t first_row, rows, first_column;
  float kept;
  std::shared_ptr<Mask> mask;
  // [rows, r], saved for the gradient of B.
  at::Tensor low;

  int64_t columns() const { return b.size(0); }

  // dropout(x) [rows, in] in the adapter's kind.
  at::Tensor input(const at::Tensor &x) const {
    const auto own = x.narrow(0, first_row, rows);
    if (!mask) {
      return own.to(a.scalar_type());
    }
    if (!x.is_cpu()) {
      return own.to(a.scalar_type()) * factors(x);
    }
    auto out = at::empty(own.sizes(), a.options());
    with_pair(x.scalar_type(), a.scalar_type(), [&](auto *model, auto *adapter) {
      using T = std::remove_pointer_t<decltype(model)>;
      using K = std::remove_pointer_t<decltype(adapter)>;
      K factor;
      narrow(kept, factor);
      const int64_t width = own.size(1);
      at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          masked(data<T>(own) + row * width, mask->row(row), factor, mutable_data<K>(out) + row * width, width);
        }
      });
    });
    return out;
  }

  // 0 or 1/(1 − p) [rows, in] in the adapter's kind, for devices without a kernel of their own.
  at::Tensor factors(const at::Tensor &x) const {
    return mask->kept_there(x.size(1)).to(a.scalar_type()) * static_cast<double>(kept);
  }
};

struct GroupNode : torch::autograd::Node {
  std::shared_ptr<const Frozen> frozen;
  at::Tensor x;
  std::vector<Part> parts;

  // Gradients of the input, then of A and B of each part.
  variable_list apply(variable_list &&gradients) override {
    at::NoGradGuard guard;
    variable_list result(1 + 2 * parts.size());
    if (!gradients[0].defined()) {
      return result;
    }
    const auto g = gradients[0].contiguous();
    const bool wants_input = task_should_compute_output(0);
    if (wants_input) {
      result[0] = frozen->backward(g);
    }
    at::Tensor sum;
    for (size_t n = 0; n < parts.size(); ++n) {
      auto &part = parts[n];
      const auto own = scaled_gradient(part, g);
      result[2 + 2 * n] = at::mm(own.t(), part.low);
      const auto low = at::mm(own, part.b);
      result[1 + 2 * n] = at::mm(low.t(), part.input(x));
      if (wants_input) {
        add_input_gradient(part, at::mm(low, part.a), sum);
      }
    }
    if (sum.defined()) {
      round_into(sum, result[0]);
    }
    return result;
  }

  void release_variables() override {
    x.reset();
    parts.clear();
  }

  at::Tensor scaled_gradient(const Part &part, const at::Tensor &g) const {
    const auto own = g.narrow(0, part.first_row, part.rows).narrow(1, part.first_column, part.columns());
    if (!g.is_cpu()) {
      return own.to(part.b.scalar_type()) * part.scale;
    }
    auto out = at::empty(own.sizes(), part.b.options());
    const int64_t columns = part.columns(), stride = g.size(1);
    with_pair(g.scalar_type(), part.b.scalar_type(), [&](auto *model, auto *adapter) {
      using T = std::remove_pointer_t<decltype(model)>;
      using K = std::remove_pointer_t<decltype(adapter)>;
      at::parallel_for(0, part.rows, grain(columns), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          scaled(data<T>(own) + row * stride, part.scale, mutable_data<K>(out) + row * columns, columns);
        }
      });
    });
    return out;
  }

  // Adds dropout's gradient of `g` [rows, in] to the sum over all parts [tokens, in].
  void add_input_gradient(const Part &part, const at::Tensor &g, at::Tensor &sum) const {
    if (!sum.defined()) {
      const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      sum = at::zeros(x.sizes(), x.options().dtype(wide));
    }
    if (!g.is_cpu()) {
      sum.narrow(0, part.first_row, part.rows).add_(part.mask ? g * part.factors(x) : g);
      return;
    }
    const int64_t width = x.size(1);
    with_type(g.scalar_type(), [&](auto *type) {
      using K = std::remove_pointer_t<decltype(type)>;
      using W = typename Wide<K>::type;
      K factor;
      narrow(part.mask ? part.kept : 1.0f, factor);
      auto *to = mutable_data<W>(sum) + part.first_row * width;
      at::parallel_for(0, part.rows, grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const auto *words = part.mask ? part.mask->row(row) : nullptr;
          add_masked(data<K>(g) + row * width, words, factor, to + row * width, width);
        }
      });
    });
  }

  // out = kind(out + sum).
  static void round_into(const at::Tensor &sum, at::Tensor &out) {
    if (!out.is_cpu()) {
      out = (out.to(sum.scalar_type()) + sum).to(out.scalar_type());
      return;
    }
    const int64_t width = out.size(1);
    with_type(out.scalar_type(), [&](auto *type) {
      using T = std::remove_pointer_t<decltype(type)>;
      using W = typename Wide<T>::type;
      at::parallel_for(0, out.size(0), grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          add_rounded(data<W>(sum) + row * width, mutable_data<T>(out) + row * width, width);
        }
      });
    });
  }
};

// Adds a part's product to its rows and columns of the output.
void add_part(Part &part, const at::Tensor &x, at::Tensor &y) {
  part.low = at::mm(part.input(x), part.a.t());
  const auto product = at::mm(part.low, part.b.t());
  const auto own = y.narrow(0, part.first_row, part.rows).narrow(1, part.first_column, part.columns());
  if (!y.is_cpu()) {
    own.copy_(own.to(product.scalar_type()) + product * part.scale);
    return;
  }
  const int64_t columns = part.columns(), stride = y.size(1);
  with_pair(y.scalar_type(), product.scalar_type(), [&](auto *model, auto *adapter) {
    using T = std::remove_pointer_t<decltype(model)>;
    using K = std::remove_pointer_t<decltype(adapter)>;
    at::parallel_for(0, part.rows, grain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        add(data<K>(product) + row * columns, part.scale, mutable_data<T>(own) + row * stride, columns);
      }
    });
  });
}

} // namespace

at::Tensor group_forward(const std::shared_ptr<const Frozen> &frozen, const at::Tensor &input, const LowRank *low,
                         int64_t count) {
  variable_list inputs{input};
  for (int64_t n = 0; n < count; ++n) {
    inputs.push_back(*low[n].a);
    inputs.push_back(*low[n].b);
  }
  const bool wanted = wants_gradient(inputs);
  at::NoGradGuard guard;
  const auto x = input.detach().contiguous();
  auto y = frozen->forward(x);
  std::vector<Part> parts;
  for (int64_t n = 0; n < count; ++n) {
    const auto &from = low[n];
    Part part{from.a->detach(), from.b->detach(), from.scale, from.first_row, from.rows, from.first_column, from.kept,
              from.threshold > 0 ? std::make_shared<Mask>(from, x.size(1), x.device()) : nullptr, at::Tensor()};
    add_part(part, x, y);
    parts.push_back(std::move(part));
  }
  if (wanted) {
    auto node = new_node<GroupNode>();
    node->frozen = frozen;
    // Frozen matrices alone need no input for the gradient of it.
    if (count > 0) {
      node->x = x;
    }
    node->parts = std::move(parts);
    hang(node, inputs, y);
  }
  return y;
}

} // namespace loragrid
