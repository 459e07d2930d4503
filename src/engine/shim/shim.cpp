// What libtorch can do and tch has no door to. mod.rs is its only caller; nothing here throws across the border.

#include "adamw.h"
#include "attention.h"
#include "block.h"
#include "group.h"
#include "loss.h"
#include "node.h"
#include "pages.h"
#include "rows.h"

#include <c10/core/CachingDeviceAllocator.h>

using namespace loragrid;

namespace {

at::Tensor or_undefined(const at::Tensor *tensor) { return tensor == nullptr ? at::Tensor() : *tensor; }

} // namespace

extern "C" {

// The parts of a matrix in 4 bits; null where there is none.
struct FourBitParts {
  const at::Tensor *packed, *absmax, *codes, *values, *nested, *table;
  double offset;
  int64_t rows, columns;
  // A scalar type, or -1.
  int stored;
};

static FourBit matrix_of(const FourBitParts &from) {
  return {*from.packed,
          or_undefined(from.absmax),
          or_undefined(from.codes),
          or_undefined(from.values),
          or_undefined(from.nested),
          from.offset,
          *from.table,
          from.rows,
          from.columns,
          from.stored < 0 ? c10::nullopt : c10::make_optional(static_cast<at::ScalarType>(from.stored))};
}

at::Tensor *loragrid_dequantize(const FourBitParts *matrix, int kind, char *message, size_t size) {
  return guarded(message, size, [&] {
    at::NoGradGuard guard;
    auto out = at::empty({matrix->rows, matrix->columns},
                         matrix->packed->options().dtype(static_cast<at::ScalarType>(kind)));
    dequantize_into(matrix_of(*matrix), out);
    return out;
  });
}

// A frozen layer, which the caller owns. `packed`: whether to pack it, then whether it was.
std::shared_ptr<const Frozen> *loragrid_frozen_new(const at::Tensor *dense, const FourBitParts *parts, int64_t count,
                                                   const at::Tensor *bias, bool *packed, char *message, size_t size) {
  std::shared_ptr<const Frozen> *made = nullptr;
  // The tensor that is returned is nobody's: only whether there is one is of interest.
  delete guarded(message, size, [&] {
    std::vector<FourBit> matrices;
    for (int64_t n = 0; n < count; ++n) {
      matrices.push_back(matrix_of(parts[n]));
    }
    auto frozen = std::make_shared<Frozen>(or_undefined(dense), std::move(matrices), or_undefined(bias));
    *packed = *packed && frozen->pack();
    made = new std::shared_ptr<const Frozen>(std::move(frozen));
    return at::Tensor();
  });
  return made;
}

std::shared_ptr<const Frozen> *loragrid_frozen_share(const std::shared_ptr<const Frozen> *frozen) {
  return new std::shared_ptr<const Frozen>(*frozen);
}

// Rows of a packed layer as one of its own.
std::shared_ptr<const Frozen> *loragrid_frozen_part(const std::shared_ptr<const Frozen> *frozen, int64_t first,
                                                    int64_t count, const at::Tensor *bias, char *message, size_t size) {
  std::shared_ptr<const Frozen> *made = nullptr;
  delete guarded(message, size, [&] {
    auto part = std::make_shared<Frozen>((*frozen)->part(first, count, or_undefined(bias)));
    made = new std::shared_ptr<const Frozen>(std::move(part));
    return at::Tensor();
  });
  return made;
}

at::Tensor *loragrid_frozen_weight(const std::shared_ptr<const Frozen> *frozen, int kind, char *message, size_t size) {
  return guarded(message, size, [&] {
    at::NoGradGuard guard;
    return (*frozen)->weight(static_cast<at::ScalarType>(kind));
  });
}

at::Tensor *loragrid_frozen_picked(const std::shared_ptr<const Frozen> *frozen, const at::Tensor *places, char *message,
                                   size_t size) {
  return guarded(message, size, [&] {
    at::NoGradGuard guard;
    return (*frozen)->picked(*places);
  });
}

void loragrid_frozen_drop(std::shared_ptr<const Frozen> *frozen) { delete frozen; }

at::Tensor *loragrid_group(const std::shared_ptr<const Frozen> *frozen, const at::Tensor *x, const LowRank *parts,
                           int64_t count, char *message, size_t size) {
  return guarded(message, size, [&] { return group_forward(*frozen, *x, parts, count); });
}

static BlockMatrices matrices_of(const std::shared_ptr<const Frozen> *const *frozen) {
  return {*frozen[0], *frozen[1], *frozen[2], *frozen[3]};
}

// Whether a block of these four groups has tiles.
bool loragrid_has_block(const std::shared_ptr<const Frozen> *const *frozen, int kind) {
  try {
    return has_block(matrices_of(frozen), static_cast<at::ScalarType>(kind));
  } catch (const std::exception &) {
    return false;
  }
}

// Inputs are states, cosines and sines; null where nothing is turned.
at::Tensor *loragrid_block(const std::shared_ptr<const Frozen> *const *frozen, const BlockForm *form,
                           const BlockParts *parts, const at::Tensor *const *inputs, const SequenceRun *runs,
                           int64_t run_count, char *message, size_t size) {
  return guarded(message, size, [&] {
    return block(matrices_of(frozen), *form, *parts, *inputs[0], or_undefined(inputs[1]), or_undefined(inputs[2]), runs,
                 run_count);
  });
}

at::Tensor *loragrid_rms_norm(const at::Tensor *x, const at::Tensor *weight, double eps, int form, char *message,
                              size_t size) {
  return guarded(message, size, [&] { return rms_norm(*x, *weight, eps, static_cast<NormForm>(form)); });
}

at::Tensor *loragrid_gated_silu(const at::Tensor *gate_up, char *message, size_t size) {
  return guarded(message, size, [&] { return gated_silu(*gate_up); });
}

at::Tensor *loragrid_attention(const at::Tensor *qkv, const at::Tensor *cos, const at::Tensor *sin,
                               const SequenceRun *runs, int64_t run_count, const AttentionForm *form, char *message,
                               size_t size) {
  return guarded(message, size,
                 [&] { return attention(*qkv, or_undefined(cos), or_undefined(sin), runs, run_count, *form); });
}

// Inputs are queries, keys and values; pools are of keys and of values.
at::Tensor *loragrid_paged_attention(const at::Tensor *const *inputs, at::Tensor *const *pools, const PagedPass *pass,
                                     const PagedForm *form, char *message, size_t size) {
  return guarded(message, size, [&] {
    return paged_attention(*inputs[0], *inputs[1], *inputs[2], *pools[0], *pools[1], *pass, *form);
  });
}

at::Tensor *loragrid_cross_entropy(const at::Tensor *logits, const at::Tensor *targets, const at::Tensor *weights,
                                   char *message, size_t size) {
  return guarded(message, size, [&] { return cross_entropy(*logits, *targets, *weights); });
}

at::Tensor *loragrid_adamw(const AdamW *by, const at::Tensor *parameters, const at::Tensor *gradient,
                           const at::Tensor *first, const at::Tensor *second, const at::Tensor *factors, char *message,
                           size_t size) {
  return guarded(message, size, [&] {
    adamw_step(*by, *parameters, *gradient, *first, *second, factors);
    return at::Tensor();
  });
}

// Gradients of Σ output × cotangent with respect to `wanted`, into `gradients` as new tensors; undefined where there is none.
at::Tensor *loragrid_vector_jacobian(const at::Tensor *output, const at::Tensor *cotangent, at::Tensor *const *wanted,
                                     at::Tensor **gradients, int64_t count, char *message, size_t size) {
  return guarded(message, size, [&] {
    variable_list inputs;
    for (int64_t n = 0; n < count; ++n) {
      inputs.push_back(*wanted[n]);
    }
    auto found = torch::autograd::grad({*output}, inputs, {*cotangent}, /*retain_graph=*/false,
                                       /*create_graph=*/false, /*allow_unused=*/true);
    for (int64_t n = 0; n < count; ++n) {
      gradients[n] = new at::Tensor(std::move(found[n]));
    }
    return at::Tensor();
  });
}

// The most bytes that libtorch held on the accelerator at one time; 0 where there is none.
int64_t loragrid_peak_held(void) {
  try {
    if (!at::hasCUDA()) {
      return 0;
    }
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(0);
    return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  } catch (const std::exception &) {
    return 0;
  }
}

// Sets whether the backward passes of one-dimensional kernels must be the same at every run.
void loragrid_deterministic(bool strict) { at::globalContext().setDeterministicAlgorithms(strict, false); }
}
