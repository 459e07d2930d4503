// Frozen matrices with adapters on top, for some rows at a time: what one thread does with a tile while it is in its cache.
#pragma once

#include "frozen.h"
#include "low_rank.h"
#include "panels.h"
#include "rows.h"
#include "scratch.h"

namespace loragrid {

// Rows of a tile, which do not depend on the number of threads: gradients are sums over tiles in their order.
constexpr int64_t kTile = 128;
// Columns of an adapter's product that are computed at once.
constexpr int64_t kSlice = 512;
// Rows of a tile that an adapter has are filled up to multiples of this: few sizes are few kernels.
constexpr int64_t kFilledRows = 16;

struct Tile {
  int64_t number, first, count;
  Tile(int64_t n, int64_t rows) : number(n), first(n * kTile), count(std::min(kTile, rows - n * kTile)) {}
};
inline int64_t tiles_of(int64_t rows) { return (rows + kTile - 1) / kTile; }

// One adapter's part of a group's output. Its kind is the wide type of the model's.
struct TilePart {
  // [r, in] and [columns, r].
  at::Tensor a, b;
  double scale;
  int64_t first_row, rows, first_column;
  float kept;
  std::unique_ptr<Mask> mask;
  // dropout(x)·Aᵀ [rows, r], kept for the gradient of B.
  at::Tensor low;
  // Gradients of A [r, in] and of Bᵀ [r, columns] by tile [tiles, r × (in + columns)].
  at::Tensor partials;

  TilePart(const LowRank &from, int64_t in)
      : a(from.a->detach()), b(from.b->detach()), scale(from.scale), first_row(from.first_row), rows(from.rows),
        first_column(from.first_column), kept(from.kept),
        mask(from.threshold > 0 ? std::make_unique<Mask>(from, in, at::kCPU) : nullptr),
        low(at::empty({from.rows, from.a->size(0)}, from.a->options().requires_grad(false))) {}

  int64_t rank() const { return a.size(0); }
  int64_t columns() const { return b.size(0); }
  int64_t first_tile() const { return first_row / kTile; }
  int64_t tiles() const { return rows == 0 ? 0 : (first_row + rows - 1) / kTile - first_tile() + 1; }
};

// The rows of a tile that a part has: from `begin` to `end` within the tile, in `count` rows from `start` on.
struct Overlap {
  int64_t begin, end, start, count;
  Overlap(const TilePart &part, const Tile &tile)
      : begin(std::max(part.first_row - tile.first, int64_t(0))),
        end(std::min(part.first_row + part.rows - tile.first, tile.count)),
        start(begin / kFilledRows * kFilledRows),
        count((end - start + kFilledRows - 1) / kFilledRows * kFilledRows) {}
  bool is_empty() const { return begin >= end; }
};

// A group's matrices as the right sides of a region's products.
template <typename T> struct PackedGroup {
  using W = typename Wide<T>::type;
  const T *panels = nullptr;
  // The same where they are made for the region.
  T *made = nullptr;
  // Aᵀ [in, r] and Bᵀ [r, columns] of each part, forward only.
  std::vector<W *> a, b;
};

class GroupTiles {
public:
  GroupTiles(std::shared_ptr<const Frozen> frozen, const LowRank *low, int64_t count) : frozen_(std::move(frozen)) {
    for (int64_t n = 0; n < count; ++n) {
      parts_.emplace_back(low[n], in());
    }
  }

  int64_t in() const { return frozen_->in(); }
  int64_t out() const { return frozen_->out(); }
  bool has_parts() const { return !parts_.empty(); }
  const std::vector<TilePart> &parts() const { return parts_; }

  // Memory of the calling thread for packed matrices.
  template <typename T> PackedGroup<T> room(bool forward) const {
    using W = typename Wide<T>::type;
    Scratch &scratch = Scratch::own();
    PackedGroup<T> packed;
    packed.panels = forward ? frozen_->panels<T>() : nullptr;
    if (packed.panels == nullptr) {
      packed.panels = packed.made = scratch.take<T>(forward ? packed_size(in(), out()) : packed_size(out(), in()));
    }
    for (const auto &part : parts_) {
      packed.a.push_back(forward ? scratch.take<W>(part.rank() * in()) : nullptr);
      packed.b.push_back(forward ? scratch.take<W>(part.rank() * part.columns()) : nullptr);
    }
    return packed;
  }

  // Packing is this many tasks, in any order: chunks of the matrix unless that is packed, and parts.
  template <typename T> int64_t pack_tasks(const PackedGroup<T> &packed, bool forward) const {
    return chunks(packed) + (forward ? static_cast<int64_t>(parts_.size()) : 0);
  }

  template <typename T> void pack(int64_t task, bool forward, const PackedGroup<T> &packed) const {
    if (task >= chunks(packed)) {
      return pack_part(task - chunks(packed), packed);
    }
    Scratch &scratch = Scratch::own();
    Scratch::Frame frame(scratch);
    const int64_t first = task * kPanel, count = std::min(kPanel, out() - first);
    if (const T *all = forward ? nullptr : frozen_->panels<T>()) {
      return turn_columns(all + task * panel_size(in()), first, count, in(), out(), packed.made);
    }
    const T *rows = frozen_->rows(first, count, scratch.take<T>(count * in()));
    if (forward) {
      pack_columns(rows, in(), count, in(), packed.made + task * panel_size(in()));
    } else {
      pack_rows(rows, in(), first, count, in(), out(), packed.made);
    }
  }

  // y [rows, out] with this stride, of x [rows, in]: x·Wᵀ + b, and each part in the wide type, each sum rounded.
  template <typename T> void forward(const PackedGroup<T> &packed, const Tile &tile, const T *x, T *y, int64_t stride) {
    using W = typename Wide<T>::type;
    Scratch &scratch = Scratch::own();
    Scratch::Frame frame(scratch);
    const T *bias = frozen_->bias().defined() ? data<T>(frozen_->bias()) : nullptr;
    W *sums = scratch.take<W>(tile.count * kPanel);
    multiply_rounded(x, in(), tile.count, packed.panels, in(), out(), bias, y, stride, sums);
    for (size_t n = 0; n < parts_.size(); ++n) {
      add_part(parts_[n], packed.a[n], packed.b[n], tile, x, y, stride);
    }
  }

  // The gradient of x [rows, in] from that of y [rows, out] with this stride, where it is wanted, and the tile's part of the adapters'
  // gradients; x is read where there are parts.
  template <typename T>
  void backward(const PackedGroup<T> &packed, const Tile &tile, const T *g, int64_t stride, const T *x, T *g_x) {
    using W = typename Wide<T>::type;
    Scratch &scratch = Scratch::own();
    Scratch::Frame frame(scratch);
    W *sums = scratch.take<W>(tile.count * kPanel);
    if (g_x != nullptr) {
      multiply_rounded(g, stride, tile.count, packed.panels, out(), in(), static_cast<const T *>(nullptr), g_x, in(), sums);
    }
    W *added = nullptr;
    for (auto &part : parts_) {
      const Overlap rows(part, tile);
      if (rows.is_empty()) {
        continue;
      }
      if (g_x != nullptr && added == nullptr) {
        added = scratch.zeros<W>(tile.count * in());
      }
      back_part(part, rows, tile, g, stride, x, added);
    }
    for (int64_t row = 0; added != nullptr && row < tile.count; ++row) {
      add_rounded(added + row * in(), g_x + row * in(), in());
    }
  }

  // Room for the adapters' gradients of all tiles.
  void open_gradients() {
    for (auto &part : parts_) {
      part.partials = at::empty({part.tiles(), part.rank() * (in() + part.columns())}, part.a.options());
    }
  }

  // The gradients of A and B of part n: the sums over its tiles, in their order.
  std::pair<at::Tensor, at::Tensor> gradients(int64_t n) const;

private:
  template <typename T> int64_t chunks(const PackedGroup<T> &packed) const {
    return packed.made == nullptr ? 0 : (out() + kPanel - 1) / kPanel;
  }

  template <typename T> void pack_part(int64_t n, const PackedGroup<T> &packed) const {
    using W = typename Wide<T>::type;
    const auto &part = parts_[n];
    const auto transposed = [](const at::Tensor &from, W *to) {
      const int64_t rows = from.size(0), columns = from.size(1);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = 0; column < columns; ++column) {
          to[column * rows + row] = data<W>(from)[row * columns + column];
        }
      }
    };
    transposed(part.a, packed.a[n]);
    transposed(part.b, packed.b[n]);
  }

  // dropout(x) of the part's rows [count, in] in the wide type, zeros in the others.
  template <typename T>
  typename Wide<T>::type *input(const TilePart &part, const Overlap &rows, const Tile &tile, const T *x) const {
    using W = typename Wide<T>::type;
    W *own = Scratch::own().zeros<W>(rows.count * in());
    const int64_t behind = tile.first - part.first_row;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const uint64_t *words = part.mask ? part.mask->row(row + behind) : nullptr;
      masked(x + row * in(), words, static_cast<W>(part.kept), own + (row - rows.start) * in(), in());
    }
    return own;
  }

  template <typename T>
  void add_part(TilePart &part, const typename Wide<T>::type *a, const typename Wide<T>::type *b, const Tile &tile,
                const T *x, T *y, int64_t stride) {
    using W = typename Wide<T>::type;
    const Overlap rows(part, tile);
    if (rows.is_empty()) {
      return;
    }
    Scratch &scratch = Scratch::own();
    Scratch::Frame frame(scratch);
    const int64_t behind = tile.first - part.first_row, rank = part.rank();
    if (part.mask) {
      part.mask->make(rows.begin + behind, rows.end + behind);
    }
    W *low = scratch.take<W>(rows.count * rank), *product = scratch.take<W>(rows.count * kSlice);
    multiply_plain(input(part, rows, tile, x), in(), rows.count, a, rank, in(), rank, low, rank);
    std::memcpy(mutable_data<W>(part.low) + (rows.begin + behind) * rank, low + (rows.begin - rows.start) * rank,
                (rows.end - rows.begin) * rank * sizeof(W));
    for (int64_t column = 0; column < part.columns(); column += kSlice) {
      const int64_t columns = std::min(kSlice, part.columns() - column);
      multiply_plain(low, rank, rows.count, b + column, part.columns(), rank, columns, product, kSlice);
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        add(product + (row - rows.start) * kSlice, part.scale, y + row * stride + part.first_column + column, columns);
      }
    }
  }

  // Rows [count, r] as [r, count].
  template <typename W> W *across(const W *from, int64_t count, int64_t rank) const {
    W *to = Scratch::own().take<W>(rank * count);
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t n = 0; n < rank; ++n) {
        to[n * count + row] = from[row * rank + n];
      }
    }
    return to;
  }

  template <typename T>
  void back_part(TilePart &part, const Overlap &rows, const Tile &tile, const T *g, int64_t stride, const T *x,
                 typename Wide<T>::type *added) {
    using W = typename Wide<T>::type;
    Scratch &scratch = Scratch::own();
    Scratch::Frame frame(scratch);
    const int64_t behind = tile.first - part.first_row, rank = part.rank(), columns = part.columns();
    W *own = scratch.zeros<W>(rows.count * columns), *low = scratch.zeros<W>(rows.count * rank);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      scaled(g + row * stride + part.first_column, part.scale, own + (row - rows.start) * columns, columns);
      std::memcpy(low + (row - rows.start) * rank, data<W>(part.low) + (row + behind) * rank, rank * sizeof(W));
    }
    W *g_low = scratch.take<W>(rows.count * rank);
    multiply_plain(own, columns, rows.count, data<W>(part.b), rank, columns, rank, g_low, rank);
    W *g_a = mutable_data<W>(part.partials) + (tile.number - part.first_tile()) * rank * (in() + columns);
    W *g_b = g_a + rank * in();
    multiply_plain(across(g_low, rows.count, rank), rows.count, rank, input(part, rows, tile, x), in(), rows.count, in(),
                   g_a, in());
    multiply_plain(across(low, rows.count, rank), rows.count, rank, own, columns, rows.count, columns, g_b, columns);
    W *product = scratch.take<W>(rows.count * kSlice);
    for (int64_t column = 0; added != nullptr && column < in(); column += kSlice) {
      const int64_t width = std::min(kSlice, in() - column);
      multiply_plain(g_low, rank, rows.count, data<W>(part.a) + column, in(), rank, width, product, kSlice);
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        const uint64_t *words = part.mask ? part.mask->row(row + behind) + column / 64 : nullptr;
        add_masked(product + (row - rows.start) * kSlice, words, static_cast<W>(part.mask ? part.kept : 1.0f),
                   added + row * in() + column, width);
      }
    }
  }

  std::shared_ptr<const Frozen> frozen_;
  std::vector<TilePart> parts_;
};

} // namespace loragrid
