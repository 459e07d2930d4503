#include "block.h"
#include "group_tiles.h"
#include "node.h"
#include "tile_attention.h"

#include <array>

namespace loragrid {
namespace {

enum Group { kAttention, kOutput, kFeed, kDown };

// One block and one pass: what both directions need, and what the forward one keeps.
struct BlockPass {
  std::vector<GroupTiles> groups;
  at::Tensor before_attention, before_mlp, cos, sin;
  double eps = 0;
  NormForm norm = NormForm::Rounded;
  AttentionForm attention{};
  // Every sequence and head of keys and values.
  std::vector<Attended> attended;
  // [tokens, hidden], [tokens, queries, keys and values] turned, [tokens, heads × head_dim] and [tokens, heads], [tokens, hidden],
  // [tokens, 2 · inner].
  at::Tensor x, qkv, out, sums, middle, gate_up;

  int64_t rows() const { return x.size(0); }
  int64_t hidden() const { return x.size(1); }
  int64_t inner() const { return groups[kDown].in(); }
  int64_t turned() const { return cos.defined() ? cos.size(-1) : 0; }

  void see(const SequenceRun *runs, int64_t count) {
    int64_t first = 0;
    for (int64_t run = 0; run < count; ++run) {
      for (int64_t n = 0; n < runs[run].count; ++n, first += runs[run].length) {
        for (int64_t head = 0; head < attention.kv_heads; ++head) {
          attended.push_back({first, runs[run].length, head});
        }
      }
    }
    TORCH_CHECK(first == rows(), "sequences of ", first, " tokens for ", rows());
  }

  // Packs some groups' matrices, then calls `body(tile, packed)` for each tile.
  template <typename T, typename F> void region(std::initializer_list<Group> own, bool forward, F body) {
    Scratch::Frame frame(Scratch::own());
    std::array<PackedGroup<T>, 4> packed;
    std::vector<std::pair<Group, int64_t>> tasks;
    for (const auto group : own) {
      packed[group] = groups[group].template room<T>(forward);
      for (int64_t task = 0; task < groups[group].pack_tasks(packed[group], forward); ++task) {
        tasks.emplace_back(group, task);
      }
    }
    each_task(static_cast<int64_t>(tasks.size()), [&](int64_t n) {
      const auto [group, task] = tasks[n];
      groups[group].pack(task, forward, packed[group]);
    });
    each_task(tiles_of(rows()), [&](int64_t n) {
      Scratch::Frame frame(Scratch::own());
      body(Tile(n, rows()), packed);
      end_products();
    });
  }

  template <typename T> void forward(at::Tensor &y) {
    region<T>({kAttention}, true, [&](const Tile &tile, const auto &packed) { before<T>(tile, packed[kAttention]); });
    each_task(static_cast<int64_t>(attended.size()), [&](int64_t n) {
      using W = typename Wide<T>::type;
      attend(data<T>(qkv), attended[n], attention, mutable_data<T>(out), mutable_data<W>(sums));
      end_products();
    });
    region<T>({kOutput, kFeed, kDown}, true,
              [&](const Tile &tile, const auto &packed) { after(tile, packed, mutable_data<T>(y)); });
  }

  // The norm of a tile's rows in memory of the thread; `scales` takes one number a row.
  template <typename T>
  T *normed(const at::Tensor &states, const at::Tensor &weight, const Tile &tile,
            typename Wide<T>::type *scales = nullptr) const {
    T *own = Scratch::own().take<T>(tile.count * hidden());
    for (int64_t row = 0; row < tile.count; ++row) {
      const auto scale = loragrid::norm(data<T>(states) + (tile.first + row) * hidden(), data<T>(weight), eps, norm,
                                        own + row * hidden(), hidden());
      if (scales != nullptr) {
        scales[row] = scale;
      }
    }
    return own;
  }

  // Queries, keys and values of a tile, turned.
  template <typename T> void before(const Tile &tile, const PackedGroup<T> &packed) {
    const int64_t width = qkv.size(1), dim = attention.head_dim, turned = this->turned();
    const T *x = normed<T>(this->x, before_attention, tile);
    T *to = mutable_data<T>(qkv) + tile.first * width;
    groups[kAttention].forward(packed, tile, x, to, width);
    for (int64_t row = tile.first; turned > 0 && row < tile.first + tile.count; ++row, to += width) {
      for (int64_t head = 0; head < attention.heads + attention.kv_heads; ++head) {
        turn(to + head * dim, data<T>(cos) + row * turned, data<T>(sin) + row * turned, to + head * dim, turned, dim);
      }
    }
  }

  // What follows attention.
  template <typename T> void after(const Tile &tile, const std::array<PackedGroup<T>, 4> &packed, T *y) {
    Scratch &scratch = Scratch::own();
    const int64_t width = attention.heads * attention.head_dim, at = tile.first * hidden();
    T *middle = mutable_data<T>(this->middle) + at, *gate_up = mutable_data<T>(this->gate_up) + tile.first * 2 * inner();
    T *states = scratch.take<T>(tile.count * hidden());
    groups[kOutput].forward(packed[kOutput], tile, data<T>(out) + tile.first * width, states, hidden());
    sum(data<T>(x) + at, states, middle, tile.count * hidden());
    groups[kFeed].forward(packed[kFeed], tile, normed<T>(this->middle, before_mlp, tile), gate_up, 2 * inner());
    const T *fed = activated<T>(tile);
    groups[kDown].forward(packed[kDown], tile, fed, states, hidden());
    sum(middle, states, y + at, tile.count * hidden());
  }

  // silu(gate) · up of a tile.
  template <typename T> const T *activated(const Tile &tile) const {
    T *own = Scratch::own().take<T>(tile.count * inner());
    for (int64_t row = 0; row < tile.count; ++row) {
      const T *from = data<T>(gate_up) + (tile.first + row) * 2 * inner();
      silu(from, from + inner(), own + row * inner(), inner());
    }
    return own;
  }

  // The gradient of x where it is wanted, from that of the block's output; adapters' gradients by tile.
  template <typename T> void backward(const at::Tensor &g, at::Tensor &g_x) {
    using W = typename Wide<T>::type;
    for (auto &group : groups) {
      group.open_gradients();
    }
    auto g_middle = at::empty_like(x), g_out = at::empty_like(out), g_qkv = at::empty_like(qkv);
    region<T>({kOutput, kFeed, kDown}, false, [&](const Tile &tile, const auto &packed) {
      back_after(tile, packed, data<T>(g), mutable_data<T>(g_middle), mutable_data<T>(g_out));
    });
    each_task(static_cast<int64_t>(attended.size()), [&](int64_t n) {
      attend_back(data<T>(qkv), data<T>(out), data<W>(sums), data<T>(g_out), attended[n], attention,
                  mutable_data<T>(g_qkv));
      end_products();
    });
    if (!g_x.defined() && !groups[kAttention].has_parts()) {
      return;
    }
    region<T>({kAttention}, false, [&](const Tile &tile, const auto &packed) {
      back_before(tile, packed[kAttention], data<T>(g_middle), mutable_data<T>(g_qkv),
                  g_x.defined() ? mutable_data<T>(g_x) : nullptr);
    });
  }

  // to += norm's gradient, from those of its outputs [rows, hidden].
  template <typename T>
  void norm_back_rows(const Tile &tile, const T *g, const at::Tensor &states, const at::Tensor &weight,
                      const typename Wide<T>::type *scales, const T *residual, T *to) const {
    T *own = Scratch::own().take<T>(hidden());
    for (int64_t row = 0; row < tile.count; ++row) {
      norm_back(g + row * hidden(), data<T>(states) + (tile.first + row) * hidden(), data<T>(weight), scales[row], norm,
                own, hidden());
      sum(residual + row * hidden(), own, to + row * hidden(), hidden());
    }
  }

  template <typename T>
  void back_after(const Tile &tile, const std::array<PackedGroup<T>, 4> &packed, const T *g, T *g_middle, T *g_out) {
    using W = typename Wide<T>::type;
    Scratch &scratch = Scratch::own();
    const int64_t at = tile.first * hidden(), width = attention.heads * attention.head_dim;
    const T *fed = groups[kDown].has_parts() ? activated<T>(tile) : nullptr;
    T *g_fed = scratch.take<T>(tile.count * inner()), *g_gate_up = scratch.take<T>(tile.count * 2 * inner());
    groups[kDown].backward(packed[kDown], tile, g + at, hidden(), fed, g_fed);
    for (int64_t row = 0; row < tile.count; ++row) {
      const T *from = data<T>(gate_up) + (tile.first + row) * 2 * inner();
      T *to = g_gate_up + row * 2 * inner();
      silu_back(g_fed + row * inner(), from, from + inner(), to, to + inner(), inner());
    }
    W *scales = scratch.take<W>(tile.count);
    const T *x = normed<T>(middle, before_mlp, tile, scales);
    T *g_normed = scratch.take<T>(tile.count * hidden());
    groups[kFeed].backward(packed[kFeed], tile, g_gate_up, 2 * inner(), x, g_normed);
    norm_back_rows(tile, g_normed, middle, before_mlp, scales, g + at, g_middle + at);
    groups[kOutput].backward(packed[kOutput], tile, g_middle + at, hidden(), data<T>(out) + tile.first * width,
                             g_out + tile.first * width);
  }

  template <typename T>
  void back_before(const Tile &tile, const PackedGroup<T> &packed, const T *g_middle, T *g_qkv, T *g_x) {
    using W = typename Wide<T>::type;
    Scratch &scratch = Scratch::own();
    const int64_t width = qkv.size(1), dim = attention.head_dim, turned = this->turned(), at = tile.first * hidden();
    T *g = g_qkv + tile.first * width;
    W *wide = scratch.take<W>(dim);
    for (int64_t row = 0; turned > 0 && row < tile.count; ++row) {
      const int64_t token = (tile.first + row) * turned;
      for (int64_t head = 0; head < attention.heads + attention.kv_heads; ++head) {
        T *to = g + row * width + head * dim;
        turned_back(to, data<T>(cos) + token, data<T>(sin) + token, to, 1, wide, turned, dim);
      }
    }
    W *scales = scratch.take<W>(tile.count);
    const T *x = normed<T>(this->x, before_attention, tile, scales);
    T *g_normed = g_x == nullptr ? nullptr : scratch.take<T>(tile.count * hidden());
    groups[kAttention].backward(packed, tile, g, width, x, g_normed);
    if (g_x != nullptr) {
      norm_back_rows(tile, g_normed, this->x, before_attention, scales, g_middle + at, g_x + at);
    }
  }
};

struct BlockNode : torch::autograd::Node {
  BlockPass pass;

  // Gradients of the input, then of A and B of each part.
  variable_list apply(variable_list &&gradients) override {
    at::NoGradGuard guard;
    variable_list result(1);
    if (gradients[0].defined()) {
      const auto g = gradients[0].contiguous();
      if (task_should_compute_output(0)) {
        result[0] = at::empty_like(pass.x);
      }
      with_type(g.scalar_type(), [&](auto *type) {
        using T = std::remove_pointer_t<decltype(type)>;
        pass.backward<T>(g, result[0]);
      });
    }
    for (const auto &group : pass.groups) {
      for (size_t n = 0; n < group.parts().size(); ++n) {
        auto [a, b] = gradients[0].defined() ? group.gradients(n) : std::pair<at::Tensor, at::Tensor>();
        result.push_back(std::move(a));
        result.push_back(std::move(b));
      }
    }
    return result;
  }

  void release_variables() override { pass = {}; }
};

} // namespace

bool has_block(const BlockMatrices &matrices, at::ScalarType kind) {
  return has_tile_products(kind) && std::all_of(matrices.begin(), matrices.end(), [&](const auto &frozen) {
    return frozen->has_rows(kind) && frozen->in() % 2 == 0 && frozen->out() % 2 == 0;
  });
}

at::Tensor block(const BlockMatrices &matrices, const BlockForm &form, const BlockParts &parts, const at::Tensor &x,
                 const at::Tensor &cos, const at::Tensor &sin, const SequenceRun *runs, int64_t run_count) {
  variable_list inputs{x};
  const LowRank *low = parts.parts;
  auto node = new_node<BlockNode>();
  auto &pass = node->pass;
  for (size_t group = 0; group < matrices.size(); ++group) {
    for (int64_t n = 0; n < parts.counts[group]; ++n) {
      inputs.push_back(*low[n].a);
      inputs.push_back(*low[n].b);
    }
    pass.groups.emplace_back(matrices[group], low, parts.counts[group]);
    low += parts.counts[group];
  }
  const bool wanted = wants_gradient(inputs);
  at::NoGradGuard guard;
  pass.before_attention = form.before_attention->detach();
  pass.before_mlp = form.before_mlp->detach();
  pass.cos = cos.defined() ? cos.contiguous() : cos;
  pass.sin = sin.defined() ? sin.contiguous() : sin;
  pass.eps = form.eps;
  pass.norm = static_cast<NormForm>(form.norm);
  pass.attention = form.attention;
  pass.x = x.detach().contiguous();
  pass.see(runs, run_count);
  const int64_t rows = pass.rows(), heads = form.attention.heads;
  const auto options = pass.x.options();
  pass.qkv = at::empty({rows, matrices[kAttention]->out()}, options);
  pass.out = at::empty({rows, heads * form.attention.head_dim}, options);
  pass.sums = at::empty({rows, heads}, options.dtype(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
  pass.middle = at::empty_like(pass.x);
  pass.gate_up = at::empty({rows, matrices[kFeed]->out()}, options);
  auto y = at::empty_like(pass.x);
  with_type(x.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    pass.forward<T>(y);
  });
  if (wanted) {
    hang(node, inputs, y);
  }
  return y;
}

} // namespace loragrid
