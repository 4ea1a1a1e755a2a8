// SPDX-License-Identifier: Apache-2.0
// Hub: what the ranks of one world of threads share: who is there, whether the world is over and why, and the meeting places of groups.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rank.h"
#include "comm/thread/bell.h"

namespace dtensor::comm {

class Collective;
class Rendezvous;

struct HubOptions {
  int ranks = 1;
  double time_limit_s = 300;  ///< of a wait in which no member arrives; 0: none
  double grace_s = -1;        ///< after the end by an error, how long other ranks may go on; negative: the time limit, 0: for ever
};

enum class RankStage : std::uint8_t { absent, running, returned, failed };

/// One rank, as others see it.
struct alignas(64) RankRecord {
  Bell bell;
  std::atomic<RankStage> stage{RankStage::absent};
  /// Collectives that this rank posted and whose own part may be undone, in order. Of its own thread only.
  struct Posted {
    Collective* collective;  // counted
    int member;
  };
  std::vector<Posted> posted;

  std::mutex mutex;  // of all below
  base::RankContext* context = nullptr;
  const char* last_call = nullptr;  // of a rank that has ended
  std::string last_kind, last_group;
  std::uint64_t last_sequence = 0;
};

class Hub : public std::enable_shared_from_this<Hub> {
 public:
  explicit Hub(const HubOptions& options);
  Hub(const Hub&) = delete;
  ~Hub();

  int size() const noexcept { return static_cast<int>(records_.size()); }
  std::uint64_t world_id() const noexcept { return world_id_; }
  /// Steps of a wait before a sleep.
  int steps() const noexcept;
  /// One of them: with more ranks than cores another rank goes on meanwhile.
  void step() const noexcept {
    if (crowded_) let_others_run();
    else relax();
  }
  RankRecord& record(int rank) noexcept { return records_[static_cast<std::size_t>(rank)]; }

  /// @throws InvalidArgument when the rank is there already.
  void join(int rank, base::RankContext& context);
  /// The rank's body has ended: its undone parts are done, nothing is posted any more. `failed`: by an error that fail() knows.
  void leave(int rank, bool failed) noexcept;
  /// Does this rank's parts of all that it posted and that all have posted, in order. True when something was done.
  bool progress(int rank);

  /// The world is over. The first call counts. `text` is printed for other ranks; `shared`: as it is, on every rank.
  void fail(int rank, std::exception_ptr error, const std::string& text, bool shared) noexcept;
  /// The same with a CommError of this text, thrown.
  [[noreturn]] void fail_comm(int rank, const std::string& text);
  const std::atomic<bool>& over() const noexcept { return over_; }
  /// @throws the world's error as rank `rank` sees it.
  [[noreturn]] void throw_over(std::string_view op, int rank);
  /// The error that came first, null when the world is not over.
  std::exception_ptr first_error();
  std::string first_text();

  /// After an error: returns when all ranks have ended; past the grace period the process prints the error, names the ranks that go on, and
  /// leaves by _Exit(1).
  void wait_for_end(int rank) noexcept;
  Clock::time_point deadline_from(Clock::time_point start) const noexcept;
  double time_limit() const noexcept { return options_.time_limit_s; }

  std::shared_ptr<Rendezvous> meet(std::span<const int> ranks, std::string_view role);
  /// "rank 2: last call matmul, last collective all_gather 17 of group {0, 1}".
  std::string describe(int rank);
  void ring_all() noexcept;

  static void throw_over_of(base::RankContext& context);

 private:
  HubOptions options_;
  std::uint64_t world_id_;
  bool crowded_;  // more ranks than cores
  std::deque<RankRecord> records_;
  std::atomic<bool> over_{false};

  std::mutex mutex_;  // of all below
  std::exception_ptr error_;
  std::string text_;
  bool shared_text_ = false;
  int failed_rank_ = -1;
  Clock::time_point failed_at_{};
  std::vector<std::shared_ptr<Rendezvous>> meetings_;
};

/// Where a rank finds its hub (rank state).
struct HubOfRank {
  std::shared_ptr<Hub> hub;
};

}  // namespace dtensor::comm
