// SPDX-License-Identifier: Apache-2.0
// Bell: what a rank sleeps on. Others ring it when something that it may wait for has changed.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace dtensor::comm {

using Clock = std::chrono::steady_clock;

class Bell {
 public:
  /// To be called before the condition is looked at; a ring after it ends the sleep below at once.
  std::uint32_t listen() const noexcept { return rings_.load(std::memory_order_seq_cst); }
  void ring() noexcept {
    rings_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) != 0) wake();
  }
  /// Until a ring after `heard`, or `deadline` (max: none), or for no reason.
  void sleep(std::uint32_t heard, Clock::time_point deadline) noexcept;

 private:
  void wake() noexcept;
  std::atomic<std::uint32_t> rings_{0}, sleepers_{0};
};

/// One step of a bounded spin.
void relax() noexcept;
/// The core goes to another thread that can run, if there is one.
void let_others_run() noexcept;
/// Cores that this process may use.
int usable_cores() noexcept;

}  // namespace dtensor::comm
