// SPDX-License-Identifier: Apache-2.0
// What passes between the host and kernels without a wait: values for kernels to read, and words in which kernels say that a value is wrong.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "local/cuda/block.h"
#include "local/cuda/driver.h"

namespace dtensor::local::cuda {

/// Pinned memory that is handed out in turn. A piece may be used by what is queued on `stream` until the host is kArcs arcs further; only then it may wait.
class PinnedRing {
 public:
  PinnedRing(int device, std::size_t arc_bytes);
  PinnedRing(const PinnedRing&) = delete;
  ~PinnedRing();
  std::size_t arc_bytes() const noexcept { return arc_bytes_; }
  /// 16-byte aligned, at most arc_bytes(). `before_reuse` runs when all that used the piece's arc is done and before it is given out again.
  void* take(std::size_t bytes, Stream stream, std::function<void()> before_reuse = {});
  /// Before the stream of the last piece may go away.
  void leave() {
    if (used_ != 0 && !arcs_[static_cast<std::size_t>(current_)].closed) close();
  }

 private:
  static constexpr int kArcs = 4;
  struct Arc {
    Event done = nullptr;
    bool closed = false;
    std::vector<std::function<void()>> before_reuse;
  };
  void close();
  void open_next();
  std::byte* memory_;
  std::size_t arc_bytes_, used_ = 0;
  int current_ = 0;
  Stream stream_ = nullptr;
  std::array<Arc, kArcs> arcs_;
};

/// Pinned memory that is handed out once: what replays of a graph read again.
class PinnedPieces {
 public:
  explicit PinnedPieces(int device) : device_(device) {}
  PinnedPieces(const PinnedPieces&) = delete;
  ~PinnedPieces();
  /// 32-byte aligned, zeros.
  void* take(std::size_t bytes);
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  static constexpr std::size_t kChunk = 64 << 10;
  int device_;
  std::vector<void*> chunks_;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0, bytes_ = 0;
};

/// What a kernel writes when it meets a value that only it can see is wrong.
struct Fault {
  std::int64_t value = 0;
  std::int32_t raised = 0;
  std::int32_t* any = nullptr;  ///< of all of the rank
};
/// What the calling thread wrote to memory of the host is seen there before what it writes next.
DTENSOR_DEVICE inline void fence_for_host() {
#if defined(__CUDA_ARCH__)
  __threadfence_system();
#endif
}
/// Of kernels: the first or any later value counts.
DTENSOR_DEVICE inline void raise(Fault* fault, std::int64_t value) {
  fault->value = value;
  fence_for_host();
  fault->raised = 1;
  fence_for_host();
  *fault->any = 1;
}

using FaultText = std::function<std::string(std::int64_t)>;
/// Faults that replays of one graph may raise, again and again.
struct RecordedFaults {
  explicit RecordedFaults(int device) : memory(device) {}
  RecordedFaults(const RecordedFaults&) = delete;
  PinnedPieces memory;
  std::vector<std::pair<volatile Fault*, FaultText>> expected;
};

/// Texts of the faults that kernels in flight may raise.
class Faults {
 public:
  explicit Faults(int device);
  ~Faults();
  Faults(const Faults&) = delete;
  /// For kernels that are queued on `stream` next.
  Fault* expect(Stream stream, FaultText text);
  /// @throws Error with the text of a fault that has been raised; once for each.
  void check() {
    if (*any_ != 0) fail();
  }
  void leave() { ring_.leave(); }
  /// From now on what is expected is of a graph's replays, which have all the time; null ends that.
  void record(const std::shared_ptr<RecordedFaults>& faults);
  /// No replay of it runs any more. What they have raised is said at the next check.
  void forget(const std::shared_ptr<RecordedFaults>& faults) noexcept;

 private:
  static constexpr std::size_t kArcBytes = 64 * sizeof(Fault);
  void fail();
  volatile std::int32_t* any_;
  PinnedRing ring_;
  std::vector<std::pair<volatile Fault*, FaultText>> expected_;
  std::shared_ptr<RecordedFaults> recording_;            // of the recording that goes on
  std::vector<std::shared_ptr<RecordedFaults>> graphs_;  // whose replays may raise
  std::vector<std::string> unsaid_;                      // of graphs that are gone
};

}  // namespace dtensor::local::cuda
