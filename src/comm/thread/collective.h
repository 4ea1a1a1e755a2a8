// SPDX-License-Identifier: Apache-2.0
// Collective: one launch of a group as a shared object. Each member posts addresses and boxes, of one operation or several; once all have, the launch
// consists of parts that any member may do straight between the members' memories. With tensors of devices a part is queued on a stream of the group, which
// goes on when all members' streams have come to the launch; nothing there waits for a part that is not queued yet. Rendezvous: where the members of one group meet, launch by launch.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/ref.h"
#include "comm/communicator.h"
#include "comm/polled_work.h"
#include "local/device.h"
#include "local/storage.h"

namespace dtensor::comm {

class Hub;
class Rendezvous;

/// What one member brings to one operation.
struct Post {
  const std::byte* in = nullptr;
  std::byte* out = nullptr;
  base::Ref<local::Buffer> in_hold, out_hold;
  redistribute::TransferRef transfer;
  bool has_dtype = false;
  Dtype dtype = Dtype::f32;
  Device device;  ///< of the memory, if there is any
  std::int64_t in_numel = 0, out_numel = 0;
  Reduction reduction;
  Form form = Form::exchange;
  std::uint64_t fingerprint = 0;
  std::string detail;
};
/// What one member brings. Swapped in and out of collectives, so that a call finds the memory of an earlier one.
struct Arrival {
  bool here = false;
  std::string kind;
  std::vector<Post> posts;  ///< none: a barrier
  /// Of tensors of a device: the point in the member's stream after which they may be used. Null: not before, which is of a group of one.
  local::DeviceEventRef ready;
  void swap(Arrival& other) noexcept {
    std::swap(here, other.here);
    kind.swap(other.kind);
    posts.swap(other.posts);
    ready.swap(other.ready);
  }
  /// Of its tensors; the CPU for none.
  Device device() const noexcept {
    for (const Post& p : posts)
      if (p.device.kind == DeviceKind::cuda) return p.device;
    return {};
  }
};

class Collective {
 public:
  explicit Collective(int members);
  Collective(const Collective&) = delete;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept;

  /// All have posted.
  bool ready() const noexcept { return ready_.load(std::memory_order_acquire); }
  /// Nobody reads or writes any member's memory any more; on devices: all that does is queued.
  bool complete() const noexcept { return complete_.load(std::memory_order_acquire); }
  bool output_complete(int member) const noexcept;
  /// A part could not be done: the members disagree, and the world is over.
  bool broken() const noexcept { return broken_.load(std::memory_order_acquire); }
  /// Does the untaken parts that count as the member's own; one that wait_output of it needs; one of any. True when it did one. @pre ready().
  bool run_own(int member);
  bool run_needed(int member);
  bool run_any(int member);

  /// The memory is of devices. @pre ready().
  bool on_device() const noexcept { return on_device_; }
  /// The calling rank's current stream goes on when its output is complete (or, with `all`, when nobody uses its memory). @pre waited for.
  void order_stream(int member, bool all);
  /// Whether that has come about. @pre complete().
  bool device_done() noexcept;

  Rendezvous& home() const noexcept { return *home_; }
  std::uint64_t sequence() const noexcept { return sequence_; }
  const std::string& kind(int member) const noexcept { return arrivals_[static_cast<std::size_t>(member)].kind; }

 private:
  friend class Rendezvous;
  enum State : std::uint8_t { untaken, taken, done };
  std::size_t members() const noexcept { return arrivals_.size(); }
  std::size_t operations() const noexcept { return arrivals_[0].posts.size(); }
  Post& post(std::size_t operation, std::size_t member) noexcept { return arrivals_[member].posts[operation]; }
  const Post& post(std::size_t operation, std::size_t member) const noexcept { return arrivals_[member].posts[operation]; }
  bool fills_own() const noexcept { return parts_ > 1 && !all_reduces_; }
  void cut();
  bool run_part(std::size_t part, int doer);
  class OnDevice;
  void perform(std::size_t part, OnDevice* device);
  void perform_on_device(std::size_t part);
  void do_member(std::size_t operation, std::size_t member, OnDevice* device);
  void fill_member(std::size_t operation, std::size_t member, OnDevice* device);
  void reduce_member(std::size_t operation, std::size_t member, OnDevice* device);
  void reduce_part(std::size_t operation, std::size_t part, OnDevice* device);
  void reduce_range(std::size_t operation, std::int64_t begin, std::int64_t end);
  bool one_device() const noexcept;
  void let_go() noexcept;
  void publish(std::size_t part, int doer);
  [[noreturn]] void disagree(std::size_t from, const Shape* sent, std::size_t to, const Shape* received);
  const redistribute::Piece* next_send(std::size_t operation, std::size_t from, std::size_t to, std::size_t& cursor) const;
  const std::byte* matching(std::size_t operation, std::size_t to, const redistribute::Piece& receive, std::vector<std::size_t>& cursors,
                            const Shape*& strides);
  void expect_no_more(std::size_t operation, std::size_t to, std::vector<std::size_t>& cursors);

  std::atomic<int> references_{0};
  std::shared_ptr<Rendezvous> home_;
  std::uint64_t sequence_ = 0;
  std::vector<Arrival> arrivals_;  // by member
  int arrived_ = 0;                // under the rendezvous' lock
  // A part is its share of every operation: of an all_reduce a chunk, of the others all that one member gets.
  std::size_t parts_ = 0, parts_per_member_ = 1;
  bool all_reduces_ = false;  // at least one operation does
  bool on_device_ = false;
  std::vector<local::DeviceEventRef> queued_;  // on devices, by part: the end of what was queued
  std::vector<std::atomic<std::uint8_t>> states_;
  std::atomic<std::size_t> performed_{0};
  std::atomic<bool> ready_{false}, complete_{false}, broken_{false};
};
using CollectiveRef = base::Ref<Collective>;

class Rendezvous : public std::enable_shared_from_this<Rendezvous> {
 public:
  Rendezvous(std::weak_ptr<Hub> hub, std::vector<int> ranks, std::string role);
  Rendezvous(const Rendezvous&) = delete;
  ~Rendezvous();

  const std::vector<int>& ranks() const noexcept { return ranks_; }
  const std::string& role() const noexcept { return role_; }
  /// "{0, 2}".
  const std::string& name() const noexcept { return name_; }
  std::shared_ptr<Hub> hub() const noexcept { return hub_.lock(); }
  /// What a member brings is compared with what is there, operation by operation, and swapped for what an earlier call left. Never blocks.
  /// @throws CommError naming both ranks and both calls.
  CollectiveRef arrive(Hub& hub, int member, std::uint64_t sequence, Arrival& mine);
  /// Members that have not posted.
  std::vector<int> missing(Collective& collective);
  /// Lets go of what is posted and can never become ready.
  void abandon() noexcept;
  void recycle(Collective* collective) noexcept;
  /// The group's stream on a device.
  local::DeviceStreamRef stream(Device device);

 private:
  CollectiveRef at(std::uint64_t sequence);
  std::weak_ptr<Hub> hub_;
  std::vector<int> ranks_;
  std::string role_, name_;
  std::mutex mutex_;
  std::uint64_t first_ = 0;           // sequence number of window_.front()
  std::deque<CollectiveRef> window_;  // those that wait for members
  std::vector<Collective*> pool_;
  std::vector<local::DeviceStreamRef> streams_;  // by device
};

/// A collective as the memory of one member sees it.
class ThreadWork final : public PolledWork {
 public:
  ThreadWork(std::shared_ptr<Hub> hub, CollectiveRef collective, int member);
  bool done() noexcept override { return collective_->complete() && (!collective_->on_device() || collective_->device_done()); }
  void wait_output() override;
  void wait_input() override;
  void poll() override;

 private:
  std::shared_ptr<Hub> hub_;
  CollectiveRef collective_;
  int member_;
};
/// Blocks until `member`'s output is complete (or, with `all`, the whole collective).
void wait_for(Hub& hub, Collective& collective, int member, bool all);

}  // namespace dtensor::comm
