#include "four_bit.h"
#include "number.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace loragrid {
namespace {

// Elements that share a magnitude, and bytes that hold them.
constexpr int64_t kBlock = 64;
constexpr int64_t kBlockBytes = kBlock / 2;
// Magnitudes that share a magnitude of their own.
constexpr int64_t kNested = 256;

struct Magnitudes {
  const float *plain;
  const uint8_t *codes;
  const float *values;
  const float *nested;
  float offset;

  float at(int64_t block) const {
    if (plain != nullptr) {
      return plain[block];
    }
    // A product and a sum, each rounded, as bitsandbytes computes them.
    const float product = values[codes[block]] * nested[block / kNested];
    return product + offset;
  }
};

Magnitudes magnitudes_of(const FourBit &matrix) {
  const bool plain = matrix.absmax.defined();
  return {plain ? data<float>(matrix.absmax) : nullptr, plain ? nullptr : data<uint8_t>(matrix.codes),
          plain ? nullptr : data<float>(matrix.values), plain ? nullptr : data<float>(matrix.nested),
          static_cast<float>(matrix.offset)};
}

template <typename T>
void unpack(const uint8_t *bytes, const float *table, float scale, T *to, int64_t count) {
  for (int64_t n = 0; n + 1 < count; n += 2) {
    const float *pair = table + 2 * bytes[n / 2];
    narrow(pair[0] * scale, to[n]);
    narrow(pair[1] * scale, to[n + 1]);
  }
  if (count % 2 == 1) {
    narrow(table[2 * bytes[count / 2]] * scale, to[count - 1]);
  }
}

#if defined(__x86_64__)
// A whole block: its 16 possible values are rounded once and then looked up, 32 elements at a time.
__attribute__((target("avx512f,avx512bw,avx512vl"))) void unpack_block(const uint8_t *bytes, const float *sixteen,
                                                                       float scale, BFloat16 *to) {
  alignas(64) uint16_t values[32] = {};
  for (int n = 0; n < 16; ++n) {
    BFloat16 value;
    narrow(sixteen[n] * scale, value);
    values[n] = value.bits;
  }
  const __m512i lookup = _mm512_load_si512(values);
  for (int half = 0; half < 2; ++half) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i *>(bytes + 16 * half));
    const __m512i wide = _mm512_cvtepu8_epi32(packed);
    const __m512i low = _mm512_slli_epi32(_mm512_and_si512(wide, _mm512_set1_epi32(15)), 16);
    const __m512i places = _mm512_or_si512(_mm512_srli_epi32(wide, 4), low);
    _mm512_storeu_si512(to + 32 * half, _mm512_permutexvar_epi16(places, lookup));
  }
}

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return has;
}
#endif

// Elements from `begin`, an even number, to `end` of a matrix.
template <typename T>
void unpack_range(const FourBit &matrix, const Magnitudes &magnitudes, int64_t begin, int64_t end, T *out) {
  const auto *bytes = data<uint8_t>(matrix.packed);
  const auto *table = data<float>(matrix.table);
  float sixteen[16];
  for (int n = 0; n < 16; ++n) {
    // The byte whose low nibble is n: its second value.
    sixteen[n] = table[2 * n + 1];
  }
  for (int64_t first = begin; first < end;) {
    const int64_t block = first / kBlock, count = std::min(end, (block + 1) * kBlock) - first;
    const float scale = magnitudes.at(block);
    T *to = out + (first - begin);
    const uint8_t *from = bytes + first / 2;
    first += count;
#if defined(__x86_64__)
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (count == kBlock && has_avx512()) {
        unpack_block(from, sixteen, scale, to);
        continue;
      }
    }
#endif
    unpack(from, table, scale, to, count);
  }
}

// The same in libtorch's own operations, for other devices.
void unpack_there(const FourBit &matrix, const at::Tensor &out) {
  const int64_t elements = matrix.rows * matrix.columns;
  auto absmax = matrix.absmax;
  if (!absmax.defined()) {
    const auto spread = matrix.nested.repeat_interleave(kNested).slice(0, 0, matrix.codes.numel());
    absmax = matrix.values.index_select(0, matrix.codes.to(at::kInt)) * spread + matrix.offset;
  }
  const auto pairs = matrix.table.view({256, 2}).index_select(0, matrix.packed.view({-1}).to(at::kInt)).view({-1});
  const auto scales = absmax.repeat_interleave(kBlock).slice(0, 0, elements);
  out.copy_((pairs.slice(0, 0, elements) * scales).view({matrix.rows, matrix.columns}));
}

} // namespace

void dequantize_into(const FourBit &matrix, const at::Tensor &out) {
  const int64_t elements = matrix.rows * matrix.columns;
  const int64_t blocks = (elements + kBlock - 1) / kBlock;
  const bool plain = matrix.absmax.defined();
  TORCH_CHECK(matrix.packed.numel() == (elements + 1) / 2 && out.numel() == elements && out.is_contiguous() &&
                  (plain ? matrix.absmax.numel() == blocks
                         : matrix.codes.numel() == blocks && matrix.nested.numel() * kNested >= blocks),
              "a 4-bit matrix of ", matrix.rows, " x ", matrix.columns, " has other parts than it needs");
  if (matrix.stored.has_value() && *matrix.stored != out.scalar_type() && *matrix.stored != at::kFloat) {
    auto rounded = at::empty(out.sizes(), out.options().dtype(*matrix.stored));
    dequantize_into(matrix, rounded);
    out.copy_(rounded);
    return;
  }
  if (!out.is_cpu()) {
    return unpack_there(matrix, out);
  }
  if (out.scalar_type() == at::kHalf) {
    auto single = at::empty(out.sizes(), out.options().dtype(at::kFloat));
    dequantize_into(matrix, single);
    out.copy_(single);
    return;
  }
  const auto magnitudes = magnitudes_of(matrix);
  with_type(out.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, blocks, 64, [&](int64_t begin, int64_t end) {
      unpack_range(matrix, magnitudes, begin * kBlock, std::min(elements, end * kBlock),
                   mutable_data<T>(out) + begin * kBlock);
    });
  });
}

bool has_rows(const FourBit &matrix, at::ScalarType kind) {
  return matrix.columns % 2 == 0 && matrix.packed.is_cpu() &&
         (!matrix.stored.has_value() || *matrix.stored == kind || *matrix.stored == at::kFloat);
}

#define LORAGRID_UNPACK(T)                                                                                           \
  void dequantize_rows(const FourBit &matrix, int64_t first, int64_t count, T *out) {                                \
    unpack_range(matrix, magnitudes_of(matrix), first *matrix.columns, (first + count) * matrix.columns, out);       \
  }
LORAGRID_UNPACK(BFloat16)
LORAGRID_UNPACK(float)
LORAGRID_UNPACK(double)

} // namespace loragrid
