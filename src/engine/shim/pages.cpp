#include "pages.h"
#include "number.h"

#include <limits>

namespace loragrid {
namespace {

// Rows of one sequence that read a page together while it is near.
constexpr int64_t kRows = 16;

// One query head and one page, of which the keys from `first` to `end` are seen: softmax with a running maximum (Milakov and
// Gimelshein 2018). Sums run over features and keys in order, one lane for each key or feature, so that neither the instruction set
// nor other rows change them.
template <typename T, typename W>
LORAGRID_INLINE void add_page(const W *query, const T *keys, const T *values, W *out, W *top, W *sum, int64_t dim,
                              int64_t first, int64_t end, W scale, W cap) {
  W scores[kPage] = {};
  for (int64_t n = 0; n < dim; ++n) {
    const W x = query[n];
    const T *row = keys + n * kPage;
    for (int64_t lane = 0; lane < kPage; ++lane) {
      scores[lane] += x * widen(row[lane]);
    }
  }
  for (int64_t lane = 0; lane < kPage; ++lane) {
    scores[lane] *= scale;
  }
  if (cap > 0) {
    for (int64_t lane = first; lane < end; ++lane) {
      scores[lane] = cap * std::tanh(scores[lane] / cap);
    }
  }
  W most = *top;
  for (int64_t lane = first; lane < end; ++lane) {
    most = scores[lane] > most ? scores[lane] : most;
  }
  if (most > *top) {
    const W factor = exponential(*top - most);
    *sum *= factor;
    for (int64_t n = 0; n < dim; ++n) {
      out[n] *= factor;
    }
    *top = most;
  }
  for (int64_t lane = 0; lane < kPage; ++lane) {
    scores[lane] = exponential(scores[lane] - most);
  }
  for (int64_t lane = first; lane < end; ++lane) {
    const W weight = scores[lane];
    const T *row = values + lane * dim;
    *sum += weight;
    for (int64_t n = 0; n < dim; ++n) {
      out[n] += weight * widen(row[n]);
    }
  }
}

#define LORAGRID_PAGE(T, W)                                                                                          \
  LORAGRID_KERNEL void page(const W *query, const T *keys, const T *values, W *out, W *top, W *sum, int64_t dim,     \
                            int64_t first, int64_t end, W scale, W cap) {                                            \
    add_page(query, keys, values, out, top, sum, dim, first, end, scale, cap);                                       \
  }
LORAGRID_PAGE(BFloat16, float)
LORAGRID_PAGE(float, float)
LORAGRID_PAGE(double, double)

// Neighboring rows of one sequence.
struct Block {
  int64_t start, count;
};

std::vector<Block> blocks_of(const PagedPass &pass) {
  std::vector<Block> blocks;
  for (int64_t row = 0; row < pass.row_count; ++row) {
    const bool joins = !blocks.empty() && blocks.back().count < kRows &&
                       pass.rows[blocks.back().start].table == pass.rows[row].table;
    if (joins) {
      ++blocks.back().count;
    } else {
      blocks.push_back({row, 1});
    }
  }
  return blocks;
}

template <typename T> struct Pools {
  T *keys, *values;
  // Elements of one head's part of a page.
  int64_t part;
  int64_t kv_heads;

  int64_t at(int64_t page, int64_t head) const { return (page * kv_heads + head) * part; }
};

template <typename T>
void write(const Pools<T> &pools, const T *key, const T *value, const PagedPass &pass, const PagedForm &form) {
  const int64_t dim = form.head_dim, page_size = pools.part * form.kv_heads;
  for (int64_t n = 0; n < pass.copy_count; ++n) {
    const int64_t from = pass.copies[2 * n] * page_size, to = pass.copies[2 * n + 1] * page_size;
    std::memcpy(pools.keys + to, pools.keys + from, page_size * sizeof(T));
    std::memcpy(pools.values + to, pools.values + from, page_size * sizeof(T));
  }
  at::parallel_for(0, pass.row_count, grain(form.kv_heads * dim), [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const int64_t place = pass.places[token];
      if (place < 0) {
        continue;
      }
      for (int64_t head = 0; head < form.kv_heads; ++head) {
        const T *own = key + (token * form.kv_heads + head) * dim;
        T *to = pools.keys + pools.at(place / kPage, head) + place % kPage;
        for (int64_t n = 0; n < dim; ++n) {
          to[n * kPage] = own[n];
        }
        std::memcpy(pools.values + pools.at(place / kPage, head) + place % kPage * dim,
                    value + (token * form.kv_heads + head) * dim, dim * sizeof(T));
      }
    }
  });
}

// The rows of a block, for the query heads of one head of keys and values.
template <typename T>
void attend(const Pools<T> &pools, const T *query, T *out, const PagedPass &pass, const PagedForm &form,
            const Block &block, int64_t kv_head) {
  using W = typename Wide<T>::type;
  const int64_t dim = form.head_dim, group = form.heads / form.kv_heads;
  std::vector<W> queries(block.count * group * dim), sums(block.count * group * dim, W(0));
  std::vector<W> tops(block.count * group, -std::numeric_limits<W>::infinity()), totals(block.count * group, W(0));
  int64_t first = std::numeric_limits<int64_t>::max(), end = 0;
  for (int64_t n = 0; n < block.count; ++n) {
    const T *own = query + ((block.start + n) * form.heads + kv_head * group) * dim;
    for (int64_t element = 0; element < group * dim; ++element) {
      queries[n * group * dim + element] = widen(own[element]);
    }
    first = std::min(first, pass.rows[block.start + n].first);
    end = std::max(end, pass.rows[block.start + n].end);
  }
  const int64_t *table = pass.tables + pass.rows[block.start].table;
  for (int64_t number = first / kPage; number * kPage < end; ++number) {
    const int64_t at = pools.at(table[number], kv_head);
    for (int64_t n = 0; n < block.count; ++n) {
      const PagedRow &row = pass.rows[block.start + n];
      const int64_t from = std::max<int64_t>(row.first - number * kPage, 0);
      const int64_t to = std::min(row.end - number * kPage, kPage);
      for (int64_t head = n * group; from < to && head < (n + 1) * group; ++head) {
        page(&queries[head * dim], pools.keys + at, pools.values + at, &sums[head * dim], &tops[head], &totals[head],
             dim, from, to, static_cast<W>(form.scale), static_cast<W>(form.cap));
      }
    }
  }
  for (int64_t head = 0; head < block.count * group; ++head) {
    T *own = out + ((block.start + head / group) * form.heads + kv_head * group + head % group) * dim;
    // A row that sees nothing is not asked for.
    const W total = totals[head] == W(0) ? W(1) : totals[head];
    for (int64_t n = 0; n < dim; ++n) {
      narrow(sums[head * dim + n] / total, own[n]);
    }
  }
}

} // namespace

at::Tensor paged_attention(const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, const at::Tensor &keys,
                           const at::Tensor &values, const PagedPass &pass, const PagedForm &form) {
  at::NoGradGuard guard;
  TORCH_CHECK(query.is_cpu(), "attention over pages has a kernel on CPUs only");
  TORCH_CHECK(query.size(0) == pass.row_count, "there are ", pass.row_count, " rows for ", query.size(0), " queries");
  TORCH_CHECK(keys.is_contiguous() && values.is_contiguous() && keys.scalar_type() == query.scalar_type(),
              "pages are of another kind");
  const auto own_query = query.contiguous(), own_key = key.contiguous(), own_value = value.contiguous();
  auto out = at::empty({query.size(0), form.heads * form.head_dim}, query.options());
  const auto blocks = blocks_of(pass);
  with_type(query.scalar_type(), [&](auto *type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const Pools<T> pools{mutable_data<T>(keys), mutable_data<T>(values), form.head_dim * kPage, form.kv_heads};
    write(pools, data<T>(own_key), data<T>(own_value), pass, form);
    const int64_t count = static_cast<int64_t>(blocks.size()) * form.kv_heads;
    // Every thread takes each so-many-th block: later blocks of a sequence see more.
    const int64_t threads = std::max(1, at::get_num_threads());
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread) {
        for (int64_t n = thread; n < count; n += threads) {
          attend(pools, data<T>(own_query), mutable_data<T>(out), pass, form, blocks[n / form.kv_heads],
                 n % form.kv_heads);
        }
      }
    });
  });
  return out;
}

} // namespace loragrid
