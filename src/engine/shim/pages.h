// Attention over keys and values in pages: each query row sees one range of one sequence of pages.
#pragma once

#include <ATen/ATen.h>

namespace loragrid {

// Keys of a page.
constexpr int64_t kPage = 32;

extern "C" {
// A query row: where its sequence's pages start in the list of tables, and the range of its keys that it sees.
struct PagedRow {
  int64_t table, first, end;
};

struct PagedForm {
  int64_t heads, kv_heads, head_dim;
  double scale;
  // Scores are capped as c · tanh(s / c); 0: they are not.
  double cap;
};

// What a pass does to the pages before it reads them.
struct PagedPass {
  // Pairs of a page and the page that it is copied to.
  const int64_t *copies;
  int64_t copy_count;
  // Place of each token's key and value: page · kPage + place in it; −1: nowhere.
  const int64_t *places;
  // One for each token.
  const PagedRow *rows;
  int64_t row_count;
  // Page numbers of every sequence, one sequence after another.
  const int64_t *tables;
};
}

// Copies pages, writes keys and values [tokens, kv_heads, head_dim], and returns the attention output [tokens, heads × head_dim] of
// queries [tokens, heads, head_dim]. Pools are [pages, kv_heads, head_dim, kPage] of keys, [pages, kv_heads, kPage, head_dim] of
// values, on a CPU. A row's result depends on its query and its keys and values alone, to the last bit.
at::Tensor paged_attention(const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, const at::Tensor &keys,
                           const at::Tensor &values, const PagedPass &pass, const PagedForm &form);

} // namespace loragrid
