// SPDX-License-Identifier: Apache-2.0
// driver.h without a GPU: memory of a device is memory of the host that is counted, and that nobody but queued work can touch; what is queued on a stream
// runs as late as the rules allow, so that a missing order between streams, or a host that does not wait, gives wrong numbers. All that is queued is written
// down.
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "dtensor/error.h"
#include "emulator.h"
#include "local/cuda/launch.h"
#include "local/cuda/launched.h"

namespace dtensor::local::cuda {
namespace {

// What streams are given while they record: by stream, in order. A wait is for the first nodes of another one.
struct Node {
  std::function<std::function<bool()>(Stream stream, std::uint64_t number)> make;  // of each launch
  std::size_t branch = 0, after = 0;
  bool is_wait = false, counts = true;
};
struct Capture {
  std::vector<std::vector<Node>> branches;
  bool over = false, broken = false;
};
using CaptureRef = std::shared_ptr<Capture>;

struct Queue {
  int device = 0;
  std::uint64_t id = 0;
  CaptureRef capture = nullptr;  // while it records
  std::size_t branch = 0;
  std::deque<std::function<bool()>> waiting;  // false: it cannot run yet
  std::uint64_t done = 0;                     // of all that was ever queued
  bool running = false;
};
constexpr unsigned kAsked = 4;  // is_done looks for work that can run from then on, less and less often
struct Mark {
  int number = 0, asked = 0;
  Queue* queue = nullptr;  // of the last record
  std::uint64_t after = 0;
  CaptureRef capture = nullptr;  // that the last record was in
  std::size_t branch = 0;
};
// Under the address sanitizer a kernel that leaves its blocks is found.
void forbid([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(memory, bytes);
#endif
}
void allow([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

// One range of addresses for all devices. Opened while queued work runs: a kernel that runs on the host, or a host that reads what only kernels may, faults.
class Arena {
 public:
  Arena() : base_(static_cast<std::byte*>(mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (base_ == MAP_FAILED) std::abort();
    free_[0] = kBytes;
  }
  void* take(std::size_t bytes) {
    const std::size_t size = ((bytes + 255) / 256 + 1) * 256;  // with a rest that nobody may touch
    for (auto at = free_.begin(); at != free_.end(); ++at) {
      if (at->second < size) continue;
      const std::size_t offset = at->first, rest = at->second - size;
      free_.erase(at);
      if (rest != 0) free_[offset + size] = rest;
      sizes_[offset] = size;
      forbid(base_ + offset + bytes, size - bytes);
      allow(base_ + offset, bytes);
      open();
      std::memset(base_ + offset, 0xa5, std::min<std::size_t>(bytes, 1 << 16));  // not zeros: nothing may rely on that
      close();
      return base_ + offset;
    }
    return nullptr;
  }
  void give(void* memory) {
    auto offset = static_cast<std::size_t>(static_cast<std::byte*>(memory) - base_);
    std::size_t size = sizes_.at(offset);
    sizes_.erase(offset);
    forbid(memory, size);
    if (size >= (1 << 16)) {
      const std::size_t first = (offset + 4095) / 4096 * 4096, end = (offset + size) / 4096 * 4096;
      madvise(base_ + first, end - first, MADV_DONTNEED);
    }
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + size) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin() && std::prev(next)->first + std::prev(next)->second == offset) {
      --next;
      size += next->second;
      offset = next->first;
    }
    free_[offset] = size;
  }
  void open() {
    if (depth_++ == 0) mprotect(base_, kBytes, PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--depth_ == 0) mprotect(base_, kBytes, PROT_NONE);
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{8} << 30;
  std::byte* base_;
  std::map<std::size_t, std::size_t> free_, sizes_;  // by offset
  int depth_ = 0;
};

struct State {
  std::recursive_mutex mutex;
  std::condition_variable_any changed;
  Arena arena;
  std::string failing, failure;  // the kernel that will fail; what has happened
  int devices = 2;
  std::int64_t bytes = std::int64_t{1} << 30;
  DeviceFacts facts{"emulated", 9, 0, emulated::kMultiprocessors, emulated::kShared};
  std::map<void*, std::pair<int, std::int64_t>> blocks;
  std::map<int, std::int64_t> in_use;
  std::set<Queue*> queues;
  std::vector<Queue*> freed;  // events may still speak of them
  std::uint64_t next_id = 1;
};
// Never destroyed, as its streams are not.
State& state() {
  static State* const s = new State;
  return *s;
}
thread_local std::vector<emulated::Entry> entries;
void note(std::string what, Stream stream = nullptr) { entries.push_back({std::move(what), stream}); }
std::string name_of(Event event) { return std::to_string(static_cast<Mark*>(event)->number); }

struct Opened {
  Opened() { state().arena.open(); }
  ~Opened() { state().arena.close(); }
};
struct Running {
  explicit Running(Queue& queue) : q(queue) { q.running = true; }
  ~Running() { q.running = false; }
  Queue& q;
};
// False: what is next cannot run yet.
bool run_until(Queue& q, std::uint64_t count) {
  if (q.done >= count) return true;
  if (q.running) return false;
  const Opened opened;
  const Running running(q);
  while (q.done < count) {
    bool ran = true;
    try {
      ran = q.waiting.front()();
    } catch (...) {
      q.waiting.pop_front();
      ++q.done;
      throw;
    }
    if (!ran) return false;
    q.waiting.pop_front();
    ++q.done;
  }
  state().changed.notify_all();
  return true;
}
bool run_all(Queue& q) { return run_until(q, q.done + q.waiting.size()); }
bool run_event(const Mark& mark) { return mark.queue == nullptr || run_until(*mark.queue, mark.after); }
// Of the host: until it has run.
template <class F>
void wait_for(F&& ran) {
  std::unique_lock lock(state().mutex);
  while (!ran()) state().changed.wait_for(lock, std::chrono::milliseconds(1));
}
void push(Stream stream, std::function<bool()> work, bool counts = true) {
  const std::lock_guard lock(state().mutex);
  if (stream == nullptr) {
    const Opened opened;
    work();
    return;
  }
  auto* q = static_cast<Queue*>(stream);
  if (q->capture) {
    q->capture->branches[q->branch].push_back({.make = [work = std::move(work)](Stream, std::uint64_t) { return work; }, .counts = counts});
    return;
  }
  q->waiting.push_back(std::move(work));
  state().changed.notify_all();
}
void push_plain(Stream stream, std::function<void()> work, bool counts = true) {
  push(
      stream,
      [work = std::move(work)] {
        work();
        return true;
      },
      counts);
}
// What a stream that records may not be asked.
void refuse_recording(Stream stream, const char* what) {
  const std::lock_guard lock(state().mutex);
  if (stream == nullptr || !static_cast<Queue*>(stream)->capture) return;
  static_cast<Queue*>(stream)->capture->broken = true;
  throw DeviceError(std::string(what) + ": operation not permitted when stream is capturing (cudaErrorStreamCaptureUnsupported)");
}
void refuse_recorded(const Mark& mark, const char* what) {
  if (mark.capture)
    throw DeviceError(std::string(what) + ": operation not permitted on an event last recorded in a capturing stream (cudaErrorCapturedEvent)");
}
// Whether the first branch, and what it waits for, reaches all that was queued.
bool is_joined(const Capture& c) {
  std::vector<std::size_t> reached(c.branches.size());
  reached[0] = c.branches[0].size();
  for (bool more = true; std::exchange(more, false);)
    for (std::size_t b = 0; b < reached.size(); ++b)
      for (std::size_t i = 0; i < reached[b]; ++i) {
        const Node& node = c.branches[b][i];
        if (!node.is_wait || reached[node.branch] >= node.after) continue;
        reached[node.branch] = node.after;
        more = true;
      }
  for (std::size_t b = 0; b < reached.size(); ++b)
    for (std::size_t i = reached[b]; i < c.branches[b].size(); ++i)
      if (!c.branches[b][i].is_wait) return false;
  return true;
}

}  // namespace

namespace emulated {
std::vector<Entry> taken_entries() { return std::exchange(entries, {}); }
void set_devices(int count, std::int64_t bytes) {
  const std::lock_guard lock(state().mutex);
  state().devices = count;
  state().bytes = bytes;
}
void set_parts(int multiprocessors, std::size_t shared) {
  state().facts.multiprocessors = multiprocessors;
  state().facts.shared_per_block = shared;
}
void fail_kernel(std::string kernel) {
  const std::lock_guard lock(state().mutex);
  state().failing = std::move(kernel);
}
void clear_failure() {
  const std::lock_guard lock(state().mutex);
  state().failing.clear();
  state().failure.clear();
}
void free_stream(Stream stream) noexcept {
  const std::lock_guard lock(state().mutex);
  auto* q = static_cast<Queue*>(stream);
  run_all(*q);
  state().queues.erase(q);
  state().freed.push_back(q);
}
std::int64_t bytes_in_use(int device) {
  const std::lock_guard lock(state().mutex);
  return state().in_use[device];
}
void queue_host(Stream stream, std::function<void()> work) { push_plain(stream, std::move(work)); }
void queue_when(Stream stream, std::function<bool()> work) { push(stream, std::move(work)); }
void queue_made(Stream stream, std::function<std::function<bool()>(Stream, std::uint64_t)> make) {
  const std::lock_guard lock(state().mutex);
  auto* q = static_cast<Queue*>(stream);
  if (q->capture) return q->capture->branches[q->branch].push_back({.make = std::move(make)});
  push(stream, make(stream, q->done + q->waiting.size() + 1));
}
void run_up_to(Stream stream, std::uint64_t count) { run_until(*static_cast<Queue*>(stream), count); }
std::unique_lock<std::recursive_mutex> stopped() { return std::unique_lock(state().mutex); }
void queue(const char* name, Stream stream, std::function<void()> work) {
  note(std::string("launch ") + name, stream);
  push_plain(stream, [kernel = std::string(name), work = std::move(work)] {
    if (!state().failing.empty() && kernel == state().failing) {
      state().failing.clear();
      state().failure = "an illegal memory access was encountered (cudaErrorIllegalAddress)";
    }
    if (state().failure.empty()) work();
  });
}
}  // namespace emulated

int device_count() noexcept { return state().devices; }
std::string why_none() { return state().devices > 0 ? "" : "there is no driver"; }
int driver_version() noexcept { return state().devices > 0 ? 13000 : 0; }
int runtime_version() noexcept { return 13000; }
const DeviceFacts& device_facts(int /*device*/) { return state().facts; }
thread_local int current_device = 0;
void use_device(int device) {
  if (device >= state().devices) throw DeviceError("device: invalid device ordinal (cudaErrorInvalidDevice)");
  current_device = device;
}

void* device_malloc(int device, std::size_t bytes) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const auto size = static_cast<std::int64_t>(bytes);
  if (s.in_use[device] + size > s.bytes) return nullptr;
  void* memory = s.arena.take(bytes);
  if (memory == nullptr) return nullptr;
  s.blocks[memory] = {device, size};
  s.in_use[device] += size;
  return memory;
}
void device_free(int device, void* memory) noexcept {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  for (Queue* q : s.queues) run_all(*q);  // as the real one does
  const auto at = s.blocks.find(memory);
  if (at == s.blocks.end() || at->second.first != device) std::abort();
  s.in_use[device] -= at->second.second;
  s.blocks.erase(at);
  s.arena.give(memory);
}
void mark_used([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t used, [[maybe_unused]] std::size_t held,
               [[maybe_unused]] Stream stream) noexcept {
#if defined(__SANITIZE_ADDRESS__)
  // What was queued before, when more of the block may have been in use, runs first.
  push_plain(
      stream,
      [=] {
        forbid(static_cast<std::byte*>(memory) + used, held - used);
        allow(memory, used);
      },
      false);
#endif
}
MemoryInfo device_memory(int device) {
  const std::lock_guard lock(state().mutex);
  return {state().bytes - state().in_use[device], state().bytes};
}

void* pinned_malloc(int /*device*/, std::size_t bytes) { return std::calloc(bytes, 1); }
void pinned_free(void* memory) noexcept { std::free(memory); }

Stream make_stream(int device) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  Queue* q = nullptr;
  // The handle of the last that was destroyed, as a driver may do: nobody may take it for the same stream.
  if (s.freed.empty()) q = new Queue{};
  else {
    q = s.freed.back();
    s.freed.pop_back();
  }
  q->device = device;
  q->id = s.next_id++;
  s.queues.insert(q);
  return q;
}
std::uint64_t stream_id(Stream stream) { return stream == nullptr ? 0 : static_cast<Queue*>(stream)->id; }
bool is_idle(Stream stream) {
  refuse_recording(stream, "stream");
  const std::lock_guard lock(state().mutex);
  return stream == nullptr || static_cast<Queue*>(stream)->waiting.empty();
}
int device_of(Stream stream) { return stream == nullptr ? 0 : static_cast<Queue*>(stream)->device; }
bool connect(int device, int other) {
  note("connect " + std::to_string(device) + " to " + std::to_string(other));
  return true;
}
Event make_event(int /*device*/) {
  thread_local int next = 0;
  return new Mark{.number = ++next};
}
void free_event(Event event) noexcept { delete static_cast<Mark*>(event); }
void record(Event event, Stream stream) {
  note("record " + name_of(event), stream);
  const std::lock_guard lock(state().mutex);
  auto* mark = static_cast<Mark*>(event);
  if (stream != nullptr && !state().queues.contains(static_cast<Queue*>(stream)))
    throw DeviceError("event: invalid resource handle (cudaErrorInvalidResourceHandle)");
  mark->asked = 0;
  mark->capture = stream == nullptr ? nullptr : static_cast<Queue*>(stream)->capture;
  if (mark->capture) {
    mark->queue = nullptr;
    mark->branch = static_cast<Queue*>(stream)->branch;
    mark->after = mark->capture->branches[mark->branch].size();
    return;
  }
  mark->queue = static_cast<Queue*>(stream);
  if (mark->queue != nullptr) mark->after = mark->queue->done + mark->queue->waiting.size();
}
void order_after(Stream stream, Event event) {
  note("order after " + name_of(event), stream);
  const std::lock_guard lock(state().mutex);
  const Mark mark = *static_cast<Mark*>(event);
  auto* q = static_cast<Queue*>(stream);
  if (!mark.capture) {
    if (q != nullptr && q->capture) {
      q->capture->broken = true;
      throw DeviceError("stream: dependency created on uncaptured work in another stream (cudaErrorStreamCaptureIsolation)");
    }
    return push(stream, [mark] { return run_event(mark); });
  }
  if (q == nullptr || mark.capture->over) refuse_recorded(mark, "stream");
  if (!q->capture) {
    q->capture = mark.capture;
    q->branch = mark.capture->branches.size();
    mark.capture->branches.emplace_back();
  }
  if (q->capture != mark.capture) throw DeviceError("stream: attempt to merge two separate capture sequences (cudaErrorStreamCaptureMerge)");
  q->capture->branches[q->branch].push_back({.make = nullptr, .branch = mark.branch, .after = mark.after, .is_wait = true, .counts = false});
}
bool is_done(Event event) {
  const std::lock_guard lock(state().mutex);
  auto* mark = static_cast<Mark*>(event);
  refuse_recorded(*mark, "event");
  if (mark->queue == nullptr || mark->queue->done >= mark->after) return true;
  // A device gets on with its work while a host asks again and again.
  const auto asked = static_cast<unsigned>(++mark->asked);
  return asked >= kAsked && std::has_single_bit(asked) && run_event(*mark);
}
void host_waits(Event event) {
  note("host waits for " + name_of(event));
  refuse_recorded(*static_cast<Mark*>(event), "wait");
  wait_for([&] { return run_event(*static_cast<Mark*>(event)); });
}
void host_waits_for_stream(Stream stream) {
  note("host waits", stream);
  refuse_recording(stream, "wait");
  if (stream != nullptr) wait_for([&] { return run_all(*static_cast<Queue*>(stream)); });
  if (!state().failure.empty()) fail_device("wait", state().failure);
}

void begin_recording(Stream stream) {
  note("begin recording", stream);
  if (stream == nullptr) throw DeviceError("record: operation not permitted when stream is capturing (cudaErrorStreamCaptureUnsupported)");
  refuse_recording(stream, "record");
  const std::lock_guard lock(state().mutex);
  auto* q = static_cast<Queue*>(stream);
  q->capture = std::make_shared<Capture>();
  q->capture->branches.emplace_back();
  q->branch = 0;
}
bool is_recording(Stream stream) {
  const std::lock_guard lock(state().mutex);
  return stream != nullptr && static_cast<Queue*>(stream)->capture != nullptr;
}
EndedRecording end_recording(Stream stream) {
  note("end recording", stream);
  const std::lock_guard lock(state().mutex);
  auto* origin = static_cast<Queue*>(stream);
  const CaptureRef capture = origin->capture;
  if (!capture || origin->branch != 0) return {.error = "operation failed (cudaErrorStreamCaptureUnmatched)"};
  for (Queue* q : state().queues)
    if (q->capture == capture) q->capture = nullptr;
  capture->over = true;
  if (capture->broken) return {.error = "operation failed due to a previous error during capture (cudaErrorStreamCaptureInvalidated)"};
  if (!is_joined(*capture)) return {.unjoined = true, .error = "capturing stream has unjoined work (cudaErrorStreamCaptureUnjoined)"};
  EndedRecording ended;
  ended.graph = new CaptureRef(capture);
  for (const auto& branch : capture->branches)
    ended.nodes += static_cast<std::size_t>(std::count_if(branch.begin(), branch.end(), [](const Node& n) { return n.counts; }));
  return ended;
}
// Each branch is a queue of its own: works run as late as their waits allow.
void launch_graph(Graph graph, Stream stream) {
  note("replay", stream);
  refuse_recording(stream, "replay");
  const std::lock_guard lock(state().mutex);
  const Capture& capture = **static_cast<CaptureRef*>(graph);
  auto* q = static_cast<Queue*>(stream);
  const std::uint64_t number = q->done + q->waiting.size() + 1;
  const auto queues = std::make_shared<std::vector<Queue>>(capture.branches.size());
  for (std::size_t b = 0; b < queues->size(); ++b)
    for (const Node& node : capture.branches[b]) {
      if (!node.is_wait) (*queues)[b].waiting.push_back(node.make(stream, number));
      else (*queues)[b].waiting.push_back([all = queues.get(), other = node.branch, after = node.after] { return run_until((*all)[other], after); });
    }
  push(stream, [queues] { return run_all(queues->front()); });
}
void free_graph(Graph graph) noexcept {
  const std::lock_guard lock(state().mutex);
  auto* const capture = static_cast<CaptureRef*>(graph);
  (*capture)->branches.clear();  // events may still speak of it
  delete capture;
}

void copy(void* to, const void* from, std::size_t bytes, CopyKind kind, Stream stream) {
  static constexpr const char* kNames[] = {"copy to device ", "copy to host ", "copy on device ", "copy to device ", "copy to host "};
  if (kind == CopyKind::to_device || kind == CopyKind::to_host) refuse_recording(stream, "copy");
  note(kNames[static_cast<int>(kind)] + std::to_string(bytes), stream);
  push_plain(stream, [to, from, bytes] { std::memmove(to, from, bytes); });
  if (kind != CopyKind::to_device && kind != CopyKind::to_host) return;
  note("host waits", stream);
  if (stream != nullptr) wait_for([&] { return run_all(*static_cast<Queue*>(stream)); });
}
void set_bytes(void* memory, int byte, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  note("set " + std::to_string(bytes), stream);
  push_plain(stream, [memory, byte, bytes] { std::memset(memory, byte, bytes); });
}
PointerFacts pointer_facts(const void* memory) {
  const std::lock_guard lock(state().mutex);
  const auto after = state().blocks.upper_bound(const_cast<void*>(memory));
  if (after == state().blocks.begin()) return {};
  const auto& [begin, block] = *std::prev(after);
  const bool inside = static_cast<const std::byte*>(memory) < static_cast<const std::byte*>(begin) + block.second;
  return {inside, inside ? block.first : 0};
}

std::string launch_error() {
  const std::lock_guard lock(state().mutex);
  return state().failure;
}
std::string finish_error() {
  wait_for([] {
    const std::set<Queue*> queues = state().queues;
    bool all = true;
    for (Queue* q : queues) all = (q->device != current_device || run_all(*q)) && all;
    return all;
  });
  const std::lock_guard lock(state().mutex);
  return state().failure;
}

}  // namespace dtensor::local::cuda
