// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/group.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include "base/error_text.h"
#include "comm/store/store.h"
#include "local/cuda/driver.h"
#include "local/cuda/unwaited.h"

namespace dtensor::comm::nccl {
namespace {

Type type_of(Dtype dtype) {
  static constexpr Type kTypes[] = {Type::f64, Type::f32, Type::bf16, Type::f16, Type::i64, Type::i32, Type::u8, Type::u8};
  return kTypes[static_cast<std::size_t>(dtype)];
}

constexpr std::size_t kMostInWindow = 72;  // members: as many as the largest domain of NVLink has

constexpr std::string_view kVerbs[] = {"ncclAllGather", "ncclReduceScatter", "ncclAllReduce", "ncclAlltoAll",
                                       "ncclBroadcast", "ncclSend",          "ncclRecv"};

// Boxes that one launch copies, as long as their elements have one size.
class Copies {
 public:
  Copies(local::DeviceBackend& backend, const local::DeviceStream& stream) : backend_(backend), stream_(stream) {}
  Copies(const Copies&) = delete;
  void add(local::BoxCopy box, Dtype dtype) {
    if (info(dtype).bytes != bytes_) flush();
    bytes_ = info(dtype).bytes;
    boxes_.push_back(box);
  }
  void flush() {
    if (!boxes_.empty()) backend_.copy_boxes(stream_, boxes_, static_cast<std::size_t>(bytes_));
    boxes_.clear();
  }

 private:
  local::DeviceBackend& backend_;
  const local::DeviceStream& stream_;
  std::vector<local::BoxCopy> boxes_;
  std::int64_t bytes_ = 0;
};

void queue_copies(const Launch& launch, std::vector<CopyStep> Lowered::*which, local::DeviceBackend& backend, const local::DeviceStream& stream) {
  Copies copies(backend, stream);
  for (const Prepared& o : launch.operations)
    for (const CopyStep& s : (*o.lowered).*which) copies.add({o.at(s.to), o.at(s.from), s.to_strides, s.from_strides, s.sizes}, o.dtype);
  copies.flush();
}

bool is_recorded(const Launch& launch) { return launch.recorder != std::thread::id(); }

bool is_in(const Exchange* e, const std::vector<Exchange>& list) { return !list.empty() && e >= list.data() && e < list.data() + list.size(); }

// Between tensors and the group's window, of what goes through it in one group of calls.
void queue_staging(const Launch& launch, std::vector<Exchange> Lowered::*which, bool to_window, local::DeviceBackend& backend,
                   const local::DeviceStream& stream) {
  Copies copies(backend, stream);
  const Shape one{1};
  for (const Slots& s : launch.slots) {
    const Prepared& o = *s.operation;
    if (!is_in(s.exchange, (*o.lowered).*which)) continue;
    std::byte* const lies = o.at(to_window ? s.exchange->from : s.exchange->to);
    std::byte* const slot = to_window ? s.in : s.out;
    if (lies == slot) continue;
    const Shape count{static_cast<std::int64_t>(to_window ? s.in_bytes : s.out_bytes) / info(o.dtype).bytes};
    if (to_window) copies.add({slot, lies, one, one, count}, o.dtype);
    else copies.add({lies, slot, one, one, count}, o.dtype);
  }
  copies.flush();
}

}  // namespace

std::string described(const Launch& launch) { return launch.detail.empty() ? launch.kind : fmt::format("{} {}", launch.kind, launch.detail); }

void queue_packs(const Launch& launch, local::DeviceBackend& backend, const local::DeviceStream& stream) {
  queue_copies(launch, &Lowered::pack, backend, stream);
}
void queue_unpacks(const Launch& launch, local::DeviceBackend& backend, const local::DeviceStream& stream) {
  queue_copies(launch, &Lowered::unpack, backend, stream);
}
void queue_combinations(const Launch& launch, local::DeviceBackend& backend, const local::DeviceStream& stream) {
  std::vector<const void*> sources;
  for (const Prepared& o : launch.operations)
    for (const CombineStep& s : o.lowered->combine) {
      sources.clear();
      for (const Spot& spot : s.sources) sources.push_back(o.at(spot));
      void* const to[] = {o.at(s.to)};
      backend.reduce_box(stream, to, s.to_strides, sources, s.source_strides, s.sizes, o.dtype, o.reduction.op, o.lowered->divisor);
    }
}

Group::Group(NcclJob& job, std::vector<int> ranks, int member, std::string role)
    : job_(job),
      ranks_(std::move(ranks)),
      member_(member),
      role_(std::move(role)),
      name_(fmt::format("{{{}}}", fmt::join(ranks_, ", "))),
      key_(fmt::format("group/{}/{}", role_, fmt::join(ranks_, "."))),
      since_(Clock::now()),
      backend_(local::require_cuda(job.options().device, "nccl")),
      stream_(backend_.make_stream(job.options().device)) {
  const JobOptions& o = job.options();
  if (o.adopted == nullptr || static_cast<int>(ranks_.size()) != o.size || !std::is_sorted(ranks_.begin(), ranks_.end()) || role_ != "default")
    return;
  comm_ = o.adopted;
  borrowed_ = true;
  stage_ = Stage::ready;
}

Group::~Group() {
  if (comm_ == nullptr || borrowed_) return;
  // What is queued ends first; what does not end in time is aborted.
  const auto begin = Clock::now();
  const auto go_on = [&] { return !job_.over().load() && !job_.exceeded(begin); };
  const auto nap = [] { std::this_thread::sleep_for(std::chrono::microseconds(100)); };
  const auto ended = [&](Result begun) {
    while (begun == Result::in_progress && go_on() && (begun = state(comm_)) == Result::in_progress) nap();
    return begun == Result::success;
  };
  bool good = stage_ == Stage::ready;
  if (good && window_.opened()) {
    while (!flying_.empty() && !flying_.back()->finished->done() && go_on()) nap();
    good = (flying_.empty() || flying_.back()->finished->done()) && ended(window_.close(comm_));
  }
  good = good && ended(finalize(comm_));
  static_cast<void>(good ? destroy(comm_) : nccl::abort(comm_));
}

void Group::queue(std::shared_ptr<Launch> launch) {
  if (waiting_.empty()) since_ = Clock::now();
  launch->in_order = in_order();
  waiting_.push_back(std::move(launch));
}

void Group::advance() {
  looked_at_ = Clock::now();
  // One that nobody launches on is not made: its members may have ended when the last of them comes.
  if (stage_ == Stage::wants_id && is_busy()) begin();
  if (stage_ == Stage::initialising) check_joining();
  const auto elsewhere = [](const Launch& l) { return is_recorded(l) && l.recorder != std::this_thread::get_id(); };
  if (!waiting_.empty() && elsewhere(*waiting_.front())) return;
  if (stage_ == Stage::queueing && !go_on_queueing()) return;
  while (!waiting_.empty()) {
    Launch& first = *waiting_.front();
    if (elsewhere(first)) return;
    if (job_.options().check && !agree(first)) break;
    if (stage_ != Stage::ready || !job_.is_next(first)) break;
    if (!step(first)) return;
    job_.has_queued(first);
    flying_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  if (stage_ == Stage::ready) look_at_flying();
}

// What a member can do that all must do alike.
std::string Group::abilities() const {
  const JobOptions& o = job_.options();
  const bool can = has_windows() && o.window_bytes > 0 && ranks_.size() <= kMostInWindow;
  return can ? fmt::format("window {} {} {}", o.window_bytes, static_cast<int>(o.cta_policy), host_name()) : "1";
}

// On one machine, where all members have memory that the others can map. Each has said what it can before it joined.
bool Group::all_can_open_windows() const {
  const std::string mine = abilities();
  if (!mine.starts_with("window")) return false;
  for (std::size_t m = 0; m < ranks_.size(); ++m)
    if (job_.options().store->get(fmt::format("{}/{}", key_, m)) != mine) return false;
  return true;
}

// The first member makes the id; the others find it in the store.
void Group::begin() {
  const JobOptions& o = job_.options();
  UniqueId id{};
  if (member_ == 0) {
    check(make_unique_id(id), "ncclGetUniqueId");
    o.store->set(key_, {id.data(), id.size()});
  } else {
    // Asked for less and less often.
    const auto now = Clock::now();
    if (now < ask_at_) return;
    ask_at_ = now + std::min<Clock::duration>((now - made_) / 8, std::chrono::milliseconds(200));
    const auto text = o.store->get(key_);
    if (!text) {
      if (is_late()) fail_joining();
      return;
    }
    std::copy_n(text->begin(), std::min(text->size(), id.size()), id.begin());
  }
  o.store->set(fmt::format("{}/{}", key_, member_), abilities());
  local::cuda::use_device(o.device.index);
  const Result begun = init(comm_, static_cast<int>(ranks_.size()), id, member_, key_.c_str(), o.cta_policy);
  if (begun != Result::in_progress) check(begun, "ncclCommInitRankConfig");
  stage_ = Stage::initialising;
}

void Group::check_joining() {
  const Result now = state(comm_);
  if (now == Result::success) {
    windowed_ = all_can_open_windows();
    stage_ = Stage::ready;
  } else if (now != Result::in_progress) {
    check(now, "ncclCommInitRankConfig");
  } else if (is_late()) {
    fail_joining();
  }
}

bool Group::is_late() const noexcept { return is_busy() && job_.exceeded(since_); }

void Group::fail_joining() {
  std::vector<int> missing;
  for (std::size_t m = 0; m < ranks_.size(); ++m)
    if (static_cast<int>(m) != member_ && !job_.options().store->get(fmt::format("{}/{}", key_, m))) missing.push_back(ranks_[m]);
  const std::string who = missing.empty() ? "all members have come and NCCL is not ready"
                                          : fmt::format("no sign of rank{} {}", missing.size() > 1 ? "s" : "", fmt::join(missing, ", "));
  base::fail<CommError>(
      "{}: {} within {} s (rank {} makes the communicator of group {}); every rank must make the same calls; raise the limit with "
      "DTENSOR_TIME_LIMIT, 0 for none{}",
      waiting_.empty() ? "nccl" : waiting_.front()->kind, who, job_.options().time_limit_s, ranks_[static_cast<std::size_t>(member_)], name_,
      job_.everybody());
}

void Group::check(Result result, const std::string& what) {
  if (result == Result::success || result == Result::in_progress) return;
  if (result == Result::remote_error) job_.expect_word();
  base::fail<CommError>("{}: {} (rank {}, group {}); the world is over", what, text_of(result, comm_), ranks_[static_cast<std::size_t>(member_)],
                        name_);
}

// NCCL queues the exchanges of the first launch that waits.
bool Group::go_on_queueing() {
  const Launch& launch = *waiting_.front();
  const Result now = state(comm_);
  if (now == Result::in_progress) {
    if (job_.exceeded(queued_at_)) fail_late(launch);
    return false;
  }
  check(now, fmt::format("{} {}", launch.kind, launch.sequence));
  stage_ = Stage::ready;
  return true;
}

// Before NCCL has queued all, the stream is not to be touched. The first exchange with a peer may last until the peer has come to it: that is not for
// the host to wait for, who may have to call what the peer waits for.
bool Group::settled(const Launch& launch) {
  queued_at_ = Clock::now();
  Result now = state(comm_);
  while (now == Result::in_progress && Clock::now() - queued_at_ < std::chrono::microseconds(50)) now = state(comm_);
  if (now == Result::in_progress) stage_ = Stage::queueing;
  else check(now, fmt::format("{} {}", launch.kind, launch.sequence));
  return now == Result::success;
}

// Queues as much of a launch as NCCL allows; false: again when NCCL has queued what it has.
bool Group::step(Launch& launch) {
  local::cuda::use_device(job_.options().device.index);
  // What this stream waits for may need what another thread does under the job's mutex.
  const local::cuda::UnwaitedLaunches unwaited;
  if (launch.phase == 0) {
    if (windowed_ && !open_window(launch)) return false;
    use_window(launch);
    if (launch.ready) backend_.order_after(*stream_, *launch.ready);
    // Devices come to what runs in the order in which it is queued; branches of a graph have none but what is recorded.
    if (is_recorded(launch) && launch.in_order && job_.recorded()) backend_.order_after(*stream_, *job_.recorded());
    queue_packs(launch, backend_, *stream_);
    queue_staging(launch, &Lowered::first, true, backend_, *stream_);
    launch.started = backend_.record(*stream_);
    launch.phase = 1;
    if (call_all(launch, &Lowered::first) && !settled(launch)) return false;
  }
  if (launch.phase == 1) {
    queue_staging(launch, &Lowered::first, false, backend_, *stream_);
    queue_combinations(launch, backend_, *stream_);
    queue_staging(launch, &Lowered::second, true, backend_, *stream_);
    launch.phase = 2;
    if (call_all(launch, &Lowered::second) && !settled(launch)) return false;
  }
  queue_staging(launch, &Lowered::second, false, backend_, *stream_);
  queue_unpacks(launch, backend_, *stream_);
  launch.finished = backend_.record(*stream_);
  if (is_recorded(launch) && launch.in_order) job_.recorded() = launch.finished;
  for (const auto& memory : launch.memory) memory->used_until(launch.finished);
  job_.release(std::move(launch.memory));
  launch.issued.store(true, std::memory_order_release);
  return true;
}

// At the first launch that goes through it, which is the same on all members.
bool Group::open_window(const Launch& launch) {
  const JobOptions& o = job_.options();
  const auto bytes = static_cast<std::size_t>(o.window_bytes);
  if (!window_.is_open()) {
    if (is_recorded(launch)) return true;  // none can be made while a graph is recorded, on any member
    if (!Window::carries(launch, static_cast<int>(ranks_.size()), bytes, o.cta_policy)) return true;
    const Result begun = window_.open(bytes, comm_);
    if (begun != Result::success && begun != Result::in_progress)
      base::fail<CommError>("ncclCommWindowRegister: {} (rank {}, group {}, {} bytes); do without it by DTENSOR_NCCL_WINDOW=0", text_of(begun, comm_),
                            ranks_[static_cast<std::size_t>(member_)], name_, bytes);
    if (begun == Result::in_progress && !settled(launch)) return false;
  }
  // NCCL takes no window where devices cannot map each other's memory: then none of the members has one.
  windowed_ = window_.opened();
  if (!windowed_) job_.release(std::move(window_));
  return true;
}

void Group::use_window(Launch& launch) {
  if (!windowed_ || !window_.opened()) return;
  launch.slots = window_.slots(launch, static_cast<int>(ranks_.size()), job_.options().cta_policy);
  // Scratch memory that holds one operand and nothing else is the slot itself.
  for (const Slots& s : launch.slots) {
    Prepared& o = launch.operations[static_cast<std::size_t>(s.operation - launch.operations.data())];
    const auto bytes = static_cast<std::size_t>(info(o.dtype).bytes);
    const Exchange& e = *s.exchange;
    if (e.from.place == Place::packed && e.from.offset == 0 && static_cast<std::size_t>(o.lowered->packed) * bytes == s.in_bytes) o.places[2] = s.in;
    if (e.to.place == Place::received && e.to.offset == 0 && static_cast<std::size_t>(o.lowered->received) * bytes == s.out_bytes)
      o.places[3] = s.out;
  }
}

// Whether all members have come to this launch with the same call; throws when one has come with another. Each member tells of a launch when it has found
// the one before to be everybody's, so of two in turn nobody overwrites what another has still to read.
bool Group::agree(Launch& launch) {
  Store& store = *job_.options().store;
  const std::string key = fmt::format("check/{}/{}", key_, launch.sequence % 2);
  const std::string mine = fmt::format("{} {:016x} {}", launch.sequence, launch.fingerprint, described(launch));
  const auto now = Clock::now();
  if (!launch.told) {
    store.set(fmt::format("{}/{}", key, member_), mine);
    launch.told = true;
    launch.told_at = compare_at_ = now;
  }
  if (launch.agreed == static_cast<int>(ranks_.size())) return true;
  if (now < compare_at_) return false;
  compare_at_ = now + std::min<Clock::duration>((now - launch.told_at) / 8, std::chrono::milliseconds(200));
  for (int& m = launch.agreed; m < static_cast<int>(ranks_.size()); ++m) {
    if (m == member_) continue;
    const auto theirs = store.get(fmt::format("{}/{}", key, m));
    if (!theirs || !theirs->starts_with(fmt::format("{} ", launch.sequence))) {
      if (job_.exceeded(launch.told_at)) fail_late(launch);
      return false;
    }
    const auto kind_of = [](const std::string& text) {
      const std::size_t begin = text.find(' ', text.find(' ') + 1) + 1;
      return text.substr(begin, text.find(' ', begin) - begin);
    };
    const auto print_of = [](const std::string& text) { return text.substr(text.find(' ') + 1, 16); };
    if (kind_of(*theirs) != kind_of(mine) || print_of(*theirs) != print_of(mine)) fail_different(launch, m, *theirs);
  }
  return true;
}

void Group::fail_different(const Launch& launch, int member, const std::string& theirs) {
  const std::size_t print = theirs.find(' ') + 1, text = theirs.find(' ', print) + 1;
  std::string here = described(launch), there = theirs.substr(text);
  if (here == there) {
    here += fmt::format(", fingerprint {:016x}", launch.fingerprint);
    there += ", fingerprint " + theirs.substr(print, 16);
  }
  const bool first = member_ < member;
  base::fail<CommError>(
      "{}: ranks disagree (rank {}: {}, rank {}: {}; collective {} of group {}); every rank must make the same calls in the same order", launch.kind,
      ranks_[static_cast<std::size_t>(std::min(member, member_))], first ? here : there, ranks_[static_cast<std::size_t>(std::max(member, member_))],
      first ? there : here, launch.sequence, name_);
}

bool Group::call_all(const Launch& launch, std::vector<Exchange> Lowered::*which) {
  const bool any = std::any_of(launch.operations.begin(), launch.operations.end(), [&](const Prepared& o) { return !((*o.lowered).*which).empty(); });
  if (!any) return false;
  for (const Prepared& o : launch.operations)
    for (const Exchange& e : (*o.lowered).*which)
      if (e.verb == Verb::reduce_scatter || e.verb == Verb::all_reduce) static_cast<void>(op_of(o.lowered->in_nccl, type_of(o.dtype)));
  const std::string what = fmt::format("{} {}", launch.kind, launch.sequence);
  check(group_start(), what);
  // NCCL keeps a group per thread: one that stays open would take in all that the thread calls later.
  std::exception_ptr bad;
  try {
    for (const Prepared& o : launch.operations)
      for (const Exchange& e : (*o.lowered).*which) call(launch, o, e);
  } catch (...) { bad = std::current_exception(); }
  const Result ended = group_end();
  if (bad) std::rethrow_exception(bad);
  check(ended, what);
  return true;
}

void Group::call(const Launch& launch, const Prepared& o, const Exchange& e) {
  const auto slots = std::find_if(launch.slots.begin(), launch.slots.end(), [&](const Slots& x) { return x.operation == &o && x.exchange == &e; });
  std::byte* const in = slots != launch.slots.end() ? slots->in : o.at(e.from);
  std::byte* const out = slots != launch.slots.end() ? slots->out : o.at(e.to);
  const Type type = type_of(o.dtype);
  const auto count = static_cast<std::size_t>(e.count);
  void* const s = stream_->native();
  const auto done = [&] {
    switch (e.verb) {
      case Verb::all_gather:
        return all_gather(in, out, count, type, comm_, s);
      case Verb::reduce_scatter:
        return reduce_scatter(in, out, count, type, op_of(o.lowered->in_nccl, type), comm_, s);
      case Verb::all_reduce:
        return all_reduce(in, out, count, type, op_of(o.lowered->in_nccl, type), comm_, s);
      case Verb::all_to_all:
        return all_to_all(in, out, count, type, comm_, s);
      case Verb::broadcast:
        return broadcast(in, out, count, type, e.peer, comm_, s);
      case Verb::send:
        return send(in, count, type, e.peer, comm_, s);
      case Verb::receive:
        return receive(out, count, type, e.peer, comm_, s);
    }
    return Result::internal_error;
  };
  check(done(), std::string(kVerbs[static_cast<std::size_t>(e.verb)]));
}

Op Group::op_of(const Reduction& reduction, Type type) {
  switch (reduction.op) {
    case ReduceOp::product:
      return kProduct;
    case ReduceOp::max:
    case ReduceOp::bor:
      return kMax;
    case ReduceOp::min:
    case ReduceOp::band:
      return kMin;
    default:
      break;
  }
  if (reduction.divisor == 1) return kSum;
  if (reduction.divisor == static_cast<std::int64_t>(ranks_.size())) return kAvg;
  const auto [at, added] = premul_.try_emplace({type, reduction.divisor}, kSum);
  if (added) check(make_premul_sum(at->second, 1.0 / static_cast<double>(reduction.divisor), type, comm_), "ncclRedOpCreatePreMulSum");
  return at->second;
}

void Group::look_at_flying() {
  if (flying_.empty()) return;
  while (!flying_.empty() && flying_.front()->finished->done()) flying_.pop_front();
  const Result now = state(comm_);
  if (now != Result::in_progress && now != Result::success)
    check(now, flying_.empty() ? "nccl" : fmt::format("{} {}", flying_.front()->kind, flying_.front()->sequence));
  if (flying_.empty()) return;
  Launch& first = *flying_.front();
  if (!first.seen && first.started->done()) {
    first.seen = true;
    first.seen_at = Clock::now();
  }
  if (first.seen && job_.exceeded(first.seen_at)) fail_late(first);
}

void Group::fail_late(const Launch& launch) {
  base::fail<CommError>(
      "{}: not all ranks have come within {} s (rank {} waits in collective {} of group {}{}{}); is one caught in a condition that others "
      "do not share? raise the limit with DTENSOR_TIME_LIMIT, 0 for none{}",
      launch.kind, job_.options().time_limit_s, ranks_[static_cast<std::size_t>(member_)], launch.sequence, name_, launch.detail.empty() ? "" : ": ",
      launch.detail, job_.everybody());
}

// Between two groups of calls a launch has not finished, and is the first that waits.
bool Group::hangs() const noexcept {
  const bool half = !waiting_.empty() && waiting_.front()->phase > 0;
  return borrowed_ && (half || (!flying_.empty() && !flying_.back()->finished->done()));
}

GivenUp Group::give_up() noexcept {
  stage_ = Stage::aborted;
  if (borrowed_) return {};
  GivenUp given{.comm = std::exchange(comm_, nullptr), .window = std::move(window_), .memory = {}};
  if (!waiting_.empty() && waiting_.front()->phase > 0) given.memory = std::move(waiting_.front()->memory);
  return given;
}

}  // namespace dtensor::comm::nccl
