// SPDX-License-Identifier: Apache-2.0
// Group: one NCCL communicator of a rank, from the wish for it to its end, and the launches on its stream.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/nccl/lowering.h"
#include "comm/nccl/nccl_api.h"
#include "comm/nccl/nccl_job.h"
#include "comm/nccl/window.h"
#include "local/device.h"

namespace dtensor::comm::nccl {

/// One operation with its memory.
struct Prepared {
  std::shared_ptr<const Lowered> lowered;
  Reduction reduction = {};   ///< of the combinations
  std::byte* places[4] = {};  ///< by Place
  Dtype dtype = Dtype::f32;
  std::byte* at(const Spot& spot) const noexcept { return places[static_cast<std::size_t>(spot.place)] + spot.offset * info(dtype).bytes; }
};

/// One launch. Its memory is held until it is queued; from then on its event guards it.
struct Launch {
  std::string kind, detail;
  std::uint64_t sequence = 0, fingerprint = 0;
  std::vector<Prepared> operations;
  std::vector<base::Ref<local::Buffer>> memory;
  local::DeviceEventRef ready;  ///< on the rank's stream: inputs are there, outputs are free
  bool in_order = true;         ///< with the launches of the rank's other groups
  int agreed = 0;               ///< members before which this launch has been found to be theirs too; in check mode
  bool told = false;            ///< what it is stands in the store
  Clock::time_point told_at{};
  int phase = 0;             ///< what is queued: nothing, all until the first exchanges, all until the second
  std::vector<Slots> slots;  ///< of what goes through the group's window
  std::atomic<bool> issued{false};
  std::thread::id recorder;  ///< the rank's, which records it for a graph: no other thread queues it. None: it runs
  // From when it is issued on.
  local::DeviceEventRef started, finished;
  bool seen = false;  ///< `started` has been seen done, at:
  Clock::time_point seen_at{};
};

/// What a launch is, as other ranks are told: "all_reduce f32[4]".
std::string described(const Launch& launch);

/// Queues what is not NCCL's: for a group of one, on its rank's stream, that is all.
void queue_packs(const Launch& launch, local::DeviceBackend& backend, const local::DeviceStream& stream);
void queue_combinations(const Launch& launch, local::DeviceBackend& backend, const local::DeviceStream& stream);
void queue_unpacks(const Launch& launch, local::DeviceBackend& backend, const local::DeviceStream& stream);

/// What a group that has given up leaves to be aborted. The window, and the memory of a launch of which NCCL has a part, are NCCL's until then.
struct GivenUp {
  Comm comm = nullptr;
  Window window;
  std::vector<base::Ref<local::Buffer>> memory;
};

/// Of two ranks or more. All under the job's mutex.
///
/// Launches of one group are queued in the order of their calls. So are those of all groups of a rank, but for groups of one direction between two members
/// (kPeers): kernels of two communicators that wait for each other's peers can hold each other up when devices have them in different orders, so a
/// communicator that is ready does not overtake one that is not. All ranks make their collectives in one order, so the first of them that is not queued
/// everywhere holds nobody whom it needs. A message and its answer have no such order, and need none: each has a communicator of its own.
class Group {
 public:
  Group(NcclJob& job, std::vector<int> ranks, int member, std::string role);
  Group(const Group&) = delete;
  ~Group();

  /// "{0, 2}".
  const std::string& name() const noexcept { return name_; }
  bool in_order() const noexcept { return role_ != kPeers; }
  const local::DeviceStreamRef& stream() const noexcept { return stream_; }
  std::uint64_t next_sequence() noexcept { return sequence_++; }
  void queue(std::shared_ptr<Launch> launch);
  /// Goes on with making the communicator, queues what waited for it, looks for errors. @throws Error for all that ends the world.
  void advance();
  /// Does nothing any more. A null communicator: nothing is to be aborted. What waits here stays until the group ends: its memory goes back to the
  /// allocator, whose mutex the rank's thread may hold while it waits for NCCL.
  GivenUp give_up() noexcept;
  /// Launches wait for the communicator, which may be ready any moment, or NCCL is still queueing one.
  bool is_busy() const noexcept { return stage_ != Stage::aborted && !waiting_.empty(); }
  /// The communicator is not to be aborted and has something queued.
  bool hangs() const noexcept;
  Clock::time_point looked_at() const noexcept { return looked_at_; }

 private:
  enum class Stage : std::uint8_t { wants_id, initialising, ready, queueing, aborted };
  void begin();
  void check_joining();
  bool all_can_open_windows() const;
  std::string abilities() const;
  bool is_late() const noexcept;
  bool go_on_queueing();
  bool step(Launch& launch);
  bool settled(const Launch& launch);
  bool agree(Launch& launch);
  bool open_window(const Launch& launch);
  void use_window(Launch& launch);
  /// Whether there was anything to call.
  bool call_all(const Launch& launch, std::vector<Exchange> Lowered::*which);
  void call(const Launch& launch, const Prepared& operation, const Exchange& e);
  Op op_of(const Reduction& reduction, Type type);
  void check(Result result, const std::string& what);
  void look_at_flying();
  [[noreturn]] void fail_late(const Launch& launch);
  [[noreturn]] void fail_different(const Launch& launch, int member, const std::string& theirs);
  [[noreturn]] void fail_joining();

  NcclJob& job_;
  std::vector<int> ranks_;
  int member_;
  std::string role_, name_, key_;
  Stage stage_ = Stage::wants_id;
  bool borrowed_ = false;
  bool windowed_ = false;  // small collectives go through a window, once the first of them has opened it
  Window window_;
  Comm comm_ = nullptr;
  const Clock::time_point made_ = Clock::now();
  Clock::time_point since_, looked_at_{}, ask_at_{}, compare_at_{}, queued_at_{};  // since_: the first launch waits; queued_at_: NCCL queues it
  local::DeviceBackend& backend_;
  local::DeviceStreamRef stream_;
  std::uint64_t sequence_ = 0;
  std::deque<std::shared_ptr<Launch>> waiting_, flying_;
  std::map<std::pair<Type, std::int64_t>, Op> premul_;
};

}  // namespace dtensor::comm::nccl
