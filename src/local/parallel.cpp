// SPDX-License-Identifier: Apache-2.0
#include "local/parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/rank.h"

namespace dtensor::local {

namespace {

// To sleep and to be woken costs more than a small kernel: a thread first looks for its next job, or the end of this one, for so long. Only where
// the threads of all teams have a core each; else they would take it from others that have work.
constexpr std::chrono::microseconds kPatience{50};
std::atomic<int> threads_of_teams{0};

template <class Ready>
void wait_awake(const Ready& ready) {
  static const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  if (ready() || threads_of_teams.load(std::memory_order_relaxed) > cores) return;
  const auto end = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < end);
}

// The threads of one rank besides its own. Made at first use, joined with the rank.
class Team {
 public:
  Team() { ++threads_of_teams; }
  Team(const Team&) = delete;
  ~Team() {
    threads_of_teams -= 1 + static_cast<int>(workers_.size());
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    start_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  bool busy() const noexcept { return busy_; }

  void run(std::int64_t count, std::int64_t pieces, detail::Piece piece, void* body) {
    while (static_cast<std::int64_t>(workers_.size()) < pieces - 1) {
      workers_.emplace_back([this] { work(); });
      ++threads_of_teams;
    }
    {
      const std::lock_guard lock(mutex_);
      job_ = {piece, body, count, pieces};
      next_ = 0;
      unfinished_ = pieces;
      error_ = nullptr;
      finished_.store(false, std::memory_order_relaxed);
      open_.store(true, std::memory_order_relaxed);
    }
    busy_ = true;
    start_.notify_all();
    std::unique_lock lock(mutex_);
    take_pieces(lock);
    lock.unlock();
    wait_awake([this] { return finished_.load(std::memory_order_relaxed); });
    lock.lock();
    done_.wait(lock, [this] { return unfinished_ == 0; });
    busy_ = false;
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  struct Job {
    detail::Piece piece = nullptr;
    void* body = nullptr;
    std::int64_t count = 0, pieces = 0;
  };

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      lock.unlock();
      wait_awake([this] { return open_.load(std::memory_order_relaxed); });
      lock.lock();
      start_.wait(lock, [this] { return stop_ || next_ < job_.pieces; });
      if (stop_) return;
      take_pieces(lock);
    }
  }

  void take_pieces(std::unique_lock<std::mutex>& lock) {
    while (next_ < job_.pieces) {
      const Job job = job_;
      const std::int64_t i = next_++;
      if (next_ == job_.pieces) open_.store(false, std::memory_order_relaxed);
      lock.unlock();
      std::exception_ptr error;
      try {
        job.piece(job.body, job.count * i / job.pieces, job.count * (i + 1) / job.pieces);
      } catch (...) { error = std::current_exception(); }
      lock.lock();
      if (error && !error_) error_ = error;
      if (--unfinished_ > 0) continue;
      finished_.store(true, std::memory_order_relaxed);
      done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::vector<std::thread> workers_;
  Job job_;
  std::int64_t next_ = 0, unfinished_ = 0;
  std::exception_ptr error_;
  std::atomic<bool> open_ = false, finished_ = true;  // pieces are left, none is left or under way: what threads look at without the lock
  bool stop_ = false;
  bool busy_ = false;  // the rank's thread only
};

}  // namespace

int parallel_threads() noexcept {
  base::RankContext* context = base::current_rank();
  if (context == nullptr || context->threads <= 1) return 1;
  return base::rank_state<Team>(*context).busy() ? 1 : context->threads;
}

void detail::run_pieces(std::int64_t count, std::int64_t pieces, Piece piece, void* body) {
  base::rank_state<Team>(*base::current_rank()).run(count, pieces, piece, body);
}

}  // namespace dtensor::local
