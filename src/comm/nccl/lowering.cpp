// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/lowering.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error_text.h"

namespace dtensor::comm::nccl {
namespace {

using redistribute::Piece;
using Pieces = std::vector<const Piece*>;

constexpr std::int64_t kAlign = 16;               // elements: of parts in scratch memory
constexpr std::int64_t kSmallBytes = 32 << 10;    // of an all_reduce in rank order: everybody gets everything
constexpr std::int64_t kPadOf = 5, kPadFrom = 4;  // uneven parts are padded to equal ones while that adds at most a quarter

std::int64_t aligned(std::int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

std::vector<Pieces> by_peer(const std::vector<Piece>& pieces, int size) {
  std::vector<Pieces> lists(static_cast<std::size_t>(size));
  for (const Piece& p : pieces)
    if (p.sizes.numel() != 0) lists[static_cast<std::size_t>(p.peer)].push_back(&p);
  return lists;
}
std::int64_t count_of(const Pieces& pieces) {
  std::int64_t n = 0;
  for (const Piece* p : pieces) n += p->sizes.numel();
  return n;
}

bool is_row_major(const Piece& p) {
  std::int64_t stride = 1;
  for (int d = p.sizes.ndim() - 1; d >= 0; --d) {
    if (p.sizes[d] != 1 && p.strides[d] != stride) return false;
    stride *= p.sizes[d];
  }
  return true;
}
/// Whether the pieces, one after the other, are one run of memory.
bool is_run(const Pieces& pieces) {
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (!is_row_major(*pieces[i])) return false;
    if (i > 0 && pieces[i]->offset != pieces[i - 1]->offset + pieces[i - 1]->sizes.numel()) return false;
  }
  return true;
}
bool same_boxes(const Pieces& a, const Pieces& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Piece* x, const Piece* y) { return x->offset == y->offset && x->sizes == y->sizes && x->strides == y->strides; });
}
bool same_box(const Piece& a, const Piece& b) { return a.offset == b.offset && a.sizes == b.sizes && a.strides == b.strides; }

// Parts of equal sizes that follow each other from part 0 on.
bool are_one_run(const std::vector<Pieces>& parts, std::int64_t count) {
  for (std::size_t p = 0; p < parts.size(); ++p)
    if (!is_run(parts[p]) || count_of(parts[p]) != count || parts[p][0]->offset != parts[0][0]->offset + static_cast<std::int64_t>(p) * count)
      return false;
  return true;
}

class Lowering {
 public:
  explicit Lowering(const Case& c) : c_(c), self_(static_cast<std::size_t>(c.rank)) {
    l_.in_nccl = c.reduction;
    l_.divisor = c.reduction.divisor;
    if (c.transfer == nullptr) return;
    sends_ = by_peer(c.transfer->sends, c.size);
    receives_ = by_peer(c.transfer->receives, c.size);
  }

  Lowered run() {
    switch (c_.form) {
      case Form::exchange:
        exchange();
        break;
      case Form::reduce:
        reduce();
        break;
      case Form::all_reduce:
        all_reduce();
        break;
    }
    return std::move(l_);
  }

 private:
  std::size_t size() const { return static_cast<std::size_t>(c_.size); }

  void exchange() {
    if (c_.size > 1) {
      if (c_.pattern == Pattern::all_gather && all_gather()) return;
      if (c_.pattern == Pattern::broadcast) return broadcast();
      if (c_.pattern == Pattern::all_to_all && c_.all_to_all && all_to_all()) return;
    }
    copy_own();
    for (std::size_t p = 0; p < size(); ++p) {
      if (p == self_) continue;
      send(p);
      receive(p);
    }
  }

  void copy_own() {
    const Pieces &from = sends_[self_], &to = receives_[self_];
    for (std::size_t i = 0; i < std::min(from.size(), to.size()); ++i)
      l_.pack.push_back({{Place::out, to[i]->offset}, {Place::in, from[i]->offset}, to[i]->strides, from[i]->strides, to[i]->sizes});
  }

  void pack(const Pieces& pieces, Spot to) {
    for (const Piece* p : pieces) {
      l_.pack.push_back({to, {Place::in, p->offset}, contiguous_strides(p->sizes), p->strides, p->sizes});
      to.offset += p->sizes.numel();
    }
  }
  void unpack(const Pieces& pieces, Spot from) {
    for (const Piece* p : pieces) {
      l_.unpack.push_back({{Place::out, p->offset}, from, p->strides, contiguous_strides(p->sizes), p->sizes});
      from.offset += p->sizes.numel();
    }
  }
  static Spot take(std::int64_t& scratch, Place place, std::int64_t count) {
    const Spot spot{place, aligned(scratch)};
    scratch = spot.offset + count;
    return spot;
  }

  // What goes to several peers is packed once.
  Spot source(const Pieces& pieces) {
    if (is_run(pieces)) return {Place::in, pieces[0]->offset};
    for (const auto& [packed, spot] : packed_)
      if (same_boxes(*packed, pieces)) return spot;
    const Spot spot = take(l_.packed, Place::packed, count_of(pieces));
    pack(pieces, spot);
    packed_.emplace_back(&pieces, spot);
    return spot;
  }
  void send(std::size_t peer) {
    const std::int64_t count = count_of(sends_[peer]);
    if (count != 0) l_.first.push_back({Verb::send, source(sends_[peer]), {}, count, static_cast<int>(peer)});
  }
  void receive(std::size_t peer) {
    const Pieces& pieces = receives_[peer];
    const std::int64_t count = count_of(pieces);
    if (count == 0) return;
    Spot to{Place::out, pieces[0]->offset};
    if (!is_run(pieces)) unpack(pieces, to = take(l_.received, Place::received, count));
    l_.first.push_back({Verb::receive, {}, to, count, static_cast<int>(peer)});
  }

  // The size of equal parts to which all are padded; 0: too uneven. All members see the same counts.
  static std::int64_t padded(const std::vector<Pieces>& parts) {
    std::int64_t most = 0, total = 0;
    for (const Pieces& p : parts) {
      most = std::max(most, count_of(p));
      total += count_of(p);
    }
    return kPadFrom * most * std::ssize(parts) <= kPadOf * total ? most : 0;
  }

  bool all_gather() {
    const std::int64_t count = padded(receives_);
    if (count == 0) return false;
    const bool direct = are_one_run(receives_, count);
    const std::int64_t own = static_cast<std::int64_t>(self_) * count;
    Spot to{Place::out, direct ? receives_[0][0]->offset : 0};
    if (!direct) to = take(l_.received, Place::received, count * c_.size);
    const Pieces& mine = sends_[self_].empty() ? sends_[self_ == 0 ? 1 : 0] : sends_[self_];
    if (count_of(mine) != count_of(receives_[self_]))
      base::fail<InternalError>("nccl: an all_gather that gives {} elements and keeps {}", count_of(mine), count_of(receives_[self_]));
    Spot from{to.place, to.offset + own};
    if (is_run(mine) && count_of(mine) == count) from = {Place::in, mine[0]->offset};
    else pack(mine, from);
    l_.first.push_back({Verb::all_gather, from, to, count});
    for (std::size_t p = 0; !direct && p < size(); ++p) unpack(receives_[p], {to.place, to.offset + static_cast<std::int64_t>(p) * count});
    return true;
  }

  void broadcast() {
    const Piece* first = c_.transfer->receives.empty() ? nullptr : &c_.transfer->receives[0];
    const int root = first != nullptr ? first->peer : c_.rank;
    const bool gives = root == c_.rank;
    const Pieces& got = receives_[static_cast<std::size_t>(root)];
    const Pieces& given = sends_[self_ == 0 ? 1 : 0];
    const std::int64_t count = gives ? count_of(given) : count_of(got);
    if (count == 0) return;
    Exchange e{Verb::broadcast, {}, {}, count, root};
    if (!got.empty() && is_run(got)) e.to = {Place::out, got[0]->offset};
    else if (!got.empty()) unpack(got, e.to = take(l_.received, Place::received, count));
    e.from = gives ? source(given) : e.to;
    if (got.empty()) e.to = e.from;
    l_.first.push_back(e);
  }

  bool all_to_all() {
    const std::int64_t count = count_of(sends_[self_]);
    if (count == 0) return false;
    Spot from{Place::in, sends_[0][0]->offset}, to{Place::out, receives_[0][0]->offset};
    if (!are_one_run(sends_, count)) {
      from = take(l_.packed, Place::packed, count * c_.size);
      for (std::size_t p = 0; p < size(); ++p) pack(sends_[p], {from.place, from.offset + static_cast<std::int64_t>(p) * count});
    }
    if (!are_one_run(receives_, count)) {
      to = take(l_.received, Place::received, count * c_.size);
      for (std::size_t p = 0; p < size(); ++p) unpack(receives_[p], {to.place, to.offset + static_cast<std::int64_t>(p) * count});
    }
    l_.first.push_back({Verb::all_to_all, from, to, count});
    return true;
  }

  // What NCCL has reduced is divided where it lies, on the way to its place.
  bool divide_in_nccl() {
    if (divides_before(c_.reduction.divisor, c_.dtype)) {
      l_.divisor = 1;
      return true;
    }
    l_.in_nccl.divisor = 1;
    return false;
  }

  bool reduce_scatter() {
    const std::int64_t count = padded(sends_);
    if (count == 0) return false;
    Spot from{Place::in, 0};
    if (are_one_run(sends_, count)) {
      from.offset = sends_[0][0]->offset;
    } else {
      from = take(l_.packed, Place::packed, count * c_.size);
      for (std::size_t p = 0; p < size(); ++p) pack(sends_[p], {from.place, from.offset + static_cast<std::int64_t>(p) * count});
    }
    const Pieces& mine = receives_[self_];
    const bool direct = is_run(mine) && count_of(mine) == count, divided = divide_in_nccl();
    const Spot to = direct ? Spot{Place::out, mine[0]->offset} : take(l_.received, Place::received, count);
    l_.first.push_back({Verb::reduce_scatter, from, to, count});
    if (divided) {
      if (!direct) unpack(mine, to);
      return true;
    }
    Spot part = to;
    for (const Piece* p : mine) {
      l_.combine.push_back({{Place::out, p->offset}, p->strides, p->sizes, {part}, {contiguous_strides(p->sizes)}});
      part.offset += p->sizes.numel();
    }
    return true;
  }

  void reduce() {
    if (c_.size > 1 && c_.pattern == Pattern::reduce_scatter && reduces(c_.reduction.op, c_.dtype, c_.in_rank_order) && reduce_scatter()) return;
    std::vector<Spot> next(size());  // of each peer's contributions
    for (std::size_t p = 0; p < size(); ++p) {
      const std::int64_t count = count_of(receives_[p]);
      if (p == self_) continue;
      send(p);
      if (count == 0) continue;
      next[p] = take(l_.received, Place::received, count);
      l_.first.push_back({Verb::receive, {}, next[p], count, static_cast<int>(p)});
    }
    std::size_t own = 0;
    const Piece* before = nullptr;
    for (const Piece& piece : c_.transfer->receives) {
      const std::int64_t count = piece.sizes.numel();
      if (count == 0) continue;
      if (before == nullptr || !same_box(*before, piece)) l_.combine.push_back({{Place::out, piece.offset}, piece.strides, piece.sizes, {}, {}});
      before = &piece;
      CombineStep& step = l_.combine.back();
      const auto peer = static_cast<std::size_t>(piece.peer);
      if (peer == self_) {
        const Piece& given = *sends_[self_].at(own++);
        step.sources.push_back({Place::in, given.offset});
        step.source_strides.push_back(given.strides);
      } else {
        step.sources.push_back(next[peer]);
        step.source_strides.push_back(contiguous_strides(piece.sizes));
        next[peer].offset += count;
      }
    }
  }

  void combine_range(std::int64_t begin, std::int64_t count, std::vector<Spot> sources) {
    if (count == 0) return;
    l_.combine.push_back({{Place::out, begin}, {1}, {count}, std::move(sources), {}});
    l_.combine.back().source_strides.assign(l_.combine.back().sources.size(), Shape{1});
  }

  void all_reduce() {
    const std::int64_t n = c_.numel;
    if (n == 0) return;
    if (c_.size == 1) {
      if (!c_.in_place || c_.reduction.divisor != 1) combine_range(0, n, {{Place::in, 0}});
    } else if (reduces(c_.reduction.op, c_.dtype, c_.in_rank_order)) {
      l_.first.push_back({Verb::all_reduce, {Place::in, 0}, {Place::out, 0}, n});
      if (!divide_in_nccl()) combine_range(0, n, {{Place::out, 0}});
    } else if (n * info(c_.dtype).bytes <= kSmallBytes) {
      l_.first.push_back({Verb::all_gather, {Place::in, 0}, take(l_.received, Place::received, n * c_.size), n});
      std::vector<Spot> sources;
      for (int p = 0; p < c_.size; ++p) sources.push_back({Place::received, p * n});
      combine_range(0, n, std::move(sources));
    } else {
      all_reduce_in_chunks();
    }
  }

  // Every member combines its chunk of all contributions, then everybody gets all chunks: twice the bytes of the tensor per member, as a ring has.
  void all_reduce_in_chunks() {
    const std::int64_t n = c_.numel, chunk = aligned((n + c_.size - 1) / c_.size);
    const auto begin_of = [&](std::size_t p) { return std::min(n, static_cast<std::int64_t>(p) * chunk); };
    const auto count_in = [&](std::size_t p) { return begin_of(p + 1) - begin_of(p); };
    const std::int64_t begin = begin_of(self_), count = count_in(self_);
    const bool even = n == chunk * c_.size;
    std::vector<Spot> sources;
    for (std::size_t p = 0; p < size(); ++p) {
      const int peer = static_cast<int>(p);
      if (p == self_) {
        sources.push_back({Place::in, begin});
        continue;
      }
      if (count_in(p) != 0) l_.first.push_back({Verb::send, {Place::in, begin_of(p)}, {}, count_in(p), peer});
      if (count != 0) {
        sources.push_back(take(l_.received, Place::received, count));
        l_.first.push_back({Verb::receive, {}, sources.back(), count, peer});
      }
      if (even) continue;
      if (count != 0) l_.second.push_back({Verb::send, {Place::out, begin}, {}, count, peer});
      if (count_in(p) != 0) l_.second.push_back({Verb::receive, {}, {Place::out, begin_of(p)}, count_in(p), peer});
    }
    combine_range(begin, count, std::move(sources));
    if (even) l_.second.push_back({Verb::all_gather, {Place::out, begin}, {Place::out, 0}, chunk});
  }

  const Case& c_;
  std::size_t self_;
  std::vector<Pieces> sends_, receives_;
  std::vector<std::pair<const Pieces*, Spot>> packed_;
  Lowered l_;
};

}  // namespace

bool reduces(ReduceOp op, Dtype dtype, bool in_rank_order) noexcept {
  const bool floating = info(dtype).floating;
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::avg:
    case ReduceOp::product:
      return !(floating && in_rank_order);
    case ReduceOp::min:
    case ReduceOp::max:
      return !floating;
    case ReduceOp::band:
    case ReduceOp::bor:
      return dtype == Dtype::boolean;
    case ReduceOp::bxor:
      return false;
  }
  return false;
}

bool divides_before(std::int64_t divisor, Dtype dtype) noexcept {
  return dtype == Dtype::f32 || dtype == Dtype::f64 || std::has_single_bit(static_cast<std::uint64_t>(divisor));
}

Lowered lower(const Case& c) { return Lowering(c).run(); }

}  // namespace dtensor::comm::nccl
