// A node of the autograd graph that holds whatever its backward pass needs.
#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/torch.h>

namespace loragrid {

using torch::autograd::variable_list;

inline bool wants_gradient(const variable_list &inputs) {
  if (!at::GradMode::is_enabled()) {
    return false;
  }
  for (const auto &input : inputs) {
    if (input.defined() && input.requires_grad()) {
      return true;
    }
  }
  return false;
}

// Hangs a node between its inputs and its one output.
template <typename N> void hang(const std::shared_ptr<N> &node, const variable_list &inputs, at::Tensor &output) {
  torch::autograd::edge_list edges;
  for (const auto &input : inputs) {
    const bool wanted = input.defined() && input.requires_grad();
    edges.push_back(wanted ? torch::autograd::impl::gradient_edge(input) : torch::autograd::Edge());
  }
  node->set_next_edges(std::move(edges));
  torch::autograd::create_gradient_edge(output, node);
}

template <typename N> std::shared_ptr<N> new_node() {
  return std::shared_ptr<N>(new N(), torch::autograd::deleteNode);
}

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

} // namespace loragrid
