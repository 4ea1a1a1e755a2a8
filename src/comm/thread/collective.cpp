// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/collective.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error_text.h"
#include "comm/thread/hub.h"

namespace dtensor::comm {

namespace {

constexpr std::size_t kMostPartsPerMember = 16;
constexpr std::int64_t kSmallBytes = 4096;     // one part does all
constexpr std::int64_t kChunkBytes = 1 << 20;  // of an all_reduce; several per member, so that an early waiter can do more
constexpr std::size_t kPooled = 16;

std::string described(std::string_view kind, const Post& post) {
  if (!post.detail.empty()) return fmt::format("{} {}", kind, post.detail);
  if (!post.has_dtype) return std::string(kind);
  return fmt::format("{} {}[{}]", kind, to_string(post.dtype), post.form == Form::all_reduce ? post.in_numel : post.out_numel);
}

// What stands at `at` of a member's operations; a barrier has none.
std::string described(const Arrival& a, std::size_t at) {
  if (a.posts.empty()) return a.kind;
  const std::string text = described(a.kind, a.posts[at]);
  return a.posts.size() == 1 ? text : fmt::format("{}, number {} of {}", text, at + 1, a.posts.size());
}

std::string in_full(const Arrival& a, std::size_t at) {
  std::string text = described(a, at);
  if (a.posts.empty()) return text;
  const Post& post = a.posts[at];
  if (post.has_dtype)
    text += fmt::format(", {} of {} to {} elements on {}", to_string(post.dtype), post.in_numel, post.out_numel, to_string(post.device));
  if (post.form != Form::exchange) text += fmt::format(", {} / {}", to_string(post.reduction.op), post.reduction.divisor);
  return text + fmt::format(", fingerprint {:016x}", post.fingerprint);
}

bool agree(const Post& a, const Post& b) {
  if (a.form != b.form || a.fingerprint != b.fingerprint) return false;
  if (a.has_dtype && b.has_dtype && (a.dtype != b.dtype || a.device.kind != b.device.kind)) return false;
  if (a.form == Form::all_reduce && a.in_numel != b.in_numel) return false;
  return a.form == Form::exchange || (a.reduction.op == b.reduction.op && a.reduction.divisor == b.reduction.divisor);
}

struct Difference {
  std::string first, second;
};
std::optional<Difference> difference(const Arrival& a, const Arrival& b) {
  if (a.kind == b.kind && a.posts.size() != b.posts.size()) {
    const auto count = [](const Arrival& x) { return fmt::format("{} of {} tensor{}", x.kind, x.posts.size(), x.posts.size() == 1 ? "" : "s"); };
    return Difference{count(a), count(b)};
  }
  std::size_t at = 0;
  if (a.kind == b.kind) {
    while (at < a.posts.size() && agree(a.posts[at], b.posts[at])) ++at;
    if (at == a.posts.size()) return {};
  }
  Difference d{described(a, at), described(b, at)};
  if (d.first == d.second) d = {in_full(a, at), in_full(b, at)};
  return d;
}

}  // namespace

Collective::Collective(int members)
    : arrivals_(static_cast<std::size_t>(members)), states_(static_cast<std::size_t>(members) * kMostPartsPerMember) {}

bool Collective::one_device() const noexcept {
  const Arrival* first = nullptr;
  for (const Arrival& a : arrivals_) {
    if (a.device().kind != DeviceKind::cuda) continue;
    if (first == nullptr) first = &a;
    if (!(a.device() == first->device())) return false;
  }
  return true;
}

void Collective::release() noexcept {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const std::shared_ptr<Rendezvous> home = std::move(home_);
  home->recycle(this);
}

// How many parts there are, known once all have posted.
void Collective::cut() {
  const std::size_t n = members();
  std::int64_t most = 0, reduced = 0;
  all_reduces_ = on_device_ = false;
  for (std::size_t m = 0; m < n; ++m) {
    std::int64_t bytes = 0;
    for (const Post& p : arrivals_[m].posts) {
      const std::int64_t own = p.has_dtype ? p.out_numel * info(p.dtype).bytes : 0;
      bytes += own;
      on_device_ = on_device_ || p.device.kind == DeviceKind::cuda;
      if (m > 0 || p.form != Form::all_reduce) continue;
      all_reduces_ = true;
      reduced += own;
    }
    most = std::max(most, bytes);
  }
  parts_per_member_ = 1;
  if (operations() == 0) {
    parts_ = 0;
  } else if (on_device_) {
    // A device does all in a few launches; several do each what is written to their own memory.
    parts_ = one_device() ? 1 : n;
    queued_.assign(parts_, nullptr);
  } else if (most <= kSmallBytes) {
    parts_ = 1;
  } else {
    const std::int64_t per_member = (reduced + static_cast<std::int64_t>(n) * kChunkBytes - 1) / (static_cast<std::int64_t>(n) * kChunkBytes);
    parts_per_member_ = static_cast<std::size_t>(std::clamp<std::int64_t>(per_member, 1, static_cast<std::int64_t>(kMostPartsPerMember)));
    parts_ = n * parts_per_member_;
  }
  for (std::size_t p = 0; p < parts_; ++p) states_[p].store(untaken, std::memory_order_relaxed);
  performed_.store(0, std::memory_order_relaxed);
  if (parts_ == 0) complete_.store(true, std::memory_order_release);
}

bool Collective::output_complete(int member) const noexcept {
  if (complete()) return true;
  if (!ready() || !fills_own()) return false;
  return states_[static_cast<std::size_t>(member)].load(std::memory_order_acquire) == done;
}

Rendezvous::Rendezvous(std::weak_ptr<Hub> hub, std::vector<int> ranks, std::string role)
    : hub_(std::move(hub)), ranks_(std::move(ranks)), role_(std::move(role)), name_(fmt::format("{{{}}}", fmt::join(ranks_, ", "))) {}

Rendezvous::~Rendezvous() {
  for (Collective* c : pool_) delete c;
}

CollectiveRef Rendezvous::at(std::uint64_t sequence) {
  while (first_ + window_.size() <= sequence) {
    Collective* c = nullptr;
    if (pool_.empty()) {
      c = new Collective(static_cast<int>(ranks_.size()));
    } else {
      c = pool_.back();
      pool_.pop_back();
    }
    c->home_ = shared_from_this();
    c->sequence_ = first_ + window_.size();
    window_.emplace_back(c);
  }
  return window_[sequence - first_];
}

CollectiveRef Rendezvous::arrive(Hub& hub, int member, std::uint64_t sequence, Arrival& mine) {
  const auto self = static_cast<std::size_t>(member);
  CollectiveRef c;
  bool all = false;
  std::string conflict;
  {
    const std::lock_guard lock(mutex_);
    c = at(sequence);
    for (std::size_t other = 0; other < c->arrivals_.size() && conflict.empty(); ++other) {
      const Arrival& theirs = c->arrivals_[other];
      if (other == self || !theirs.here) continue;
      const auto low = std::min(self, other), high = std::max(self, other);
      if (const auto d = difference(low == self ? mine : theirs, low == self ? theirs : mine))
        conflict = fmt::format(
            "{}: ranks disagree (rank {}: {}, rank {}: {}; collective {} of group {}); every rank must make the same calls in the same order",
            mine.kind, ranks_[low], d->first, ranks_[high], d->second, sequence, name_);
    }
    mine.here = true;
    c->arrivals_[self].swap(mine);
    if (conflict.empty() && ++c->arrived_ == static_cast<int>(ranks_.size())) {
      all = true;
      c->cut();
      window_.pop_front();
      ++first_;
      c->ready_.store(true, std::memory_order_release);
    }
  }
  if (!conflict.empty()) hub.fail_comm(ranks_[self], conflict);
  if (all)
    for (std::size_t other = 0; other < ranks_.size(); ++other)
      if (other != self) hub.record(ranks_[other]).bell.ring();
  return c;
}

std::vector<int> Rendezvous::missing(Collective& collective) {
  std::vector<int> members;
  const std::lock_guard lock(mutex_);
  for (std::size_t m = 0; m < collective.arrivals_.size(); ++m)
    if (!collective.arrivals_[m].here) members.push_back(static_cast<int>(m));
  return members;
}

local::DeviceStreamRef Rendezvous::stream(Device device) {
  const std::size_t index = static_cast<std::uint8_t>(device.index);
  const std::lock_guard lock(mutex_);
  if (streams_.size() <= index) streams_.resize(index + 1);
  if (!streams_[index]) streams_[index] = local::require_cuda(device, "group").make_stream(device);
  return streams_[index];
}

void Rendezvous::abandon() noexcept {
  std::deque<CollectiveRef> window;
  {
    const std::lock_guard lock(mutex_);
    window.swap(window_);
    first_ += window.size();
  }
}

void Rendezvous::recycle(Collective* collective) noexcept {
  collective->let_go();
  for (Arrival& a : collective->arrivals_) {
    a.here = false;
    a.ready.reset();
    for (Post& post : a.posts) post.transfer.reset();
  }
  collective->queued_.clear();
  collective->arrived_ = 0;
  collective->ready_.store(false, std::memory_order_relaxed);
  collective->complete_.store(false, std::memory_order_relaxed);
  collective->broken_.store(false, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    if (pool_.size() < kPooled) {
      pool_.push_back(collective);
      return;
    }
  }
  delete collective;
}

}  // namespace dtensor::comm
