// Frozen matrices with low-rank parts on top: one node of the autograd graph.
#pragma once

#include "frozen.h"
#include "low_rank.h"

namespace loragrid {

// x·Wᵀ + b, and for each part scale · dropout(x)·Aᵀ·Bᵀ in the part's own kind, each sum rounded to x's.
at::Tensor group_forward(const std::shared_ptr<const Frozen> &frozen, const at::Tensor &x, const LowRank *parts,
                         int64_t count);

} // namespace loragrid
