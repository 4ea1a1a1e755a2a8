// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/group.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include "base/error_text.h"
#include "local/cuda/driver.h"

namespace dtensor::comm::nccl {
namespace {

Type type_of(Dtype dtype) {
  static constexpr Type kTypes[] = {Type::f64, Type::f32, Type::bf16, Type::f16, Type::i64, Type::i32, Type::u8, Type::u8};
  return kTypes[static_cast<std::size_t>(dtype)];
}

constexpr std::string_view kVerbs[] = {"ncclAllGather", "ncclReduceScatter", "ncclAllReduce", "ncclAlltoAll",
                                       "ncclBroadcast", "ncclSend",          "ncclRecv"};

void queue_copies(const Launch& launch, std::vector<CopyStep> Lowered::*which, local::DeviceBackend& backend, const local::DeviceStream& stream) {
  std::vector<local::BoxCopy> boxes;
  std::int64_t bytes = 0;
  const auto flush = [&] {
    if (!boxes.empty()) backend.copy_boxes(stream, boxes, static_cast<std::size_t>(bytes));
    boxes.clear();
  };
  for (const Prepared& o : launch.operations)
    for (const CopyStep& s : (*o.lowered).*which) {
      if (info(o.dtype).bytes != bytes) flush();
      bytes = info(o.dtype).bytes;
      boxes.push_back({o.at(s.to), o.at(s.from), s.to_strides, s.from_strides, s.sizes});
    }
  flush();
}

}  // namespace

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
  const Result begun = stage_ == Stage::ready ? finalize(comm_) : Result::internal_error;
  const auto begin = Clock::now();
  const auto in_progress = [&] { return state(comm_) == Result::in_progress && !job_.over().load() && !job_.exceeded(begin); };
  while (begun != Result::internal_error && in_progress()) std::this_thread::sleep_for(std::chrono::microseconds(100));
  const bool ended = (begun == Result::success || begun == Result::in_progress) && state(comm_) == Result::success;
  static_cast<void>(ended ? destroy(comm_) : nccl::abort(comm_));
}

void Group::queue(std::shared_ptr<Launch> launch) {
  if (waiting_.empty()) since_ = Clock::now();
  waiting_.push_back(std::move(launch));
  advance();
}

void Group::advance() {
  looked_at_ = Clock::now();
  // One that nobody launches on is not made: its members may have ended when the last of them comes.
  if (stage_ == Stage::wants_id && is_busy()) begin();
  if (stage_ == Stage::initialising) check_joining();
  const auto elsewhere = [](const Launch& l) { return l.recorder != std::thread::id() && l.recorder != std::this_thread::get_id(); };
  if (!waiting_.empty() && elsewhere(*waiting_.front())) return;
  if (stage_ == Stage::queueing && !go_on_queueing()) return;
  if (stage_ != Stage::ready) return;
  while (!waiting_.empty() && !elsewhere(*waiting_.front())) {
    if (!step(*waiting_.front())) return;
    flying_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  look_at_flying();
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
  o.store->set(fmt::format("{}/{}", key_, member_), "1");
  local::cuda::use_device(o.device.index);
  const Result begun = init(comm_, static_cast<int>(ranks_.size()), id, member_, key_.c_str());
  if (begun != Result::in_progress) check(begun, "ncclCommInitRankConfig");
  stage_ = Stage::initialising;
}

void Group::check_joining() {
  const Result now = state(comm_);
  if (now == Result::success) {
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
  if (launch.phase == 0) {
    if (launch.ready) backend_.order_after(*stream_, *launch.ready);
    queue_packs(launch, backend_, *stream_);
    launch.started = backend_.record(*stream_);
    launch.phase = 1;
    if (call_all(launch, &Lowered::first) && !settled(launch)) return false;
  }
  if (launch.phase == 1) {
    queue_combinations(launch, backend_, *stream_);
    launch.phase = 2;
    if (call_all(launch, &Lowered::second) && !settled(launch)) return false;
  }
  queue_unpacks(launch, backend_, *stream_);
  launch.finished = backend_.record(*stream_);
  for (const auto& memory : launch.memory) memory->used_until(launch.finished);
  launch.memory.clear();
  launch.issued.store(true, std::memory_order_release);
  return true;
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
      for (const Exchange& e : (*o.lowered).*which) call(o, e);
  } catch (...) { bad = std::current_exception(); }
  const Result ended = group_end();
  if (bad) std::rethrow_exception(bad);
  check(ended, what);
  return true;
}

void Group::call(const Prepared& o, const Exchange& e) {
  const Type type = type_of(o.dtype);
  const auto count = static_cast<std::size_t>(e.count);
  void* const s = stream_->native();
  const auto done = [&] {
    switch (e.verb) {
      case Verb::all_gather:
        return all_gather(o.at(e.from), o.at(e.to), count, type, comm_, s);
      case Verb::reduce_scatter:
        return reduce_scatter(o.at(e.from), o.at(e.to), count, type, op_of(o.lowered->in_nccl, type), comm_, s);
      case Verb::all_reduce:
        return all_reduce(o.at(e.from), o.at(e.to), count, type, op_of(o.lowered->in_nccl, type), comm_, s);
      case Verb::all_to_all:
        return all_to_all(o.at(e.from), o.at(e.to), count, type, comm_, s);
      case Verb::broadcast:
        return broadcast(o.at(e.from), o.at(e.to), count, type, e.peer, comm_, s);
      case Verb::send:
        return send(o.at(e.from), count, type, e.peer, comm_, s);
      case Verb::receive:
        return receive(o.at(e.to), count, type, e.peer, comm_, s);
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

Comm Group::give_up() noexcept {
  stage_ = Stage::aborted;
  return borrowed_ ? nullptr : std::exchange(comm_, nullptr);
}

}  // namespace dtensor::comm::nccl
