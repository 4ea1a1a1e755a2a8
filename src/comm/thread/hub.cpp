// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/hub.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/error_text.h"
#include "comm/thread/collective.h"

namespace dtensor::comm {

namespace {

constexpr int kSpins = 2000;
constexpr int kYields = 30;

std::uint64_t next_world_id() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1);
}

Clock::duration seconds(double s) { return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::min(s, 1e9))); }

}  // namespace

Hub::Hub(const HubOptions& options)
    : options_(options), world_id_(next_world_id()), crowded_(options.ranks > usable_cores()), records_(static_cast<std::size_t>(options.ranks)) {}

int Hub::steps() const noexcept { return crowded_ ? kYields : kSpins; }

Hub::~Hub() {
  for (RankRecord& record : records_)
    for (const RankRecord::Posted& p : record.posted) p.collective->release();
  for (const auto& meeting : meetings_) meeting->abandon();
}

void Hub::join(int rank, base::RankContext& context) {
  RankRecord& r = record(rank);
  const std::lock_guard lock(r.mutex);
  if (r.stage.load() != RankStage::absent)
    base::fail<InvalidArgument>("World::join: rank {} of {} has joined already; give each thread a rank of its own", rank, size());
  r.context = &context;
  r.stage.store(RankStage::running, std::memory_order_release);
}

void Hub::leave(int rank, bool failed) noexcept {
  RankRecord& r = record(rank);
  progress(rank);
  for (const RankRecord::Posted& p : std::exchange(r.posted, {})) p.collective->release();
  {
    const std::lock_guard lock(r.mutex);
    if (r.context != nullptr) r.last_call = r.context->last_call.load(std::memory_order_relaxed);
    r.context = nullptr;
  }
  r.stage.store(failed ? RankStage::failed : RankStage::returned, std::memory_order_release);
  ring_all();
}

bool Hub::progress(int rank) {
  auto& posted = record(rank).posted;
  bool did = false;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < posted.size(); ++i) {
    if (!posted[i].collective->ready()) {
      posted[kept++] = posted[i];
      continue;
    }
    did = posted[i].collective->run_own(posted[i].member) || did;
    posted[i].collective->release();
  }
  posted.resize(kept);
  return did;
}

void Hub::ring_all() noexcept {
  for (RankRecord& r : records_) r.bell.ring();
}

void Hub::fail(int rank, std::exception_ptr error, const std::string& text, bool shared) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (over_.load()) return;
    error_ = std::move(error);
    text_ = text;
    shared_text_ = shared;
    failed_rank_ = rank;
    failed_at_ = Clock::now();
    over_.store(true, std::memory_order_release);
  }
  ring_all();
}

void Hub::fail_comm(int rank, const std::string& text) {
  fail(rank, std::make_exception_ptr(CommError(text)), text, true);
  throw_over(std::string_view(text).substr(0, text.find(':')), rank);
}

void Hub::throw_over(std::string_view op, int rank) {
  std::exception_ptr error;
  std::string text;
  int failed = -1;
  {
    const std::lock_guard lock(mutex_);
    if (shared_text_) throw CommError(text_);
    if (rank == failed_rank_) error = error_;
    text = text_;
    failed = failed_rank_;
  }
  if (error) std::rethrow_exception(error);
  base::fail<CommError>("{}: rank {} ended with an error ({}); the world is over", op, failed, text);
}

void Hub::throw_over_of(base::RankContext& context) {
  const char* call = context.last_call.load(std::memory_order_relaxed);
  const std::shared_ptr<Hub> hub = base::rank_state<HubOfRank>(context).hub;
  hub->throw_over(call != nullptr ? call : "call", context.rank);
}

std::exception_ptr Hub::first_error() {
  const std::lock_guard lock(mutex_);
  return error_;
}

std::string Hub::first_text() {
  const std::lock_guard lock(mutex_);
  return text_;
}

Clock::time_point Hub::deadline_from(Clock::time_point start) const noexcept {
  return options_.time_limit_s > 0 ? start + seconds(options_.time_limit_s) : Clock::time_point::max();
}

void Hub::wait_for_end(int rank) noexcept {
  const double grace = options_.grace_s < 0 ? options_.time_limit_s : options_.grace_s;
  Clock::time_point deadline = Clock::time_point::max();
  if (grace > 0) {
    const std::lock_guard lock(mutex_);
    deadline = failed_at_ + seconds(grace);
  }
  Bell& bell = record(rank).bell;
  for (;;) {
    const std::uint32_t heard = bell.listen();
    const bool running = std::any_of(records_.begin(), records_.end(),
                                     [](const RankRecord& r) { return r.stage.load(std::memory_order_acquire) <= RankStage::running; });
    if (!running) return;
    if (Clock::now() >= deadline) break;
    bell.sleep(heard, deadline);
  }
  static std::atomic<bool> leaving{false};
  if (leaving.exchange(true)) return bell.sleep(bell.listen(), Clock::time_point::max());
  std::string text = first_text() + "\n";
  for (int r = 0; r < size(); ++r)
    if (record(r).stage.load() <= RankStage::running)
      text += fmt::format("rank {} goes on without a library call {} s after this error ({}); the process leaves\n", r, grace, describe(r));
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  std::_Exit(1);
}

std::shared_ptr<Rendezvous> Hub::meet(std::span<const int> ranks, std::string_view role) {
  const std::lock_guard lock(mutex_);
  for (const auto& m : meetings_)
    if (m->role() == role && std::equal(ranks.begin(), ranks.end(), m->ranks().begin(), m->ranks().end())) return m;
  return meetings_.emplace_back(std::make_shared<Rendezvous>(weak_from_this(), std::vector<int>(ranks.begin(), ranks.end()), std::string(role)));
}

std::string Hub::describe(int rank) {
  RankRecord& r = record(rank);
  const RankStage stage = r.stage.load(std::memory_order_acquire);
  if (stage == RankStage::absent) return fmt::format("rank {}: has not joined", rank);
  const std::lock_guard lock(r.mutex);
  const char* call = r.context != nullptr ? r.context->last_call.load(std::memory_order_relaxed) : r.last_call;
  std::string text = fmt::format("rank {}: {}last call {}", rank,
                                 stage == RankStage::running    ? ""
                                 : stage == RankStage::returned ? "returned, "
                                                                : "failed, ",
                                 call != nullptr ? call : "none");
  if (r.last_kind.empty()) return text + ", no collective";
  return text + fmt::format(", last collective {} {} of group {}", r.last_kind, r.last_sequence, r.last_group);
}

}  // namespace dtensor::comm
