// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/recording.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/error_text.h"
#include "base/rank.h"
#include "local/cuda/launched.h"

namespace dtensor::local::cuda {
namespace {

constexpr auto kGrace = std::chrono::seconds(3);  // for a replay to end, once the world is over

struct Active {
  Recording* recording = nullptr;
};
Active& active() {
  if (base::RankContext* context = base::current_rank()) return base::rank_state<Active>(*context);
  static Active shared;
  return shared;
}

// What communicators have in flight, of those that are still there.
std::vector<std::shared_ptr<SideStream>> settled_sides(RankDevice& d) {
  std::vector<std::shared_ptr<SideStream>> sides;
  std::erase_if(d.side_streams, [&sides](const auto& weak) {
    auto side = weak.lock();
    if (side) sides.push_back(std::move(side));
    return side == nullptr && weak.expired();
  });
  for (const auto& side : sides) side->settle();
  return sides;
}

}  // namespace

Recording* current_recording() { return any_recording() ? active().recording : nullptr; }

RecordingMark current_mark() {
  const Recording* recording = current_recording();
  return recording != nullptr ? recording->mark() : nullptr;
}

void refuse_wait(Device device) {
  base::fail<InvalidArgument>(
      "CudaGraph::record: the host asks for what {} has done (item, values, a copy to the CPU, a barrier, a wait, or an op whose result's shape "
      "depends on data), "
      "and nothing runs before replay(); do it outside the body",
      to_string(device));
}

RandomState random_state(std::uint64_t seed, std::uint64_t call) {
  const Recording* recording = current_recording();
  return recording != nullptr ? recording->random_state(seed, call) : RandomState{seed, call};
}

// The rank, while the body runs.
class Recording::Scope {
 public:
  explicit Scope(Recording& r) : r_(r), d_(*r.home_), allocator_(d_.allocator) {
    // What is staged on the stream so far ends outside.
    d_.staging.leave();
    d_.faults.leave();
    begin_recording(r.stream_);
    d_.recording = &r;
    d_.allocator = r.memory_;
    d_.faults.record(r.faults_);
    active().recording = &r;
    recordings.fetch_add(1);
    allocator_->hold();
  }
  Scope(const Scope&) = delete;
  ~Scope() {
    r_.state_->over.store(true, std::memory_order_release);
    recordings.fetch_sub(1);
    active().recording = nullptr;
    d_.faults.record(nullptr);
    d_.allocator = allocator_;
    d_.recording = nullptr;
    r_.held_ = allocator_->held();
  }

 private:
  Recording& r_;
  RankDevice& d_;
  std::shared_ptr<DeviceAllocator> allocator_;
};

Recording::Recording(RankDevice& device, std::span<Generator* const> generators)
    : device_(device.device),
      home_(&device),
      home_life_(device.life),
      over_(base::current_rank() != nullptr ? base::current_rank()->over : nullptr),
      memory_(std::make_shared<DeviceAllocator>(device.device, device.allocator)),
      staging_(std::make_shared<PinnedPieces>(device.device.index)),
      faults_(std::make_shared<RecordedFaults>(device.device.index)),
      stream_(device.current) {
  for (Generator* g : generators) {
    const bool known = std::any_of(drawings_.begin(), drawings_.end(), [g](const Drawing& d) { return d.generator == g; });
    if (!known) drawings_.push_back({g, *g, *g});
  }
  random_ = memory_->allocate(std::max<std::size_t>(1, drawings_.size()) * 2 * sizeof(std::uint64_t), stream_);
  device.graphs.push_back(this);
}

Recording::~Recording() {
  end();
  if (home_life_.expired()) return;
  std::erase(home_->graphs, this);
  home_->faults.forget(faults_);
}

void Recording::end() noexcept {
  if (graph_ == nullptr) return;
  if (!replays_end()) return abandon();
  free_graph(std::exchange(graph_, nullptr));
  last_.reset();
}

// What communicators of the library have queued ends soon after the world is over: they are aborted. Not so those that are the application's.
bool Recording::replays_end() noexcept {
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> until;
  for (auto pause = std::chrono::microseconds(5); last_ && !last_->done(); pause = std::min(pause * 2, std::chrono::microseconds(1000))) {
    if (until && Clock::now() > *until) return false;
    if (!until && over_ != nullptr && over_->load()) until = Clock::now() + kGrace;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

// A collective of a replay waits for a rank that is gone, and what it uses stays where it is: a device that writes to memory which others have by then is
// worse than memory that nobody has. To destroy the graph might wait for the replay.
void Recording::abandon() noexcept {
  struct Kept {
    Graph graph;
    std::shared_ptr<void> memory, held, staging, faults, last;
    std::vector<base::Ref<Buffer>> buffers;
  };
  // Reachable for ever.
  static std::mutex mutex;
  static auto* const kept = std::make_unique<std::vector<Kept>>().release();
  const std::lock_guard lock(mutex);
  kept->push_back({std::exchange(graph_, nullptr), memory_, held_, staging_, faults_, last_, std::move(kept_)});
  kept->back().buffers.push_back(random_);
  if (!home_life_.expired()) home_->hangs = true;
}

void Recording::record(const std::function<void()>& body) {
  settled_sides(*home_);
  const Scope scope(*this);
  try {
    body();
    finish();
  } catch (...) {
    if (graph_ == nullptr && is_recording(stream_)) {
      const EndedRecording ended = end_recording(stream_);
      if (ended.graph != nullptr) free_graph(ended.graph);
    }
    restore_generators();
    throw;
  }
  restore_generators();
}

void Recording::finish() {
  for (const auto& side : settled_sides(*home_))
    if (is_recording(side->stream->native())) PooledEvent(device_, side->stream->native()).order(stream_);
  const EndedRecording ended = end_recording(stream_);
  if (ended.unjoined)
    base::fail<InvalidArgument>(
        "CudaGraph::record: a stream waited for the recording's and the body ends without a wait for it; let the current stream wait for it "
        "(Stream::wait, or an ordered StreamScope)");
  if (ended.graph == nullptr)
    base::fail<DeviceError>("CudaGraph::record: no graph can be made of what the body queued on {}: {}", to_string(device_), ended.error);
  graph_ = ended.graph;
  nodes_ = static_cast<std::int64_t>(ended.nodes);
}

// The body has run for the host only: its numbers are those of the first replay.
void Recording::restore_generators() noexcept {
  for (Drawing& d : drawings_) {
    d.after = *d.generator;
    *d.generator = d.before;
  }
}

void Recording::note_draw(const Generator& generator, std::uint64_t seed, std::uint64_t call) {
  const auto at = std::find_if(drawings_.begin(), drawings_.end(), [&generator](const Drawing& d) { return d.generator == &generator; });
  if (at == drawings_.end())
    base::fail<InvalidArgument>(
        "CudaGraph::record: random numbers are drawn from a generator that replays would not carry on; name it in CudaGraphOptions::generators, or "
        "draw "
        "outside the body");
  // Others are drawn anew, as in the second run of a checkpointed function, or after a seed that the body sets: they stay what they are.
  if (seed != at->before.seed() || call != at->before.calls() + at->draws) return;
  const auto index = static_cast<std::size_t>(at - drawings_.begin());
  if (!draws_.try_emplace({seed, call}, index, at->draws).second)
    base::fail<InvalidArgument>("CudaGraph::record: two generators give the same numbers (seed {}, call {}); give them seeds of their own", seed,
                                call);
  ++at->draws;
}

RandomState Recording::random_state(std::uint64_t seed, std::uint64_t call) const {
  const auto at = draws_.find({seed, call});
  if (at == draws_.end()) return {seed, call};
  const auto [index, before] = at->second;
  return {seed, before, static_cast<const std::uint64_t*>(random_->data()) + 2 * index};
}

RankDevice& Recording::home() const {
  RankDevice* here = home_life_.expired() ? nullptr : &rank_device(device_);
  if (here != home_ || graph_ == nullptr)
    base::fail<InvalidArgument>("CudaGraph::replay: the graph was recorded by another rank, or its world has ended; record it anew");
  if (current_recording() != nullptr) base::fail<InvalidArgument>("CudaGraph::replay: a recording goes on; replay outside its body");
  return *here;
}

void Recording::queue_random_state(RankDevice& d) {
  if (draws_.empty() && std::all_of(drawings_.begin(), drawings_.end(), [](const Drawing& g) { return g.goes_on(); })) return;
  std::vector<std::uint64_t> begin;
  for (const Drawing& g : drawings_) {
    begin.push_back(g.generator->seed());
    begin.push_back(g.generator->calls());
    if (g.goes_on()) g.generator->set_state(begin.end()[-2], begin.end()[-1] + g.draws);
    else *g.generator = g.after;
  }
  upload(d, random_->data(), begin.data(), begin.size() * sizeof(std::uint64_t));
}

void Recording::replay() {
  RankDevice& d = home();
  for (const auto& side : settled_sides(d)) PooledEvent(device_, side->stream->native()).order(d.current);
  const std::uint64_t stream = stream_id(d.current);
  if (last_ && last_stream_ != stream) last_->order(d.current);
  queue_random_state(d);
  launch_graph(graph_, d.current);
  last_ = std::make_shared<PooledEvent>(device_, d.current);
  last_stream_ = stream;
}

std::int64_t Recording::bytes() const noexcept { return memory_->taken() + static_cast<std::int64_t>(staging_->bytes() + faults_->memory.bytes()); }

}  // namespace dtensor::local::cuda
