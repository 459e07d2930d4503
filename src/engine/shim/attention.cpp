#include "attention.h"
#include "node.h"
#include "number.h"

#include <map>

namespace loragrid {
namespace {

// Pairs of features that are turned together: local arrays, so that the compiler knows that nothing overlaps.
constexpr int64_t kPairs = 16;

// The first `turned` features of a head turned by their position, the rest copied. Products and their sum are rounded as
// transformers rounds them.
template <typename T>
LORAGRID_INLINE void turn_head(const T *x, const T *cos, const T *sin, T *out, int64_t turned, int64_t width) {
  using W = typename Wide<T>::type;
  const int64_t half = turned / 2;
  const auto some = [&](int64_t first, int64_t count) __attribute__((always_inline)) {
    T low[kPairs], high[kPairs];
    for (int64_t n = 0; n < count; ++n) {
      const int64_t at = first + n;
      const W a = widen(x[at]), b = widen(x[at + half]);
      narrow(rounded<T>(a * widen(cos[at])) + rounded<T>(-b * widen(sin[at])), low[n]);
      narrow(rounded<T>(b * widen(cos[at + half])) + rounded<T>(a * widen(sin[at + half])), high[n]);
    }
    std::memcpy(out + first, low, count * sizeof(T));
    std::memcpy(out + first + half, high, count * sizeof(T));
  };
  int64_t first = 0;
  for (; first + kPairs <= half; first += kPairs) {
    some(first, kPairs);
  }
  some(first, half - first);
  std::memmove(out + turned, x + turned, (width - turned) * sizeof(T));
}

// The gradient of the same, of a sum `g` in the wide type that is rounded first.
template <typename T>
LORAGRID_INLINE void turn_back(const typename Wide<T>::type *g, const T *cos, const T *sin, T *out, int64_t turned,
                               int64_t width) {
  using W = typename Wide<T>::type;
  const int64_t half = turned / 2;
  const auto some = [&](int64_t first, int64_t count) __attribute__((always_inline)) {
    T low[kPairs], high[kPairs];
    for (int64_t n = 0; n < count; ++n) {
      const int64_t at = first + n;
      const W a = rounded<T>(g[at]), b = rounded<T>(g[at + half]);
      narrow(rounded<T>(a * widen(cos[at])) + rounded<T>(b * widen(sin[at + half])), low[n]);
      narrow(rounded<T>(b * widen(cos[at + half])) - rounded<T>(a * widen(sin[at])), high[n]);
    }
    std::memcpy(out + first, low, count * sizeof(T));
    std::memcpy(out + first + half, high, count * sizeof(T));
  };
  int64_t first = 0;
  for (; first + kPairs <= half; first += kPairs) {
    some(first, kPairs);
  }
  some(first, half - first);
  for (int64_t n = turned; n < width; ++n) {
    narrow(g[n], out[n]);
  }
}

// The sum of `count` heads one after another.
template <typename T>
LORAGRID_INLINE void sum_heads(const T *g, typename Wide<T>::type *sum, int64_t count, int64_t width) {
  for (int64_t n = 0; n < width; ++n) {
    sum[n] = widen(g[n]);
  }
  for (int64_t head = 1; head < count; ++head) {
    for (int64_t n = 0; n < width; ++n) {
      sum[n] += widen(g[head * width + n]);
    }
  }
}

} // namespace

#define LORAGRID_TURN(T)                                                                                             \
  LORAGRID_KERNEL void turn(const T *x, const T *cos, const T *sin, T *out, int64_t turned, int64_t width) {         \
    turn_head(x, cos, sin, out, turned, width);                                                                      \
  }                                                                                                                  \
  LORAGRID_KERNEL void turned_back(const T *g, const T *cos, const T *sin, T *out, int64_t count,                    \
                                   typename Wide<T>::type *sum, int64_t turned, int64_t width) {                     \
    sum_heads(g, sum, count, width);                                                                                 \
    turn_back(sum, cos, sin, out, turned, width);                                                                    \
  }
LORAGRID_TURN(BFloat16)
LORAGRID_TURN(float)
LORAGRID_TURN(double)

namespace {

// Sequences are made as long as the next multiple of this, by rows of zeros at their end, which none of their tokens sees: the
// library makes a kernel for each length, and sequences of one length are one call.
constexpr int64_t kStep = 32;

// Where tokens lie so that sequences of one padded length are neighbors.
struct Places {
  // Count and padded length of neighboring sequences.
  std::vector<SequenceRun> runs;
  // Row of each token.
  std::vector<int64_t> rows;
  // Rows of all of it.
  int64_t count = 0;

  Places() = default;
  explicit Places(const std::vector<SequenceRun> &own) {
    std::map<int64_t, int64_t> counts;
    for (const auto &run : own) {
      counts[padded(run.length)] += run.count;
    }
    std::map<int64_t, int64_t> next;
    for (const auto &[length, sequences] : counts) {
      runs.push_back({sequences, length});
      next[length] = count;
      count += sequences * length;
    }
    for (const auto &run : own) {
      auto &start = next[padded(run.length)];
      for (int64_t sequence = 0; sequence < run.count; ++sequence) {
        for (int64_t n = 0; n < run.length; ++n) {
          rows.push_back(start + n);
        }
        start += padded(run.length);
      }
    }
  }

  static int64_t padded(int64_t length) { return (length + kStep - 1) / kStep * kStep; }
};

// Queries, keys and values [rows, heads, head_dim] each, keys and values once for every query head.
struct Heads {
  at::Tensor query, key, value;
};

struct Attention {
  at::Tensor cos, sin;
  AttentionForm form{};
  std::vector<SequenceRun> runs;
  // Of the tokens on a CPU.
  Places places;

  int64_t group() const { return form.heads / form.kv_heads; }
  int64_t turned() const { return cos.defined() ? cos.size(-1) : 0; }
  int64_t width() const { return (form.heads + 2 * form.kv_heads) * form.head_dim; }

  Heads split(const at::Tensor &qkv) const {
    const int64_t tokens = qkv.size(0), dim = form.head_dim;
    if (!qkv.is_cpu()) {
      const auto heads = qkv.view({tokens, form.heads + 2 * form.kv_heads, dim});
      const auto value = heads.narrow(1, form.heads + form.kv_heads, form.kv_heads);
      return {turned_there(heads.narrow(1, 0, form.heads)), turned_there(heads.narrow(1, form.heads, form.kv_heads)),
              value.contiguous()};
    }
    const auto zeros = [&] { return at::zeros({places.count, form.heads, dim}, qkv.options()); };
    Heads to{zeros(), zeros(), zeros()};
    with_type(qkv.scalar_type(), [&](auto *type) {
      using T = std::remove_pointer_t<decltype(type)>;
      at::parallel_for(0, tokens, grain(width()), [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) {
          split_token<T>(qkv, to, token);
        }
      });
    });
    return to;
  }

  template <typename T> void split_token(const at::Tensor &qkv, const Heads &to, int64_t token) const {
    const int64_t dim = form.head_dim, turned = this->turned();
    const T *from = data<T>(qkv) + token * width();
    const T *c = turned > 0 ? data<T>(cos) + token * turned : nullptr;
    const T *s = turned > 0 ? data<T>(sin) + token * turned : nullptr;
    const int64_t start = places.rows[token] * form.heads * dim;
    T *query = mutable_data<T>(to.query) + start, *key = mutable_data<T>(to.key) + start;
    T *value = mutable_data<T>(to.value) + start;
    for (int64_t head = 0; head < form.heads; ++head) {
      turn(from + head * dim, c, s, query + head * dim, turned, dim);
    }
    from += form.heads * dim;
    for (int64_t head = 0; head < form.heads; ++head) {
      const int64_t own = head / group();
      if (head % group() == 0) {
        turn(from + own * dim, c, s, key + head * dim, turned, dim);
      } else {
        std::memcpy(key + head * dim, key + (head - 1) * dim, dim * sizeof(T));
      }
      std::memcpy(value + head * dim, from + (form.kv_heads + own) * dim, dim * sizeof(T));
    }
  }

  at::Tensor turned_there(const at::Tensor &x) const {
    if (turned() == 0) {
      return x.contiguous();
    }
    const int64_t half = turned() / 2, rest = form.head_dim - turned();
    const auto own = x.narrow(2, 0, turned());
    const auto swapped = at::cat({own.narrow(2, half, half).neg(), own.narrow(2, 0, half)}, -1);
    const auto done = own * cos.view({-1, 1, turned()}) + swapped * sin.view({-1, 1, turned()});
    return rest > 0 ? at::cat({done, x.narrow(2, turned(), rest)}, -1) : done.contiguous();
  }

  at::Tensor turned_back_there(const at::Tensor &g) const {
    if (turned() == 0) {
      return g;
    }
    const int64_t half = turned() / 2, rest = form.head_dim - turned();
    const auto own = g.narrow(2, 0, turned());
    const auto across = own * sin.view({-1, 1, turned()});
    const auto swapped = at::cat({across.narrow(2, half, half), across.narrow(2, 0, half).neg()}, -1);
    const auto done = own * cos.view({-1, 1, turned()}) + swapped;
    return rest > 0 ? at::cat({done, g.narrow(2, turned(), rest)}, -1) : done;
  }

  // Gradient of [tokens, width] from those of queries, keys and values [tokens, heads, head_dim].
  at::Tensor join(const Heads &g) const {
    const int64_t dim = form.head_dim;
    const int64_t tokens = g.query.is_cpu() ? static_cast<int64_t>(places.rows.size()) : g.query.size(0);
    if (!g.query.is_cpu()) {
      return at::cat({turned_back_there(g.query), turned_back_there(g.key), g.value}, 1).view({tokens, width()});
    }
    auto out = at::empty({tokens, width()}, g.query.options());
    with_type(out.scalar_type(), [&](auto *type) {
      using T = std::remove_pointer_t<decltype(type)>;
      using W = typename Wide<T>::type;
      at::parallel_for(0, tokens, grain(width()), [&](int64_t begin, int64_t end) {
        std::vector<W> sum(dim);
        for (int64_t token = begin; token < end; ++token) {
          join_token<T>(g, out, token, sum.data());
        }
      });
    });
    return out;
  }

  template <typename T>
  void join_token(const Heads &g, const at::Tensor &out, int64_t token, typename Wide<T>::type *sum) const {
    const int64_t dim = form.head_dim, turned = this->turned(), start = places.rows[token] * form.heads * dim;
    const T *c = turned > 0 ? data<T>(cos) + token * turned : nullptr;
    const T *s = turned > 0 ? data<T>(sin) + token * turned : nullptr;
    T *to = mutable_data<T>(out) + token * width();
    for (int64_t head = 0; head < form.heads; ++head, to += dim) {
      turned_back(data<T>(g.query) + start + head * dim, c, s, to, 1, sum, turned, dim);
    }
    for (int64_t head = 0; head < form.kv_heads; ++head, to += dim) {
      turned_back(data<T>(g.key) + start + head * group() * dim, c, s, to, group(), sum, turned, dim);
    }
    for (int64_t head = 0; head < form.kv_heads; ++head, to += dim) {
      turned_back(data<T>(g.value) + start + head * group() * dim, c, s, to, group(), sum, 0, dim);
    }
  }

  // [rows, heads, head_dim] of [tokens, heads × head_dim], zeros elsewhere; and back.
  at::Tensor spread(const at::Tensor &x) const {
    auto out = at::zeros({places.count, form.heads, form.head_dim}, x.options());
    move(x, out, [](char *token, char *row, size_t size) { std::memcpy(row, token, size); });
    return out;
  }
  at::Tensor gather(const at::Tensor &x) const {
    const int64_t tokens = static_cast<int64_t>(places.rows.size());
    auto out = at::empty({tokens, form.heads * form.head_dim}, x.options());
    move(out, x, [](char *token, char *row, size_t size) { std::memcpy(token, row, size); });
    return out;
  }
  template <typename F> void move(const at::Tensor &tokens, const at::Tensor &rows, F copy) const {
    const size_t size = form.heads * form.head_dim * tokens.element_size();
    auto *own = static_cast<char *>(tokens.data_ptr());
    auto *other = static_cast<char *>(rows.data_ptr());
    at::parallel_for(0, places.rows.size(), grain(size), [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) {
        copy(own + token * size, other + places.rows[token] * size, size);
      }
    });
  }

  // [count, heads, length, head_dim] of a run in [rows, heads, head_dim].
  at::Tensor of_run(const at::Tensor &x, int64_t start, const SequenceRun &run) const {
    const auto own = x.narrow(0, start, run.count * run.length);
    return own.view({run.count, run.length, form.heads, form.head_dim}).transpose(1, 2);
  }

  // Whether the kernel for sequences of unequal lengths serves.
  bool has_varlen(const at::Tensor &x) const {
    return x.is_cuda() && (x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf);
  }

  std::pair<at::Tensor, int64_t> lengths(const at::Tensor &x) const {
    std::vector<int32_t> ends{0};
    int64_t longest = 0;
    for (const auto &run : runs) {
      longest = std::max(longest, run.length);
      for (int64_t n = 0; n < run.count; ++n) {
        ends.push_back(ends.back() + static_cast<int32_t>(run.length));
      }
    }
    return {at::tensor(ends, at::kInt).to(x.device(), /*non_blocking=*/true), longest};
  }
};

struct AttentionNode : torch::autograd::Node {
  Attention own;
  Heads heads;
  // [rows, heads, head_dim], and log-sums of exponentials by run.
  at::Tensor out;
  std::vector<at::Tensor> sums;
  // Of the kernel for unequal lengths.
  at::Tensor ends, seed, unused;
  int64_t longest = 0;

  variable_list apply(variable_list &&gradients) override {
    at::NoGradGuard guard;
    if (!gradients[0].defined()) {
      return {at::Tensor()};
    }
    const auto flat = gradients[0].contiguous();
    if (own.has_varlen(flat)) {
      const auto g = flat.view(out.sizes());
      auto [query, key, value] = at::_flash_attention_backward(
          g, heads.query, heads.key, heads.value, out, sums[0], ends, ends, longest, longest, 0.0, true, seed, unused,
          own.form.scale);
      return {own.join({query, key, value})};
    }
    const auto g = own.spread(flat);
    Heads to{at::empty_like(heads.query), at::empty_like(heads.query), at::empty_like(heads.query)};
    int64_t start = 0;
    for (size_t n = 0; n < own.places.runs.size(); ++n) {
      const auto &run = own.places.runs[n];
      const auto part = [&](const at::Tensor &x) { return own.of_run(x, start, run); };
      auto [query, key, value] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          part(g), part(heads.query), part(heads.key), part(heads.value), part(out), sums[n], 0.0, true, {},
          own.form.scale);
      part(to.query).copy_(query);
      part(to.key).copy_(key);
      part(to.value).copy_(value);
      start += run.count * run.length;
    }
    return {own.join(to)};
  }

  void release_variables() override {
    heads = {};
    out.reset();
    sums.clear();
  }
};

} // namespace

at::Tensor attention(const at::Tensor &input, const at::Tensor &cos, const at::Tensor &sin, const SequenceRun *runs,
                     int64_t run_count, const AttentionForm &form) {
  const bool wanted = wants_gradient({input});
  at::NoGradGuard guard;
  const auto qkv = input.detach().contiguous();
  auto node = new_node<AttentionNode>();
  node->own.cos = cos;
  node->own.sin = sin;
  node->own.form = form;
  node->own.runs = {runs, runs + run_count};
  if (qkv.is_cpu()) {
    node->own.places = Places(node->own.runs);
  }
  const auto &own = node->own;
  node->heads = own.split(qkv);
  const auto &heads = node->heads;
  at::Tensor out;
  if (own.has_varlen(qkv)) {
    std::tie(node->ends, node->longest) = own.lengths(qkv);
    auto [attended, sums, seed, unused, mask] =
        at::_flash_attention_forward(heads.query, heads.key, heads.value, node->ends, node->ends, node->longest,
                                     node->longest, 0.0, true, false, form.scale);
    out = attended;
    node->sums = {sums};
    node->seed = seed;
    node->unused = unused;
  } else {
    TORCH_CHECK(qkv.is_cpu(), "attention in ", qkv.scalar_type(), " has a kernel on CPUs only");
    out = at::empty_like(heads.query);
    int64_t start = 0;
    for (const auto &run : own.places.runs) {
      const auto part = [&](const at::Tensor &x) { return own.of_run(x, start, run); };
      auto [attended, sums] = at::_scaled_dot_product_flash_attention_for_cpu(
          part(heads.query), part(heads.key), part(heads.value), 0.0, true, {}, form.scale);
      part(out).copy_(attended);
      node->sums.push_back(sums);
      start += run.count * run.length;
    }
  }
  auto flat = qkv.is_cpu() ? own.gather(out) : out.view({qkv.size(0), form.heads * form.head_dim});
  if (wanted) {
    node->out = out;
    hang(node, {input}, flat);
  }
  return flat;
}

} // namespace loragrid
