// Frozen matrices with low-rank parts on top: one node of the autograd graph.
#pragma once

#include "frozen.h"

namespace loragrid {

extern "C" {
// Elements of a dropout mask: `count` rows of the input one after another, whose random numbers are those of stream `key`
// from the element `position` × width on.
struct MaskRun {
  uint64_t key;
  uint64_t position;
  int64_t count;
};

// What one adapter adds to some of the rows and some of the columns of the output.
struct LowRank {
  // [r, in] and [columns, r], of one kind.
  const at::Tensor *a;
  const at::Tensor *b;
  double scale;
  int64_t first_row, rows;
  int64_t first_column;
  // Probability that an element of its input is dropped, times 2³², and what the others are multiplied by.
  uint64_t threshold;
  float kept;
  const MaskRun *runs;
  int64_t run_count;
};
}

// x·Wᵀ + b, and for each part scale · dropout(x)·Aᵀ·Bᵀ in the part's own kind, each sum rounded to x's.
at::Tensor group_forward(const std::shared_ptr<const Frozen> &frozen, const at::Tensor &x, const LowRank *parts,
                         int64_t count);

} // namespace loragrid
