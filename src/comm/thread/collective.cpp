// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/collective.h"

#include <algorithm>
#include <utility>

#include "base/error_text.h"
#include "comm/thread/hub.h"

namespace dtensor::comm {

namespace {

constexpr std::size_t kMostPartsPerMember = 16;
constexpr std::int64_t kSmallBytes = 4096;     // one part does all
constexpr std::int64_t kChunkBytes = 1 << 20;  // of an all_reduce; several per member, so that an early waiter can do more
constexpr std::size_t kPooled = 16;

std::string described(const Post& post) {
  if (!post.detail.empty()) return post.kind + " " + post.detail;
  if (!post.has_dtype) return post.kind;
  return fmt::format("{} {}[{}]", post.kind, to_string(post.dtype), post.form == Form::all_reduce ? post.in_numel : post.out_numel);
}

std::string in_full(const Post& post) {
  std::string text = described(post);
  if (post.has_dtype) text += fmt::format(", {} of {} to {} elements", to_string(post.dtype), post.in_numel, post.out_numel);
  if (post.form == Form::reduce || post.form == Form::all_reduce)
    text += fmt::format(", {} / {}", to_string(post.reduction.op), post.reduction.divisor);
  return text + fmt::format(", fingerprint {:016x}", post.fingerprint);
}

bool agree(const Post& a, const Post& b) {
  if (a.form != b.form || a.fingerprint != b.fingerprint || a.kind != b.kind) return false;
  if (a.has_dtype && b.has_dtype && a.dtype != b.dtype) return false;
  if (a.form == Form::all_reduce && a.in_numel != b.in_numel) return false;
  const bool reduces = a.form == Form::reduce || a.form == Form::all_reduce;
  return !reduces || (a.reduction.op == b.reduction.op && a.reduction.divisor == b.reduction.divisor);
}

}  // namespace

Collective::Collective(int members) : posts_(static_cast<std::size_t>(members)), states_(static_cast<std::size_t>(members) * kMostPartsPerMember) {}

void Collective::release() noexcept {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const std::shared_ptr<Rendezvous> home = std::move(home_);
  home->recycle(this);
}

// How many parts there are, known once all have posted.
void Collective::cut() {
  const std::size_t n = posts_.size();
  form_ = posts_[0].form;
  std::int64_t most = 0;
  for (const Post& p : posts_)
    if (p.has_dtype) most = std::max(most, p.out_numel * info(p.dtype).bytes);
  parts_per_member_ = 1;
  if (form_ == Form::barrier) {
    parts_ = 0;
  } else if (most <= kSmallBytes) {
    parts_ = 1;
    chunk_ = posts_[0].out_numel;
  } else if (form_ == Form::all_reduce) {
    const std::int64_t per_member = (most + static_cast<std::int64_t>(n) * kChunkBytes - 1) / (static_cast<std::int64_t>(n) * kChunkBytes);
    parts_per_member_ = static_cast<std::size_t>(std::clamp<std::int64_t>(per_member, 1, static_cast<std::int64_t>(kMostPartsPerMember)));
    parts_ = n * parts_per_member_;
    // Chunks begin on cache lines of 64 bytes, whatever the dtype.
    const auto parts = static_cast<std::int64_t>(parts_);
    chunk_ = ((posts_[0].out_numel + parts - 1) / parts + 63) / 64 * 64;
  } else {
    parts_ = n;
  }
  for (std::size_t p = 0; p < parts_; ++p) states_[p].store(untaken, std::memory_order_relaxed);
  performed_.store(0, std::memory_order_relaxed);
  if (parts_ == 0) complete_.store(true, std::memory_order_release);
}

bool Collective::output_complete(int member) const noexcept {
  if (complete()) return true;
  if (!ready() || form_ == Form::all_reduce || parts_ <= 1) return false;
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

CollectiveRef Rendezvous::arrive(Hub& hub, int member, std::uint64_t sequence, Post&& post) {
  const auto self = static_cast<std::size_t>(member);
  CollectiveRef c;
  bool all = false;
  std::string conflict;
  {
    const std::lock_guard lock(mutex_);
    c = at(sequence);
    for (std::size_t other = 0; other < c->posts_.size() && conflict.empty(); ++other) {
      const Post& theirs = c->posts_[other];
      if (other == self || !theirs.here || agree(theirs, post)) continue;
      const auto low = std::min(self, other), high = std::max(self, other);
      const Post &a = low == self ? post : theirs, &b = low == self ? theirs : post;
      const bool alike = described(a) == described(b);
      conflict = fmt::format(
          "{}: ranks disagree (rank {}: {}, rank {}: {}; collective {} of group {}); every rank must make the same calls in the same order",
          post.kind, ranks_[low], alike ? in_full(a) : described(a), ranks_[high], alike ? in_full(b) : described(b), sequence, name_);
      break;
    }
    c->posts_[self] = std::move(post);
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
  for (std::size_t m = 0; m < collective.posts_.size(); ++m)
    if (!collective.posts_[m].here) members.push_back(static_cast<int>(m));
  return members;
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
  for (Post& post : collective->posts_) {
    post.here = false;
    post.in_hold = {};
    post.out_hold = {};
    post.transfer.reset();
  }
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
