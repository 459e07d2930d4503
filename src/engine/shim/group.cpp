#include "group.h"
#include "low_rank.h"
#include "node.h"
#include "number.h"

namespace loragrid {
namespace {

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

// The mask of a part's input, all of it made; none without dropout.
std::shared_ptr<Mask> mask_of(const LowRank &part, const at::Tensor &x) {
  if (part.threshold == 0) {
    return nullptr;
  }
  auto mask = std::make_shared<Mask>(part, x.size(1), x.device());
  if (x.is_cpu()) {
    at::parallel_for(0, part.rows, grain(x.size(1)), [&](int64_t begin, int64_t end) { mask->make(begin, end); });
  }
  return mask;
}

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
              from.threshold > 0 ? mask_of(from, x) : nullptr, at::Tensor()};
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
