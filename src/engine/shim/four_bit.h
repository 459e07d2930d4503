// Matrices in 4 bits, as bitsandbytes packs them.
#pragma once

#include "number.h"

namespace loragrid {

struct FourBit {
  // [elements / 2] bytes, the even element in the high nibble.
  at::Tensor packed;
  // [elements / 64], single precision; undefined where they are quantized themselves.
  at::Tensor absmax;
  // Codes of magnitudes [elements / 64], their values [256], magnitudes of those [elements / 64 / 256].
  at::Tensor codes, values, nested;
  double offset = 0;
  // [256, 2], single precision: the two values of every byte.
  at::Tensor table;
  int64_t rows = 0, columns = 0;
  // What bitsandbytes rounds the values to, where the matrix was stored by it.
  c10::optional<at::ScalarType> stored = c10::nullopt;
};

// Writes the matrix into `out` [rows, columns], which is contiguous: one product in single precision for each element,
// rounded once; first to the dtype that it was stored with, if there is one.
void dequantize_into(const FourBit &matrix, const at::Tensor &out);

// Whether single rows can be dequantized to this kind: rows begin with a whole byte, and nothing is rounded in between.
bool has_rows(const FourBit &matrix, at::ScalarType kind);

// Writes `count` rows from `first` on into `out` [count, columns], by the calling thread alone, to the same values.
void dequantize_rows(const FourBit &matrix, int64_t first, int64_t count, BFloat16 *out);
void dequantize_rows(const FourBit &matrix, int64_t first, int64_t count, float *out);
void dequantize_rows(const FourBit &matrix, int64_t first, int64_t count, double *out);

} // namespace loragrid
