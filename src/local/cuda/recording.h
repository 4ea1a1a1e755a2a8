// SPDX-License-Identifier: Apache-2.0
// A graph of what one rank queues on a device, while it is recorded and afterwards: its memory, and what changes from replay to replay.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/ref.h"
#include "dtensor/generator.h"
#include "local/cuda/pinned.h"
#include "local/cuda/random_state.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/recordings.h"
#include "local/device.h"

namespace dtensor::local::cuda {

class Recording final : public DeviceGraph {
 public:
  Recording(RankDevice& device, std::span<Generator* const> generators);
  ~Recording() override;
  /// Runs the body. What it queues on the rank's current stream, and on streams that wait for it, is replay()'s from then on. Whatever it throws, the rank
  /// is as before.
  void record(const std::function<void()>& body);
  /// Waits for the last replay; there are no more. What the graph's memory holds stays.
  void end() noexcept;

  void replay() override;
  std::int64_t nodes() const noexcept override { return nodes_; }
  std::int64_t bytes() const noexcept override;

  // For what is queued meanwhile.
  RecordingMark mark() const noexcept { return state_; }
  Device device() const noexcept { return device_; }
  /// Of the host, for copies that every replay makes again.
  PinnedPieces& staging() noexcept { return *staging_; }
  const DeviceAllocator& allocator() const noexcept { return *memory_; }
  void keep(base::Ref<Buffer> buffer) { kept_.push_back(std::move(buffer)); }
  void note_draw(const Generator& generator, std::uint64_t seed, std::uint64_t call);
  /// Of a call of before, or one that has been noted.
  RandomState random_state(std::uint64_t seed, std::uint64_t call) const;

 private:
  class Scope;
  // A generator as it was before the body, and where it was after.
  struct Drawing {
    Generator* generator;
    Generator before, after;
    std::uint64_t draws = 0;  // that went on from before
    bool goes_on() const noexcept { return after.seed() == before.seed() && after.calls() == before.calls() + draws; }
  };
  void finish();
  void restore_generators() noexcept;
  void queue_random_state(RankDevice& d);
  RankDevice& home() const;
  bool replays_end() noexcept;
  void abandon() noexcept;

  Device device_;
  RankDevice* home_;
  std::weak_ptr<char> home_life_;
  const std::atomic<bool>* over_;  // the rank's world; as long as there is a graph. Null: there is none
  std::shared_ptr<RecordingState> state_ = std::make_shared<RecordingState>();
  std::shared_ptr<DeviceAllocator> memory_;
  std::shared_ptr<void> held_;  // blocks of the rank's that were let go meanwhile
  std::vector<base::Ref<Buffer>> kept_;
  std::shared_ptr<PinnedPieces> staging_;
  std::shared_ptr<RecordedFaults> faults_;
  std::vector<Drawing> drawings_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::pair<std::size_t, std::uint64_t>> draws_;  // (seed, call) -> drawing, how many before
  base::Ref<Buffer> random_;  // seed and call number of each drawing, as a replay begins
  Stream stream_ = nullptr;
  Graph graph_ = nullptr;
  std::int64_t nodes_ = 0;
  std::shared_ptr<PooledEvent> last_;  // after the last replay
  std::uint64_t last_stream_ = 0;
};

/// Of the calling rank; null: it does not record.
Recording* current_recording();
}  // namespace dtensor::local::cuda
