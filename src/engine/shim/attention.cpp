#include "attention.h"
#include "node.h"
#include "number.h"

namespace loragrid {
namespace {

// The first `turned` features of a head turned by their position, the rest copied. Products and their sum are rounded as
// transformers rounds them.
template <typename T>
LORAGRID_INLINE void turn_head(const T *x, const T *cos, const T *sin, T *out, int64_t turned, int64_t width) {
  using W = typename Wide<T>::type;
  const int64_t half = turned / 2;
  for (int64_t n = 0; n < half; ++n) {
    const W low = widen(x[n]), high = widen(x[n + half]);
    narrow(rounded<T>(low * widen(cos[n])) + rounded<T>(-high * widen(sin[n])), out[n]);
    narrow(rounded<T>(high * widen(cos[n + half])) + rounded<T>(low * widen(sin[n + half])), out[n + half]);
  }
  for (int64_t n = turned; n < width; ++n) {
    out[n] = x[n];
  }
}

// The gradient of the same, of a sum `g` in the wide type that is rounded first.
template <typename T>
LORAGRID_INLINE void turn_back(const typename Wide<T>::type *g, const T *cos, const T *sin, T *out, int64_t turned,
                               int64_t width) {
  using W = typename Wide<T>::type;
  const int64_t half = turned / 2;
  for (int64_t n = 0; n < half; ++n) {
    const W low = rounded<T>(g[n]), high = rounded<T>(g[n + half]);
    narrow(rounded<T>(low * widen(cos[n])) + rounded<T>(high * widen(sin[n + half])), out[n]);
    narrow(rounded<T>(high * widen(cos[n + half])) - rounded<T>(low * widen(sin[n])), out[n + half]);
  }
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

// Queries, keys and values [tokens, heads, head_dim] each, keys and values once for every query head.
struct Heads {
  at::Tensor query, key, value;
};

struct Attention {
  at::Tensor cos, sin;
  AttentionForm form{};
  std::vector<SequenceRun> runs;

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
    const auto empty = [&] { return at::empty({tokens, form.heads, dim}, qkv.options()); };
    Heads to{empty(), empty(), empty()};
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
    const int64_t start = token * form.heads * dim;
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
    const int64_t tokens = g.query.size(0), dim = form.head_dim;
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
    const int64_t dim = form.head_dim, turned = this->turned(), start = token * form.heads * dim;
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

  // [count, heads, length, head_dim] of a run in [tokens, heads, head_dim].
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
  // [tokens, heads, head_dim], and log-sums of exponentials by run.
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
    const auto g = gradients[0].contiguous().view(out.sizes());
    if (own.has_varlen(g)) {
      auto [query, key, value] = at::_flash_attention_backward(
          g, heads.query, heads.key, heads.value, out, sums[0], ends, ends, longest, longest, 0.0, true, seed, unused,
          own.form.scale);
      return {own.join({query, key, value})};
    }
    Heads to{at::empty_like(heads.query), at::empty_like(heads.query), at::empty_like(heads.query)};
    int64_t start = 0;
    for (size_t n = 0; n < own.runs.size(); ++n) {
      const auto &run = own.runs[n];
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
  node->own = {cos, sin, form, {runs, runs + run_count}};
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
    for (const auto &run : own.runs) {
      const auto part = [&](const at::Tensor &x) { return own.of_run(x, start, run); };
      auto [attended, sums] = at::_scaled_dot_product_flash_attention_for_cpu(
          part(heads.query), part(heads.key), part(heads.value), 0.0, true, {}, form.scale);
      part(out).copy_(attended);
      node->sums.push_back(sums);
      start += run.count * run.length;
    }
  }
  auto flat = out.view({qkv.size(0), form.heads * form.head_dim});
  if (wanted) {
    node->out = out;
    hang(node, {input}, flat);
  }
  return flat;
}

} // namespace loragrid
