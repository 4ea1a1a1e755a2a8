// SPDX-License-Identifier: Apache-2.0
// The work of a collective: what one part copies or reduces.
#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "base/error_text.h"
#include "comm/thread/collective.h"
#include "comm/thread/device_parts.h"
#include "comm/thread/hub.h"
#include "local/copy.h"
#include "local/reduce_boxes.h"
#include "local/stream.h"

namespace dtensor::comm {

namespace {

constexpr std::int64_t kTileBytes = 16 << 10;  // of an all_reduce: stays in the first-level cache
constexpr std::int64_t kPlainMembers = 8;      // so many inputs and outputs that stores do better in the cache

bool same_box(const redistribute::Piece& a, const redistribute::Piece& b) {
  return a.offset == b.offset && a.sizes == b.sizes && a.strides == b.strides;
}

}  // namespace

bool Collective::run_own(int member) {
  const auto m = static_cast<std::size_t>(member);
  if (parts_ <= 1) return parts_ == 1 && run_part(0, member);
  bool did = false;
  for (std::size_t p = m * parts_per_member_; p < (m + 1) * parts_per_member_; ++p) did = run_part(p, member) || did;
  return did;
}

bool Collective::run_needed(int member) {
  if (fills_own()) return run_own(member);
  return run_any(member);
}

bool Collective::run_any(int member) {
  if (complete()) return false;
  if (run_own(member)) return true;
  // From the next member on, so that several helpers begin at different places.
  const std::size_t begin = static_cast<std::size_t>(member + 1) * parts_per_member_;
  for (std::size_t k = 0; k < parts_; ++k)
    if (run_part((begin + k) % parts_, member)) return true;
  return false;
}

bool Collective::run_part(std::size_t part, int doer) {
  std::uint8_t expected = untaken;
  if (states_[part].load(std::memory_order_relaxed) != untaken || !states_[part].compare_exchange_strong(expected, taken, std::memory_order_acquire))
    return false;
  const CollectiveRef keep(this);
  try {
    if (on_device_) perform_on_device(part);
    else perform(part, nullptr);
  } catch (const std::exception& e) {
    // Whoever waits for this collective meets the error in the hub, which knows that of a disagreement already.
    const std::shared_ptr<Hub> hub = home_->hub();
    if (hub && !hub->over().load()) hub->fail(home_->ranks()[static_cast<std::size_t>(doer)], std::current_exception(), e.what(), false);
    broken_.store(true, std::memory_order_release);
  }
  publish(part, doer);
  return true;
}

void Collective::publish(std::size_t part, int doer) {
  const bool own_output = fills_own();
  if (own_output)
    for (Post& post : arrivals_[part].posts) post.out_hold = {};
  states_[part].store(done, std::memory_order_release);
  const bool last = performed_.fetch_add(1, std::memory_order_acq_rel) + 1 == parts_;
  if (last) {
    let_go();
    complete_.store(true, std::memory_order_release);
  }
  if (members() == 1) return;
  const std::shared_ptr<Hub> hub = home_->hub();
  if (!hub) return;
  const std::vector<int>& ranks = home_->ranks();
  for (std::size_t m = 0; m < ranks.size(); ++m)
    if (static_cast<int>(m) != doer && (last || (own_output && m == part))) hub->record(ranks[m]).bell.ring();
}

void Collective::let_go() noexcept {
  for (Arrival& a : arrivals_)
    for (Post& post : a.posts) {
      post.in_hold = {};
      post.out_hold = {};
    }
}

void Collective::perform(std::size_t part, OnDevice* device) {
  const bool all = parts_ == 1;
  const std::size_t first = all ? 0 : part / parts_per_member_, last = all ? members() : first + 1;
  for (std::size_t o = 0; o < operations(); ++o) {
    if (post(o, 0).form == Form::all_reduce) {
      reduce_part(o, part, device);
    } else if (part % parts_per_member_ == 0) {
      for (std::size_t m = first; m < last; ++m) do_member(o, m, device);
    }
  }
}

void Collective::do_member(std::size_t operation, std::size_t member, OnDevice* device) {
  if (post(operation, member).form == Form::exchange) fill_member(operation, member, device);
  else reduce_member(operation, member, device);
}

// Chunks begin on cache lines of 64 bytes, whatever the dtype.
void Collective::reduce_part(std::size_t operation, std::size_t part, OnDevice* device) {
  const auto parts = static_cast<std::int64_t>(parts_);
  const std::int64_t n = post(operation, 0).out_numel, chunk = parts == 1 ? n : ((n + parts - 1) / parts + 63) / 64 * 64;
  const std::int64_t begin = std::min(n, static_cast<std::int64_t>(part) * chunk);
  const std::int64_t end = std::min(n, begin + chunk);
  if (device != nullptr) device->reduce_range(operation, begin, end);
  else reduce_range(operation, begin, end);
}

const redistribute::Piece* Collective::next_send(std::size_t operation, std::size_t from, std::size_t to, std::size_t& cursor) const {
  const Post& theirs = post(operation, from);
  if (!theirs.transfer) return nullptr;
  const auto& sends = theirs.transfer->sends;
  while (cursor < sends.size() && sends[cursor].peer != static_cast<int>(to)) ++cursor;
  return cursor < sends.size() ? &sends[cursor++] : nullptr;
}

void Collective::disagree(std::size_t from, const Shape* sent, std::size_t to, const Shape* received) {
  const std::vector<int>& ranks = home_->ranks();
  const auto text = [](const Shape* shape) { return shape != nullptr ? to_string(*shape) : std::string("nothing more"); };
  const std::string what = fmt::format(
      "{}: ranks disagree (rank {} sends {} to rank {}, rank {} receives {} from rank {}; collective {} of group {}); give both the same sizes",
      kind(static_cast<int>(to)), ranks[from], text(sent), ranks[to], ranks[to], text(received), ranks[from], sequence_, home_->name());
  if (const std::shared_ptr<Hub> hub = home_->hub()) hub->fail_comm(ranks[to], what);
  throw CommError(what);
}

const std::byte* Collective::matching(std::size_t operation, std::size_t to, const redistribute::Piece& receive, std::vector<std::size_t>& cursors,
                                      const Shape*& strides) {
  const auto from = static_cast<std::size_t>(receive.peer);
  const redistribute::Piece* send = next_send(operation, from, to, cursors[from]);
  if (send == nullptr || !(send->sizes == receive.sizes)) disagree(from, send != nullptr ? &send->sizes : nullptr, to, &receive.sizes);
  strides = &send->strides;
  const std::byte* in = post(operation, from).in;
  return in == nullptr ? nullptr : in + send->offset * info(post(operation, to).dtype).bytes;
}

void Collective::expect_no_more(std::size_t operation, std::size_t to, std::vector<std::size_t>& cursors) {
  for (std::size_t from = 0; from < members(); ++from)
    if (const redistribute::Piece* extra = next_send(operation, from, to, cursors[from])) disagree(from, &extra->sizes, to, nullptr);
}

void Collective::fill_member(std::size_t operation, std::size_t member, OnDevice* device) {
  static thread_local std::vector<std::size_t> cursors;
  cursors.assign(members(), 0);
  Post& mine = post(operation, member);
  const auto bytes = static_cast<std::size_t>(info(mine.dtype).bytes);
  if (mine.transfer) {
    for (const redistribute::Piece& piece : mine.transfer->receives) {
      const Shape* strides = nullptr;
      const std::byte* from = matching(operation, member, piece, cursors, strides);
      if (from == nullptr || mine.out == nullptr) continue;
      std::byte* const to = mine.out + piece.offset * static_cast<std::int64_t>(bytes);
      if (device != nullptr) device->copy({to, from, piece.strides, *strides, piece.sizes}, bytes);
      else local::copy_box(to, piece.strides, from, *strides, piece.sizes, bytes);
    }
  }
  expect_no_more(operation, member, cursors);
}

void Collective::reduce_member(std::size_t operation, std::size_t member, OnDevice* device) {
  static thread_local std::vector<std::size_t> cursors;
  static thread_local std::vector<const void*> sources;
  static thread_local std::vector<Shape> source_strides;
  cursors.assign(members(), 0);
  Post& mine = post(operation, member);
  const std::int64_t bytes = info(mine.dtype).bytes;
  if (mine.transfer) {
    const auto& receives = mine.transfer->receives;
    for (std::size_t i = 0, j = 0; i < receives.size(); i = j) {
      sources.clear();
      source_strides.clear();
      for (; j < receives.size() && same_box(receives[i], receives[j]); ++j) {
        const Shape* strides = nullptr;
        sources.push_back(matching(operation, member, receives[j], cursors, strides));
        source_strides.push_back(*strides);
      }
      if (mine.out == nullptr || std::find(sources.begin(), sources.end(), nullptr) != sources.end()) continue;
      void* const to = mine.out + receives[i].offset * bytes;
      if (device != nullptr) device->reduce(to, receives[i], sources, source_strides, mine);
      else
        local::reduce_box(to, receives[i].strides, sources, source_strides, receives[i].sizes, mine.dtype, mine.reduction.op, mine.reduction.divisor);
    }
  }
  expect_no_more(operation, member, cursors);
}

// Each tile is read from all members before it is written to any: in place is safe.
void Collective::reduce_range(std::size_t operation, std::int64_t begin, std::int64_t end) {
  static thread_local std::vector<const void*> sources;
  alignas(64) std::byte tile[kTileBytes];
  const Post& first = post(operation, 0);
  const std::int64_t bytes = info(first.dtype).bytes, step = kTileBytes / bytes;
  const Shape strides[] = {Shape{1}};
  for (std::size_t m = 0; m < members(); ++m)
    if (const Post& p = post(operation, m); p.in == nullptr || p.out == nullptr) return;
  const bool past_caches = first.out_numel * bytes >= local::kStreamBytes && static_cast<std::int64_t>(members()) < kPlainMembers;
  for (std::int64_t at = begin; at < end; at += step) {
    const std::int64_t count = std::min(step, end - at);
    sources.clear();
    for (std::size_t m = 0; m < members(); ++m) sources.push_back(post(operation, m).in + at * bytes);
    const Shape sizes{count};
    local::reduce_box(tile, strides[0], sources, strides, sizes, first.dtype, first.reduction.op, first.reduction.divisor);
    const auto size = static_cast<std::size_t>(count * bytes);
    for (std::size_t m = 0; m < members(); ++m) {
      std::byte* const out = post(operation, m).out + at * bytes;
      if (past_caches) local::stream(out, tile, size);
      else std::memcpy(out, tile, size);
    }
  }
  if (past_caches) local::end_stream();
}

}  // namespace dtensor::comm
