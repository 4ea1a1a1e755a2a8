// SPDX-License-Identifier: Apache-2.0
// The NCCL communicators of one rank. A thread of the job carries on what waits for other ranks: it makes communicators ready, finds errors and exceeded
// time limits, and hears from the store when another rank has ended.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/job.h"
#include "comm/nccl/nccl_api.h"
#include "comm/nccl/window.h"
#include "local/device.h"

namespace dtensor::comm::nccl {

class Group;
struct Launch;
using Clock = std::chrono::steady_clock;

/// "2.28.9" of 22809.
std::string version_text(int version);
/// Why the library cannot be used, and what to do; empty: it can.
std::string why_no_library();

class NcclJob final : public Job, public std::enable_shared_from_this<NcclJob> {
 public:
  /// Joins. @throws CommError for an NCCL that is too old, or a rank that is there already.
  explicit NcclJob(const JobOptions& options);
  ~NcclJob() override;

  std::unique_ptr<Transport> transport() override;
  const std::atomic<bool>& over() const noexcept override { return over_; }
  [[noreturn]] void throw_over(std::string_view op) override;
  void fail(const std::string& text) noexcept override;
  bool printed_elsewhere() const noexcept override { return elsewhere_.load(); }
  bool hangs() noexcept override;
  void leave() noexcept override;

  const JobOptions& options() const noexcept { return options_; }
  void check_over(std::string_view op) {
    if (over_.load(std::memory_order_acquire)) throw_over(op);
  }
  /// Of everything of the rank's groups; see RankLock.
  std::mutex& mutex() noexcept { return mutex_; }

  // Under the mutex.
  void add(Group& group) { groups_.push_back(&group); }
  void remove(Group& group) noexcept;
  /// Queues a launch of the group, now or when its turn comes. @throws Error for all that ends the world.
  void queue(Group& group, std::shared_ptr<Launch> launch);
  /// Whether all launches before it, of all groups of the rank, are queued; see Group.
  bool is_next(const Launch& launch) const noexcept;
  void has_queued(const Launch& launch) noexcept;
  /// Of the launch in order that was recorded last. Null: there was none.
  local::DeviceEventRef& recorded() noexcept { return recorded_; }
  /// No launch needs it any more. It is freed without the mutex, by the rank's thread: that may wait for a device, on which a collective waits for others.
  void release(std::vector<base::Ref<local::Buffer>> memory);
  void release(Window window);
  /// The world is over for all: by an error that this rank has found.
  void end(const std::string& text) noexcept;
  /// What NCCL has found is the end of a peer: the store may be about to say which, and why.
  void expect_word() noexcept { expects_word_ = true; }
  /// What errors and other ranks hear of: the rank's last launch.
  void note_launch(const std::shared_ptr<const Launch>& launch, const std::string& group) {
    last_launch_ = launch;
    if (last_group_ != group) last_group_ = group;
  }
  /// "\n  rank 1: last call matmul, last collective all_gather 3 of group {0, 1}" for every rank.
  std::string everybody() noexcept;
  /// What is to be done is done soon.
  void hurry() noexcept { wake_.notify_one(); }

  /// Blocks until `ready` (called without the mutex) is true. @throws the world's error.
  void wait_until(std::string_view op, const std::function<bool()>& ready);
  bool exceeded(Clock::time_point since) const noexcept {
    return options_.time_limit_s > 0 && Clock::now() - since > std::chrono::duration<double>(options_.time_limit_s);
  }

 private:
  friend class RankLock;
  struct Released {
    std::vector<base::Ref<local::Buffer>> memory;
    std::vector<Window> windows;
  };
  void run() noexcept;
  void advance_groups();
  void go_on_in_order();
  void stop() noexcept;
  void listen();
  void hear(const std::string& error) noexcept;
  std::optional<std::string> tell(const std::string& error) noexcept;
  void over_by(const std::string& text, bool shared, bool elsewhere) noexcept;
  void abort_groups() noexcept;
  void publish_place();
  std::string last_collective() const;
  bool given_up() noexcept;
  bool abort_ends() noexcept;

  JobOptions options_;
  base::RankContext* context_;
  std::atomic<bool> over_{false}, elsewhere_{false};
  std::mutex mutex_;  // of all below
  std::vector<Group*> groups_;
  std::deque<std::pair<Group*, const Launch*>> order_;  // launches that are not queued, as the rank made them
  local::DeviceEventRef recorded_;
  std::shared_ptr<const Launch> last_launch_;
  std::string text_, last_group_, published_;
  bool shared_text_ = false, stop_ = false, expects_word_ = false;
  Released released_;
  Clock::time_point published_at_{}, gave_up_at_{};
  std::shared_future<void> aborted_;
  std::condition_variable wake_;
  std::thread thread_;
};

/// The mutex of a job, for the rank's thread. What has been released is freed at the end, without it.
class RankLock {
 public:
  explicit RankLock(NcclJob& job) : job_(job), lock_(job.mutex_) {}
  RankLock(const RankLock&) = delete;
  ~RankLock() { std::swap(released_, job_.released_); }

 private:
  NcclJob& job_;
  NcclJob::Released released_;
  std::unique_lock<std::mutex> lock_;
};

}  // namespace dtensor::comm::nccl
