// SPDX-License-Identifier: Apache-2.0
#include "dtensor/world.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <utility>
#include <vector>

#include "base/environment.h"
#include "base/error_text.h"
#include "comm/communicator.h"
#include "comm/fake/fake_transport.h"
#include "comm/thread/thread_transport.h"
#include "dtensor/comm.h"
#include "dtensor/tensor.h"
#include "local/device.h"
#include "mesh/mesh_data.h"
#include "world/signals.h"
#include "world/world_data.h"

namespace dtensor {

namespace world {

WorldData::~WorldData() {
  if (hub) {
    if (!failed && std::uncaught_exceptions() > exceptions) {
      hub->fail(context.rank, std::make_exception_ptr(CommError("world: an exception has left this rank's scope")), "an exception has left its scope",
                false);
      failed = true;
    }
    hub->leave(context.rank, failed);
  }
  if (job && !failed && std::uncaught_exceptions() > exceptions) job->fail("an exception has left its scope");
  if (watches_signals) unwatch_signals();
  base::RankContext* before = base::bind_rank(&context);
  local::DeviceBackend* const cuda = local::cuda_backend();
  const bool replay_hangs = cuda != nullptr && cuda->end_graphs();
  if (job && (job->hangs() || replay_hangs)) {
    // Reachable for ever.
    static std::mutex mutex;
    static auto* const kept = std::make_unique<std::vector<decltype(context.states)>>().release();
    const std::lock_guard lock(mutex);
    kept->push_back(std::move(context.states));
  }
  // States may use the rank's allocator and each other: the youngest kind goes first, while the thread is still the rank.
  for (auto state = context.states.rbegin(); state != context.states.rend(); ++state) state->reset();
  if (job) job->leave();
  base::bind_rank(before == &context ? nullptr : before);
}

std::unique_ptr<WorldData> WorldData::of_thread(std::shared_ptr<comm::Hub> hub, int rank, const RunOptions& options) {
  auto data = std::make_unique<WorldData>();
  base::RankContext& context = data->context;
  context.rank = rank;
  context.world_size = hub->size();
  context.world_id = hub->world_id();
  context.device = device_of(options, rank);
  context.threads = threads_of(options);
  hub->join(rank, context);
  context.over = &hub->over();
  context.throw_over = comm::Hub::throw_over_of;
  base::rank_state<comm::HubOfRank>(context).hub = hub;
  base::rank_state<comm::RankComm>(context).transport = comm::thread_transport(hub, rank);
  data->exceptions = std::uncaught_exceptions();
  data->hub = std::move(hub);
  return data;
}

Device device_of(const RunOptions& options, int rank) {
  if (!options.device || !(*options.device == kOwnCuda)) return options.device.value_or(Device::cpu());
  const Device first = Device::cuda(0);
  local::DeviceBackend& backend = local::require_cuda(first, "run");
  backend.check(first);
  return Device::cuda(rank % backend.device_count());
}

int threads_of(const RunOptions& options) {
  if (options.threads_per_rank > 0) return options.threads_per_rank;
  return std::max(1, comm::usable_cores() / std::max(1, options.ranks));
}

comm::HubOptions hub_options(const RunOptions& options, const char* op) {
  constexpr int kMostRanks = 4096;
  if (options.ranks < 0 || options.ranks > kMostRanks)
    base::fail<InvalidArgument>("{}: a world of threads has 1 to {} ranks (got {}); set RunOptions.ranks or --ranks", op, kMostRanks, options.ranks);
  if (options.threads_per_rank < 0)
    base::fail<InvalidArgument>("{}: threads per rank are not negative (got {}); 0 shares the cores", op, options.threads_per_rank);
  if (!(options.time_limit_s >= 0)) base::fail<InvalidArgument>("{}: a time limit is not negative (got {}); 0 is none", op, options.time_limit_s);
  if (options.device && options.device->kind == DeviceKind::cuda) {
    const Device device = *options.device == kOwnCuda ? Device::cuda(0) : *options.device;
    local::require_cuda(device, op).check(device);
  }
  const double limit = base::env_double("DTENSOR_TIME_LIMIT").value_or(options.time_limit_s);
  if (limit < 0) base::fail<InvalidArgument>("{}: DTENSOR_TIME_LIMIT is not negative (got {}); 0 is none", op, limit);
  return {.ranks = std::max(1, options.ranks), .time_limit_s = limit, .grace_s = options.grace_s};
}

namespace {

struct RankLocals {
  std::map<std::uint64_t, std::shared_ptr<void>> values;
};

std::string joined(std::initializer_list<Text> texts) {
  std::string line;
  for (const Text& text : texts) line += text.str();
  if (line.empty() || line.back() != '\n') line += '\n';
  return line;
}

void write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

comm::Communicator& everyone(const base::RankContext& here) {
  std::vector<int> ranks(static_cast<std::size_t>(here.world_size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return comm::group(ranks, "world");
}

WorldData& checked(const std::unique_ptr<WorldData>& data, const char* op) {
  if (!data) base::fail<InvalidArgument>("World::{}: this World has been moved from; use the one it was moved to", op);
  if (base::current_rank() != &data->context)
    base::fail<InvalidArgument>(
        "World::{}: the calling thread is not rank {} of this world; call it on the rank's thread, or bind the thread with World::enter", op,
        data->context.rank);
  return *data;
}

}  // namespace

void* rank_local(std::uint64_t key, std::shared_ptr<void> (*make)()) {
  const std::shared_ptr<void>* value = nullptr;
  auto& values = base::rank_state<RankLocals>(base::require_rank("RankLocal")).values;
  if (const auto at = values.find(key); at != values.end()) value = &at->second;
  else value = &values.emplace(key, make()).first->second;
  return value->get();
}

std::uint64_t next_rank_local() noexcept {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1);
}

}  // namespace world

using world::WorldData;

World::World(std::unique_ptr<WorldData> data) noexcept : data_(std::move(data)) {}
World::World(World&& other) noexcept = default;
World& World::operator=(World&& other) noexcept = default;
World::~World() = default;

int World::rank() const noexcept { return data_->context.rank; }
int World::size() const noexcept { return data_->context.world_size; }
Device World::device() const noexcept { return data_->context.device; }
std::span<const std::string> World::args() const noexcept { return data_->args; }

DeviceMesh World::mesh(std::initializer_list<MeshAxis> axes, std::span<const int> ranks) const {
  return mesh(std::span<const MeshAxis>(axes.begin(), axes.size()), ranks);
}
DeviceMesh World::mesh(std::span<const MeshAxis> axes, std::span<const int> ranks) const {
  return mesh::make_mesh(data_->context.world_id, data_->context.world_size, axes, ranks);
}
Communicator World::communicator(const DeviceMesh& mesh, const AxisNames& axes) const {
  world::checked(data_, "communicator");
  return Communicator::of(mesh, axes);
}

void World::print(std::initializer_list<Text> texts) const {
  if (data_->context.rank == 0) world::write(world::joined(texts));
}

void World::log(std::initializer_list<Text> texts) const {
  const std::string text = world::joined(texts), front = "[rank " + std::to_string(rank()) + "] ";
  std::string lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin) + 1;
    lines += front + text.substr(begin, end - begin);
    begin = end;
  }
  world::write(lines);
}

void World::barrier() {
  WorldData& data = world::checked(data_, "barrier");
  data.context.last_call.store("barrier", std::memory_order_relaxed);
  world::everyone(data.context).barrier({.kind = "barrier"});
}

bool World::any(bool here) {
  WorldData& data = world::checked(data_, "any");
  data.context.last_call.store("any", std::memory_order_relaxed);
  const Tensor flag = Tensor::of<std::uint8_t>({static_cast<std::uint8_t>(here ? 1 : 0)}, {1});
  world::everyone(data.context).all_reduce({.kind = "any"}, flag, flag, {.op = ReduceOp::max});
  return flag.values<const std::uint8_t>()[0] != 0;
}

bool World::stop_requested() {
  WorldData& data = world::checked(data_, "stop_requested");
  if (!data.watches_signals) {
    data.watches_signals = true;
    world::watch_signals();
  }
  return any(world::signal_seen());
}

World::Entered::Entered(WorldData* data) : data_(data), before_(nullptr) {
  const std::thread::id self = std::this_thread::get_id();
  std::thread::id nobody{};
  if (!data->inside.compare_exchange_strong(nobody, self) && nobody != self)
    base::fail<InvalidArgument>("World::enter: another thread is inside rank {}; a rank is one thread at a time", data->context.rank);
  ++data->depth;
  before_ = base::bind_rank(&data->context);
}
World::Entered::~Entered() {
  base::bind_rank(static_cast<base::RankContext*>(before_));
  if (--data_->depth == 0) data_->inside.store(std::thread::id{});
}
World::Entered World::enter() {
  if (!data_) base::fail<InvalidArgument>("World::enter: this World has been moved from; use the one it was moved to");
  return Entered(data_.get());
}

World World::fake(int rank, int size) {
  if (size < 1 || rank < 0 || rank >= size)
    base::fail<InvalidArgument>("World::fake: there is no rank {} in a world of {}; ranks are 0 to size - 1", rank, size);
  if (const base::RankContext* here = base::current_rank())
    base::fail<InvalidArgument>("World::fake: the calling thread is rank {} of another world already; use a thread that is no rank", here->rank);
  static std::atomic<std::uint64_t> next{1};
  auto data = std::make_unique<WorldData>();
  data->context.rank = rank;
  data->context.world_size = size;
  // Apart from the worlds of threads, whose numbers are small.
  data->context.world_id = (std::uint64_t{1} << 32) + next.fetch_add(1);
  base::rank_state<comm::RankComm>(data->context).transport = comm::fake_transport(rank);
  base::bind_rank(&data->context);
  return World(std::move(data));
}

struct ThreadGroup::Data {
  RunOptions options;
  std::shared_ptr<comm::Hub> hub;
};

ThreadGroup::ThreadGroup(const RunOptions& options) {
  if (options.ranks < 1) base::fail<InvalidArgument>("ThreadGroup: it has at least one rank (got {}); set RunOptions.ranks", options.ranks);
  if (options.backend == Backend::nccl)
    base::fail<Unsupported>("ThreadGroup: threads of an application use the thread communicator; over NCCL each gives its communicator to adopt()");
  data_ = std::make_unique<Data>(Data{options, std::make_shared<comm::Hub>(world::hub_options(options, "ThreadGroup"))});
}
ThreadGroup::~ThreadGroup() = default;
int ThreadGroup::size() const noexcept { return data_->hub->size(); }
void ThreadGroup::rethrow() const {
  if (const std::exception_ptr error = data_->hub->first_error()) std::rethrow_exception(error);
}

World World::join(ThreadGroup& group, int rank) {
  if (rank < 0 || rank >= group.size())
    base::fail<InvalidArgument>("World::join: there is no rank {} in a group of {}; ranks are 0 to size - 1", rank, group.size());
  if (const base::RankContext* here = base::current_rank())
    base::fail<InvalidArgument>("World::join: the calling thread is rank {} already; join on another thread", here->rank);
  std::unique_ptr<WorldData> data = WorldData::of_thread(group.data_->hub, rank, group.data_->options);
  base::bind_rank(&data->context);
  return World(std::move(data));
}

}  // namespace dtensor
