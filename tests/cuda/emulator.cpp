// SPDX-License-Identifier: Apache-2.0
// Runs blocks of device code on the host: one fiber per thread. Between two meetings threads run one after the other, upwards and downwards by turns,
// so that code which lacks a sync gives wrong numbers. Threads of a block that do not meet are an error.
#undef _FORTIFY_SOURCE  // its longjmp refuses other stacks

#include "emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "local/cuda/launch.h"

namespace dtensor::local::cuda::emulated {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;

enum class State : std::uint8_t { ready, at_block, at_warp, done };

// Jumps cost no call of the system, as swapcontext does; sanitizers follow only the latter.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kJumps = false;
#else
constexpr bool kJumps = true;
#endif

struct Place {
  ucontext_t context{};
  jmp_buf point;
  bool left = false;  // point is where to go on
};
[[gnu::noinline]] void go(Place& from, Place& to) {
  if constexpr (kJumps) {
    from.left = true;
    if (_setjmp(from.point) != 0) return;
    if (to.left) _longjmp(to.point, 1);
    setcontext(&to.context);
  }
  swapcontext(&from.context, &to.context);
}

struct Fiber {
  Place place;
  bool made = false;
  std::unique_ptr<char[]> stack;
  State state = State::ready;
  Block block;
  alignas(8) std::byte value[32];  // what the thread offers to its warp
  std::exception_ptr error;
};

std::atomic<Order> chosen{Order::upwards};
std::atomic<std::int64_t> vectors{0}, vector_bytes{0};

// A permutation, another for every seed.
std::vector<std::int64_t> mix(std::int64_t count, std::uint64_t seed) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), std::mt19937_64(seed));
  return all;
}

// One per thread of the host: ranks run their own.
struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  Place scheduler;
  Fiber* running = nullptr;
  const void* functor = nullptr;
  ThreadBody body = nullptr;
  std::vector<std::byte> shared;
};
thread_local Machine machine;

void enter() {
  Machine& m = machine;
  Fiber& f = *m.running;
  for (;;) {  // a block after the other
    try {
      m.body(m.functor, f.block);
    } catch (...) { f.error = std::current_exception(); }
    f.state = State::done;
    go(f.place, m.scheduler);
  }
}

void stop(State state) {
  Machine& m = machine;
  Fiber& f = *m.running;
  f.state = state;
  go(f.place, m.scheduler);
}

void start(Fiber& f) {
  // One that an error has left in the middle of a block begins anew.
  if (!f.made || f.state != State::done) {
    ucontext_t& c = f.place.context;
    getcontext(&c);
    c.uc_stack.ss_sp = f.stack.get();
    c.uc_stack.ss_size = kStackBytes;
    c.uc_link = nullptr;
    makecontext(&c, enter, 0);
    f.place.left = false;
    f.made = true;
  }
  f.state = State::ready;
  f.error = nullptr;
}

bool all(const Machine& m, int begin, int end, State state) {
  for (int t = begin; t < end; ++t)
    if (m.fibers[static_cast<std::size_t>(t)]->state != state) return false;
  return true;
}

void release(Machine& m, int begin, int end) {
  for (int t = begin; t < end; ++t) m.fibers[static_cast<std::size_t>(t)]->state = State::ready;
}

// Whether some threads may go on.
bool meet(Machine& m, int threads) {
  if (all(m, 0, threads, State::at_block)) {
    release(m, 0, threads);
    return true;
  }
  bool any = false;
  for (int w = 0; w < threads; w += kWarp) {
    if (!all(m, w, w + kWarp, State::at_warp)) continue;
    release(m, w, w + kWarp);
    any = true;
  }
  return any;
}

}  // namespace

void sync() { stop(State::at_block); }

void exchange(const void* mine, void* theirs, std::size_t bytes, int from_lane) {
  Fiber& f = *machine.running;
  if (bytes > 8) throw std::logic_error("values of at most 8 bytes are exchanged in a warp");
  std::memcpy(f.value, mine, bytes);
  stop(State::at_warp);
  const int warp = f.block.thread / kWarp * kWarp;
  std::memcpy(theirs, machine.fibers[static_cast<std::size_t>(warp + from_lane)]->value, bytes);
  stop(State::at_warp);
}

void gather(const void* mine, void* all, std::size_t bytes) {
  Fiber& f = *machine.running;
  if (bytes > sizeof f.value) throw std::logic_error("values of at most 32 bytes are gathered in a warp");
  std::memcpy(f.value, mine, bytes);
  stop(State::at_warp);
  const int warp = f.block.thread / kWarp * kWarp;
  for (int lane = 0; lane < kWarp; ++lane)
    std::memcpy(static_cast<std::byte*>(all) + static_cast<std::size_t>(lane) * bytes, machine.fibers[static_cast<std::size_t>(warp + lane)]->value,
                bytes);
  stop(State::at_warp);
}

void set_order(Order order) { chosen = order; }
Sequence::Sequence(std::int64_t count) {
  const Order order = chosen;
  if (order == Order::downwards) first_ = count - 1, step_ = -1;
  if (order == Order::mixed) mixed_ = mix(count, static_cast<std::uint64_t>(count));
}

void count_vector(std::size_t bytes) {
  vectors.fetch_add(1, std::memory_order_relaxed);
  vector_bytes.fetch_add(static_cast<std::int64_t>(bytes), std::memory_order_relaxed);
}
Vectors taken_vectors() { return {vectors.exchange(0), vector_bytes.exchange(0)}; }

void run_block(std::int64_t index, std::int64_t blocks, int threads, std::size_t bytes, const void* functor, ThreadBody body) {
  if (threads <= 0 || threads % kWarp != 0 || threads > 1024)
    throw std::logic_error("a block has whole warps and at most 1024 threads (" + std::to_string(threads) + ")");
  Machine& m = machine;
  m.functor = functor;
  m.body = body;
  m.shared.assign(bytes + 16, std::byte{0xa5});  // not zero: nothing may rely on that
  auto* memory = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(m.shared.data()) + 15) / 16 * 16);
  while (static_cast<int>(m.fibers.size()) < threads) {
    m.fibers.push_back(std::make_unique<Fiber>());
    m.fibers.back()->stack = std::make_unique<char[]>(kStackBytes);
  }
  for (int t = 0; t < threads; ++t) {
    Fiber& f = *m.fibers[static_cast<std::size_t>(t)];
    f.block = Block{index, blocks, t, threads, memory};
    start(f);
  }
  const Order order = chosen;
  const std::vector<std::int64_t> mixed = order == Order::mixed ? mix(threads, static_cast<std::uint64_t>(index)) : std::vector<std::int64_t>();
  for (bool upwards = order != Order::downwards;; upwards = !upwards) {
    for (int k = 0; k < threads; ++k) {
      const auto next = static_cast<std::size_t>(upwards ? k : threads - 1 - k);
      Fiber& f = *m.fibers[mixed.empty() ? next : static_cast<std::size_t>(mixed[next])];
      if (f.state != State::ready) continue;
      m.running = &f;
      go(m.scheduler, f.place);
      if (f.error) std::rethrow_exception(f.error);
    }
    if (all(m, 0, threads, State::done)) return;
    if (!meet(m, threads)) throw std::logic_error("threads of a block do not meet: some wait where others never come");
  }
}

}  // namespace dtensor::local::cuda::emulated
