// Memory of a thread that is taken and given back in order, and work that threads take one piece at a time.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace loragrid {

// Memory of one thread. What was taken inside a frame is free again when the frame ends, and is kept for the next one: a block's
// temporaries cost no allocation and no page that the kernel must clear.
class Scratch {
public:
  // The calling thread's own.
  static Scratch &own() {
    thread_local Scratch scratch;
    return scratch;
  }

  // `count` elements on a cache line of their own, not set to anything.
  template <typename T> T *take(int64_t count) {
    const size_t size = (static_cast<size_t>(count) * sizeof(T) + kLine - 1) / kLine * kLine;
    while (at_ < chunks_.size() && used_ + size > chunks_[at_].size) {
      ++at_;
      used_ = 0;
    }
    if (at_ == chunks_.size()) {
      const size_t least = chunks_.empty() ? kLeast : 2 * chunks_.back().size;
      chunks_.emplace_back(std::max(size, least));
    }
    auto *place = chunks_[at_].bytes.get() + used_;
    used_ += size;
    return reinterpret_cast<T *>(place);
  }

  // The same, set to zero.
  template <typename T> T *zeros(int64_t count) {
    T *place = take<T>(count);
    std::memset(static_cast<void *>(place), 0, count * sizeof(T));
    return place;
  }

  class Frame {
  public:
    explicit Frame(Scratch &scratch) : scratch_(scratch), at_(scratch.at_), used_(scratch.used_) {}
    ~Frame() {
      scratch_.at_ = at_;
      scratch_.used_ = used_;
    }
    Frame(const Frame &) = delete;
    Frame &operator=(const Frame &) = delete;

  private:
    Scratch &scratch_;
    size_t at_, used_;
  };

private:
  static constexpr size_t kLine = 64, kLeast = size_t(1) << 20;

  struct Free {
    void operator()(char *bytes) const { std::free(bytes); }
  };
  struct Chunk {
    std::unique_ptr<char, Free> bytes;
    size_t size;
    explicit Chunk(size_t wanted)
        : bytes(static_cast<char *>(std::aligned_alloc(kLine, (wanted + kLine - 1) / kLine * kLine))), size(wanted) {
      if (bytes == nullptr) {
        throw std::bad_alloc();
      }
    }
  };

  std::vector<Chunk> chunks_;
  size_t at_ = 0, used_ = 0;
};

// Calls `body(n)` for each n < count. A thread takes the next one when it is done with its last; no result may depend on which
// thread takes which.
template <typename F> void each_task(int64_t count, F body) {
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(std::max(1, at::get_num_threads()), count);
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      for (int64_t task = next.fetch_add(1); task < count; task = next.fetch_add(1)) {
        body(task);
      }
    }
  });
}

} // namespace loragrid
