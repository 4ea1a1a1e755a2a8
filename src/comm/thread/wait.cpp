// SPDX-License-Identifier: Apache-2.0
// Waiting for a collective: do what can be done, then sleep until something changes.
#include <algorithm>
#include <utility>

#include "base/error_text.h"
#include "comm/thread/collective.h"
#include "comm/thread/hub.h"

namespace dtensor::comm {

namespace {

class Wait {
 public:
  Wait(Hub& hub, Collective& collective, int member, bool all)
      : hub_(hub),
        c_(collective),
        member_(member),
        all_(all),
        rank_(collective.home().ranks()[static_cast<std::size_t>(member)]),
        bell_(hub.record(rank_).bell) {}

  void run() {
    if (!finished()) hub_.progress(rank_);
    int steps = hub_.steps();
    for (;;) {
      const std::uint32_t heard = bell_.listen();
      if (finished()) break;
      if (c_.ready()) {
        if (all_ ? c_.run_any(member_) : c_.run_needed(member_)) continue;
      } else {
        if (hub_.over().load(std::memory_order_acquire)) hub_.throw_over(c_.kind(member_), rank_);
        if (steps == 0) {
          if (hub_.progress(rank_)) continue;
          check_absent();
        }
      }
      if (steps > 0) {
        --steps;
        hub_.step();
        continue;
      }
      bell_.sleep(heard, c_.ready() ? Clock::time_point::max() : deadline_);
    }
    if (c_.broken()) hub_.throw_over(c_.kind(member_), rank_);
  }

 private:
  bool finished() const noexcept { return all_ ? c_.complete() : c_.output_complete(member_); }

  std::vector<int> missing_ranks() const {
    std::vector<int> missing = c_.home().missing(c_);
    for (int& m : missing) m = c_.home().ranks()[static_cast<std::size_t>(m)];
    return missing;
  }

  void check_absent() {
    std::vector<int> missing = missing_ranks();
    for (int rank : missing) {
      if (hub_.record(rank).stage.load(std::memory_order_acquire) != RankStage::returned) continue;
      // It may have posted and returned since the list was made; now it posts no more.
      const std::vector<int> now = missing_ranks();
      if (std::find(now.begin(), now.end(), rank) != now.end()) fail_lost(rank);
    }
    const Clock::time_point now = Clock::now();
    if (missing.size() != absent_) {
      absent_ = missing.size();
      deadline_ = hub_.deadline_from(now);
    } else if (now >= deadline_ && !missing.empty()) {
      fail_late(missing);
    }
  }

  [[noreturn]] void fail_lost(int rank) {
    hub_.fail_comm(rank_, fmt::format("{}: rank {} has returned from its program while rank {} waits for it (collective {} of group {}; {}; {}); "
                                      "every rank must make the same calls",
                                      c_.kind(member_), rank, rank_, c_.sequence(), c_.home().name(), hub_.describe(rank), hub_.describe(rank_)));
  }

  [[noreturn]] void fail_late(const std::vector<int>& missing) {
    std::string calls;
    for (int rank = 0; rank < hub_.size(); ++rank) calls += "\n  " + hub_.describe(rank);
    hub_.fail_comm(
        rank_, fmt::format("{}: no sign of rank{} {} within {} s (collective {} of group {}); is one caught in a condition that others do not share? "
                           "raise the limit with DTENSOR_TIME_LIMIT, 0 for none{}",
                           c_.kind(member_), missing.size() > 1 ? "s" : "", fmt::join(missing, ", "), hub_.time_limit(), c_.sequence(),
                           c_.home().name(), calls));
  }

  Hub& hub_;
  Collective& c_;
  int member_;
  bool all_;
  int rank_;
  Bell& bell_;
  std::size_t absent_ = 0;
  Clock::time_point deadline_ = Clock::time_point::max();
};

}  // namespace

void wait_for(Hub& hub, Collective& collective, int member, bool all) { Wait(hub, collective, member, all).run(); }

ThreadWork::ThreadWork(std::shared_ptr<Hub> hub, CollectiveRef collective, int member)
    : hub_(std::move(hub)), collective_(std::move(collective)), member_(member) {}
void ThreadWork::wait_output() {
  wait_for(*hub_, *collective_, member_, false);
  if (collective_->on_device()) collective_->order_stream(member_, false);
}
void ThreadWork::wait_input() {
  wait_for(*hub_, *collective_, member_, true);
  if (collective_->on_device()) collective_->order_stream(member_, true);
}
void ThreadWork::poll() {
  hub_->progress(collective_->home().ranks()[static_cast<std::size_t>(member_)]);
  while (collective_->ready() && collective_->run_any(member_)) {}
}

}  // namespace dtensor::comm
