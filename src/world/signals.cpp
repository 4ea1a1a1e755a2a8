// SPDX-License-Identifier: Apache-2.0
#include "world/signals.h"

#include <atomic>
#include <csignal>
#include <mutex>

namespace dtensor::world {

namespace {

std::mutex mutex;
int watchers = 0;
struct sigaction old_interrupt, old_terminate;
std::atomic<bool> seen{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch it");

void on_signal(int) { seen.store(true, std::memory_order_relaxed); }

}  // namespace

void watch_signals() {
  const std::lock_guard lock(mutex);
  if (watchers++ > 0) return;
  seen.store(false, std::memory_order_relaxed);
  struct sigaction action {};
  action.sa_handler = on_signal;
  // The handler is gone after one signal: the second ends the process.
  action.sa_flags = static_cast<int>(static_cast<unsigned>(SA_RESETHAND) | static_cast<unsigned>(SA_RESTART));
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &old_interrupt);
  sigaction(SIGTERM, &action, &old_terminate);
}

void unwatch_signals() noexcept {
  const std::lock_guard lock(mutex);
  if (--watchers > 0) return;
  sigaction(SIGINT, &old_interrupt, nullptr);
  sigaction(SIGTERM, &old_terminate, nullptr);
}

bool signal_seen() noexcept { return seen.load(std::memory_order_relaxed); }

}  // namespace dtensor::world
