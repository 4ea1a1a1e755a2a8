// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/nccl_job.h"

#include <algorithm>
#include <exception>
#include <iterator>

#include "base/error_text.h"
#include "comm/nccl/group.h"
#include "comm/nccl/nccl_transport.h"
#include "dtensor/nccl.h"
#include "local/device.h"

namespace dtensor::comm::nccl {
namespace {

using std::chrono::milliseconds;

constexpr auto kBusy = milliseconds(1), kIdle = milliseconds(50), kListen = milliseconds(200), kPublish = milliseconds(1000);
constexpr auto kGrace = std::chrono::seconds(2);       // in which the others hear from the store that the world is over
constexpr auto kWord = std::chrono::seconds(1);        // in which the store says which peer is lost
constexpr auto kAbortGrace = std::chrono::seconds(5);  // in which NCCL ends what is aborted
// Under which the first error stands: "e3 text" of rank 3's program, "s text" as it is.
constexpr std::string_view kError = "error";

std::string here(int rank) { return fmt::format("here/{}", rank); }
std::string left(int rank) { return fmt::format("left/{}", rank); }
std::string place(int rank) { return fmt::format("at/{}", rank); }

// At once: an abort may wait for kernels of another communicator, which end when that one is aborted.
void abort_all(const std::vector<GivenUp>& all) noexcept {
  if (all.size() > 1 && version() >= kGroupsAborts) {
    static_cast<void>(group_start());
    for (const GivenUp& g : all) static_cast<void>(nccl::abort(g.comm));
    static_cast<void>(group_end());
    return;
  }
  std::vector<std::thread> threads;
  for (const GivenUp& g : all) try {
      threads.emplace_back([&g] { static_cast<void>(nccl::abort(g.comm)); });
    } catch (const std::exception&) { static_cast<void>(nccl::abort(g.comm)); }
  for (std::thread& t : threads) t.join();
}

}  // namespace

std::string version_text(int v) {
  // Up to 2.8 a hundred stood for a minor version.
  return v < 10'000 ? fmt::format("{}.{}.{}", v / 1000, v / 100 % 10, v % 100) : fmt::format("{}.{}.{}", v / 10'000, v / 100 % 100, v % 100);
}

std::string why_no_library() {
  const Library l = library();
  std::string why = l.why_not;
  if (why.empty() && l.version < kOldestVersion)
    why = fmt::format("{} is NCCL {}, older than {}", l.path, version_text(l.version), version_text(kOldestVersion));
  return why.empty()
             ? why
             : fmt::format("{}; install NCCL {}.{} or newer, or set DTENSOR_NCCL_LIBRARY", why, kOldestVersion / 10'000, kOldestVersion / 100 % 100);
}

NcclJob::NcclJob(const JobOptions& options) : options_(options), context_(base::current_rank()) {
  if (const std::string why = why_no_library(); !why.empty()) throw CommError("nccl: " + why);
  options_.all_to_all = options_.all_to_all && has_all_to_all();
  if (!options_.store->set_new(here(options_.rank), "1"))
    base::fail<CommError>("nccl: there is a rank {} of {} already; give every process a rank of its own, and every job a store of its own",
                          options_.rank, options_.size);
  options_.store->set_when_lost(kError,
                                fmt::format("s rank {} is gone without a word (killed, or its machine is lost); the world is over", options_.rank));
  thread_ = std::thread([this] { run(); });
}

NcclJob::~NcclJob() { stop(); }

void NcclJob::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void NcclJob::remove(Group& group) noexcept {
  std::erase(groups_, &group);
  std::erase_if(order_, [&](const auto& entry) { return entry.first == &group; });
}

void NcclJob::release(std::vector<base::Ref<local::Buffer>> memory) {
  released_.memory.insert(released_.memory.end(), std::make_move_iterator(memory.begin()), std::make_move_iterator(memory.end()));
}
void NcclJob::release(Window window) { released_.windows.push_back(std::move(window)); }

void NcclJob::queue(Group& group, std::shared_ptr<Launch> launch) {
  if (group.in_order()) order_.emplace_back(&group, launch.get());
  group.queue(std::move(launch));
  group.advance();
  go_on_in_order();
}

bool NcclJob::is_next(const Launch& launch) const noexcept { return !launch.in_order || order_.front().second == &launch; }

void NcclJob::has_queued(const Launch& launch) noexcept {
  if (launch.in_order) order_.pop_front();
}

// What one group has queued may be what the next launch of another waited for.
void NcclJob::go_on_in_order() {
  for (std::size_t left = order_.size() + 1; !order_.empty() && order_.size() < left;) {
    left = order_.size();
    order_.front().first->advance();
  }
}

std::unique_ptr<Transport> NcclJob::transport() { return nccl_transport(shared_from_this()); }

void NcclJob::run() noexcept {
  Clock::time_point listened{};
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      const bool busy = std::any_of(groups_.begin(), groups_.end(), [](const Group* g) { return g->is_busy(); });
      wake_.wait_for(lock, busy ? kBusy : kIdle);
      if (stop_) return;
    }
    if (over_.load()) continue;
    {
      const std::lock_guard lock(mutex_);
      advance_groups();
    }
    if (Clock::now() - listened < kListen) continue;
    listened = Clock::now();
    listen();
  }
}

void NcclJob::advance_groups() {
  try {
    for (Group* g : groups_) {
      if (over_.load(std::memory_order_relaxed)) return;
      if (g->is_busy() || g->looked_at() + kIdle < Clock::now()) g->advance();
    }
    go_on_in_order();
  } catch (const std::exception& e) { end(e.what()); }
}

void NcclJob::listen() {
  try {
    if (const auto error = options_.store->get(kError)) {
      const std::lock_guard lock(mutex_);
      hear(*error);
    }
    publish_place();
  } catch (const std::exception& e) {
    const std::lock_guard lock(mutex_);
    over_by(e.what(), true, false);
  }
}

void NcclJob::publish_place() {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    if (Clock::now() - published_at_ < kPublish) return;
    const char* call = context_ != nullptr ? context_->last_call.load(std::memory_order_relaxed) : nullptr;
    text = fmt::format("last call {}, last collective {}", call != nullptr ? call : "none", last_collective());
    published_at_ = Clock::now();
    if (text == published_) return;
    published_ = text;
  }
  options_.store->set(place(options_.rank), text);
}

std::string NcclJob::last_collective() const {
  if (!last_launch_) return "none";
  const Launch& l = *last_launch_;
  return fmt::format("{} {} of group {}{}{}, fingerprint {:016x}", l.kind, l.sequence, last_group_, l.detail.empty() ? "" : ": ", l.detail,
                     l.fingerprint);
}

std::string NcclJob::everybody() noexcept {
  std::string all;
  try {
    for (int r = 0; r < options_.size; ++r) {
      const auto text = r == options_.rank ? std::optional(fmt::format("last collective {}", last_collective())) : options_.store->get(place(r));
      const bool gone = options_.store->get(left(r)) == "returned", came = options_.store->get(here(r)).has_value();
      all += fmt::format("\n  rank {}: {}{}", r, gone ? "has returned from its program; " : "",
                         text   ? *text
                         : came ? "no collective"
                                : "has not joined");
    }
  } catch (const std::exception&) { all += "\n  the store cannot be reached"; }
  return all;
}

void NcclJob::over_by(const std::string& text, bool shared, bool elsewhere) noexcept {
  if (over_.load()) return;
  text_ = text;
  shared_text_ = shared;
  elsewhere_.store(elsewhere);
  over_.store(true, std::memory_order_release);
  abort_groups();
}

// By a thread of its own, which the job may end before: NCCL aborts a communicator when the last graph of its launches is destroyed, and the thread that
// would destroy it may wait for the job's mutex, or be the one that is here.
void NcclJob::abort_groups() noexcept {
  struct Abort {
    std::vector<GivenUp> all;
    std::promise<void> done;
    void run() {
      abort_all(all);
      all.clear();
      done.set_value();
    }
  };
  const auto abort = std::make_shared<Abort>();
  for (Group* g : groups_)
    if (GivenUp given = g->give_up(); given.comm != nullptr) abort->all.push_back(std::move(given));
  aborted_ = abort->done.get_future().share();
  try {
    std::thread([abort] { abort->run(); }).detach();
  } catch (const std::exception&) { abort->run(); }
}

// What stands in the store: it is the first error of all.
void NcclJob::hear(const std::string& error) noexcept {
  const std::size_t space = error.find(' ');
  const bool program = error.starts_with('e');
  const std::string text = error.substr(space + 1);
  over_by(program ? fmt::format("rank {} ended with an error ({}); the world is over", error.substr(1, space - 1), text) : text, !program, program);
}

// Before anything is aborted, which the others would take for the reason. Gives what stands there already.
std::optional<std::string> NcclJob::tell(const std::string& error) noexcept {
  try {
    const auto begin = Clock::now();
    while (expects_word_ && Clock::now() - begin < kWord && !options_.store->get(kError)) std::this_thread::sleep_for(kBusy);
    if (!options_.store->set_new(kError, error)) return options_.store->get(kError);
  } catch (const std::exception&) { return std::nullopt; }  // each rank finds out by itself
  return std::nullopt;
}

void NcclJob::end(const std::string& text) noexcept {
  if (over_.load()) return;
  if (const auto first = tell("s " + text)) hear(*first);
  else over_by(text, true, false);
}

void NcclJob::fail(const std::string& text) noexcept {
  const std::lock_guard lock(mutex_);
  if (!over_.load()) {
    if (const auto first = tell(fmt::format("e{} {}", options_.rank, text))) hear(*first);
    else over_by(text, true, false);
  }
  // An error of the rank's own is one that no other rank prints.
  if (text.find(text_) == std::string::npos) elsewhere_.store(false);
}

void NcclJob::throw_over(std::string_view op) {
  const std::lock_guard lock(mutex_);
  if (shared_text_) throw CommError(text_);
  base::fail<CommError>("{}: {}", op, text_);
}

void NcclJob::wait_until(std::string_view op, const std::function<bool()>& ready) {
  for (auto pause = std::chrono::microseconds(5);; pause = std::min<std::chrono::microseconds>(pause * 2, kBusy)) {
    check_over(op);
    if (ready()) break;
    {
      const RankLock lock(*this);
      advance_groups();
    }
    std::this_thread::sleep_for(pause);
  }
  check_over(op);
}

bool NcclJob::hangs() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!over_.load()) return false;
    if (std::any_of(groups_.begin(), groups_.end(), [](const Group* g) { return g->hangs(); })) return true;
  }
  return !abort_ends();
}

bool NcclJob::abort_ends() noexcept {
  std::shared_future<void> aborted;
  {
    const std::lock_guard lock(mutex_);
    aborted = aborted_;
  }
  return !aborted.valid() || aborted.wait_for(kAbortGrace) == std::future_status::ready;
}

void NcclJob::leave() noexcept {
  bool there = true;
  try {
    options_.store->set(left(options_.rank), over_.load() ? "failed" : "returned");
    for (int r = 0; options_.store->serves() && r < options_.size; ++r)
      while (!options_.store->get(left(r)) && !(over_.load() && given_up())) std::this_thread::sleep_for(kBusy);
  } catch (const std::exception&) { there = false; }
  stop();
  static_cast<void>(abort_ends());  // the process may end as soon as this returns
  { const RankLock last(*this); }
  if (!there) return;
  try {
    options_.store->leave();
    options_.store.reset();  // a tensor that outlives the world may hold the job, but not the store's port
  } catch (const std::exception&) { return; }
}

bool NcclJob::given_up() noexcept {
  if (gave_up_at_ == Clock::time_point{}) gave_up_at_ = Clock::now() + kGrace;
  return Clock::now() > gave_up_at_;
}

}  // namespace dtensor::comm::nccl

namespace dtensor {

NcclInfo nccl_info() {
  const comm::nccl::Library l = comm::nccl::library();
  return {.built = true, .headers = comm::nccl::built_version(), .found = l.version, .path = l.path, .why_none = comm::nccl::why_no_library()};
}

}  // namespace dtensor

namespace dtensor::comm {

bool has_nccl() noexcept { return true; }

std::shared_ptr<Job> nccl_job(const JobOptions& options) { return std::make_shared<nccl::NcclJob>(options); }

void end_job(Store& store, const std::string& text) noexcept {
  try {
    store.set_new(nccl::kError, "s " + text);
  } catch (const std::exception&) { return; }  // each rank finds out by itself
}

Membership nccl_membership(void* comm) {
  if (const std::string why = nccl::why_no_library(); !why.empty()) throw CommError("adopt: " + why);
  Membership m;
  if (const nccl::Result r = nccl::membership(comm, m.rank, m.size, m.device); r != nccl::Result::success)
    base::fail<CommError>("adopt: {}; give a communicator that is ready", nccl::text_of(r, comm));
  return m;
}

std::string nccl_broadcast(void* comm, const Membership& membership, const std::string& bytes, double time_limit_s) {
  const Device device = Device::cuda(membership.device);
  local::DeviceBackend& backend = local::require_cuda(device, "adopt");
  const auto begin = nccl::Clock::now();
  // As long as `waits` says so.
  const auto wait_while = [&](const auto& waits) {
    while (waits()) {
      if (time_limit_s > 0 && nccl::Clock::now() - begin > std::chrono::duration<double>(time_limit_s))
        base::fail<CommError>(
            "adopt: not all ranks have come within {} s (rank {} of {} waits for the address of rank 0); every rank of the "
            "communicator must call adopt; raise the limit with DTENSOR_TIME_LIMIT, 0 for none",
            time_limit_s, membership.rank, membership.size);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  };
  const auto memory = backend.allocate(bytes.size(), device);
  backend.copy(memory->data(), device, bytes.data(), Device::cpu(), bytes.size());
  const local::DeviceStreamRef stream = backend.make_stream(device);
  const nccl::Result r = nccl::broadcast(memory->data(), memory->data(), bytes.size(), nccl::Type::u8, 0, comm, stream->native());
  wait_while([&] { return nccl::state(comm) == nccl::Result::in_progress; });
  const nccl::Result end = r == nccl::Result::in_progress ? nccl::state(comm) : r;
  if (end != nccl::Result::success) base::fail<CommError>("adopt: {}; give a communicator that is ready", nccl::text_of(end, comm));
  const local::DeviceEventRef arrived = backend.record(*stream);
  memory->used_until(arrived);
  wait_while([&] { return !arrived->done(); });
  std::string received(bytes.size(), '\0');
  backend.copy(received.data(), Device::cpu(), memory->data(), device, received.size());
  return received;
}

}  // namespace dtensor::comm
