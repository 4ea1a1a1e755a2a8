// SPDX-License-Identifier: Apache-2.0
// Sums (and products, extremes) into positions. Positions are sorted, stably, so that the terms of a target stand together in their order; one thread adds those of
// an element, in parts of kPart that are joined in order where a target has more. Lines of few elements need no sort: a thread sees one whole.
#include <bit>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "dtensor/error.h"
#include "local/cuda/elements.h"
#include "local/cuda/launch.h"
#include "local/cuda/pieces.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/slices.h"
#include "local/cuda/table.h"
#include "local/cuda/toolkit/sorting.h"
#include "local/kernels/embedding.h"
#include "local/kernels/transformer.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

constexpr std::int64_t kPart = 256;
constexpr std::int64_t kShortLine = 8;
constexpr std::uint64_t kNowhere = ~std::uint64_t{0};  // kElsewhere as a key

enum class Fold : std::uint8_t { sum, product, max, min };
Fold fold_of(cpu::Combine c) { return c == cpu::Combine::product ? Fold::product : c == cpu::Combine::max ? Fold::max : Fold::min; }

template <class C>
DTENSOR_DEVICE C folded(Fold how, C a, C b) {
  if constexpr (std::is_same_v<C, bool>) {
    return how == Fold::sum || how == Fold::max ? a || b : a && b;
  } else {
    if (how == Fold::max || how == Fold::min) return (how == Fold::max ? b > a : b < a) || b != b ? b : a;
    if constexpr (std::is_integral_v<C>) {
      const auto x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
      return static_cast<C>(how == Fold::sum ? x + y : x * y);
    } else {
      return how == Fold::sum ? a + b : a * b;
    }
  }
}
template <class C>
DTENSOR_DEVICE C scaled(C alpha, C value) {
  if constexpr (std::is_same_v<C, bool>) return alpha && value;
  else if constexpr (std::is_integral_v<C>) return static_cast<C>(static_cast<std::uint64_t>(alpha) * static_cast<std::uint64_t>(value));
  else return alpha * value;
}

// Elements of T, `width` at once: 1, or what makes 16 bytes.
template <class T, int width>
struct Group {
  alignas(width * sizeof(T)) T of[width];
  DTENSOR_DEVICE static Group at(const T* from) {
    Group g;
    copy_piece<width * sizeof(T)>(g.of, from);
    return g;
  }
  DTENSOR_DEVICE void put(T* to) const { copy_piece<width * sizeof(T)>(to, of); }
};

template <class T>
struct FoldPlan {
  using C = Accumulate<T>;
  Fold how = Fold::sum;
  bool add = false;  // to what the table holds
  C alpha = C(1);
  const T* values = nullptr;
  T* table = nullptr;
  const T* factors = nullptr;  // of each term besides alpha; null: ones
  std::int64_t shared = 1;     // so many terms, one after the other, have one slice of the values
};

// Terms j of all slices in the order of their targets.
struct Sorted {
  const std::uint64_t* keys = nullptr;
  const std::uint32_t* order = nullptr;
  std::int64_t count = 0;
  DTENSOR_DEVICE bool begins(std::int64_t j) const { return j == 0 || keys[j - 1] != keys[j]; }
  DTENSOR_DEVICE bool ends(std::int64_t j) const { return j + 1 == count || keys[j + 1] != keys[j]; }
};

// A thread per term and group of elements of a slice; those work that begin a target or a part.
template <class T, int width>
struct FoldTerms {
  using C = Accumulate<T>;
  FoldPlan<T> plan;
  Slices s;  // in groups
  Sorted sorted;
  C* parts;  // [part, does a target begin in it, elements of a slice]; null: there is one part
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t size = s.size(), j = quotient(i, size), element = i - j * size;
    const std::uint64_t key = sorted.keys[j];
    const bool begins = sorted.begins(j);
    if (key == kNowhere || !(begins || (parts != nullptr && j % kPart == 0))) return;
    const std::int64_t o = quotient(element, s.inner);
    const Slices::Place place = s.place(o, element - o * s.inner);
    T* const to = plan.table + static_cast<std::int64_t>(key) * s.scale + place.table * width;
    C sum[width];
    const bool from_table = begins && plan.add;
    if (from_table) {
      const auto held = Group<T, width>::at(to);
      for (int k = 0; k < width; ++k) sum[k] = load(held.of[k]);
    } else {
      for (int k = 0; k < width; ++k) sum[k] = C(0);
    }
    std::int64_t end = sorted.count;
    if (parts != nullptr && (j / kPart + 1) * kPart < end) end = (j / kPart + 1) * kPart;
    bool first = !from_table && plan.how != Fold::sum;
    std::int64_t at = j;
    for (; at < end && sorted.keys[at] == key; ++at) {
      const std::int64_t number = sorted.order[at];
      const auto term = Group<T, width>::at(plan.values + (quotient(number, plan.shared) * s.step + place.values) * width);
      const C factor = plan.factors == nullptr ? plan.alpha : scaled<C>(plan.alpha, load(plan.factors[number]));
      for (int k = 0; k < width; ++k) {
        const C value = scaled<C>(factor, load(term.of[k]));
        sum[k] = first ? value : folded<C>(plan.how, sum[k], value);
      }
      first = false;
    }
    if (begins && sorted.ends(at - 1)) {
      Group<T, width> result;
      for (int k = 0; k < width; ++k) result.of[k] = store<T>(sum[k]);
      return result.put(to);
    }
    C* const part = parts + (((j / kPart) * 2 + (begins ? 1 : 0)) * size + element) * width;
    for (int k = 0; k < width; ++k) part[k] = sum[k];
  }
};

// A thread per part and element of a slice joins the parts of the target that begins in this part and goes on in the next.
template <class T>
struct JoinParts {
  using C = Accumulate<T>;
  FoldPlan<T> plan;
  Slices s;  // in groups of `width`
  int width;
  Sorted sorted;
  const C* parts;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t size = s.size() * width, b = i / size, element = i - b * size;
    std::int64_t last = last_of(b);
    const std::uint64_t key = sorted.keys[last];
    const bool begins_here = b == 0 || sorted.keys[b * kPart - 1] != key;
    if (key == kNowhere || !begins_here || sorted.ends(last)) return;
    C sum = parts[(b * 2 + 1) * size + element];
    for (std::int64_t part = b + 1;; ++part) {
      sum = folded<C>(plan.how, sum, parts[part * 2 * size + element]);
      last = last_of(part);
      if (sorted.keys[last] != key || sorted.ends(last)) break;
    }
    const std::int64_t group = element / width, o = group / s.inner;
    plan.table[static_cast<std::int64_t>(key) * s.scale + s.place(o, group - o * s.inner).table * width + element % width] = store<T>(sum);
  }
  DTENSOR_DEVICE std::int64_t last_of(std::int64_t part) const {
    return (part + 1) * kPart < sorted.count ? (part + 1) * kPart - 1 : sorted.count - 1;
  }
};

struct Count {
  std::uint32_t* to;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { to[i] = static_cast<std::uint32_t>(i); }
};
// Few positions are in order in one launch, when each counts those before it.
constexpr std::int64_t kFewPositions = 2048;
struct Rank {
  const std::int64_t* at;
  std::int64_t count;
  std::uint64_t* keys;
  std::uint32_t* order;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const auto mine = static_cast<std::uint64_t>(at[i]);
    std::int64_t before = 0;
    for (std::int64_t j = 0; j < count; ++j) {
      const auto key = static_cast<std::uint64_t>(at[j]);
      before += key < mine || (key == mine && j < i) ? 1 : 0;
    }
    keys[before] = mine;
    order[before] = static_cast<std::uint32_t>(i);
  }
};
// Positions below `end`, sorted.
class SortedPositions {
 public:
  SortedPositions(RankDevice& device, const std::int64_t* at, std::int64_t count, std::int64_t end)
      : keys_(device, static_cast<std::size_t>(count) * 8), order_(device, static_cast<std::size_t>(count) * 4) {
    if (count > std::numeric_limits<std::uint32_t>::max())
      throw Unsupported("deposit: " + std::to_string(count) + " positions in one call; at most 2^32 - 1 are sorted, cut the index");
    sorted = {keys_.as<std::uint64_t>(), order_.as<std::uint32_t>(), count};
    if (count <= kFewPositions) {
      launch_elements("rank positions", count, device.current, Rank{at, count, keys_.as<std::uint64_t>(), order_.as<std::uint32_t>()});
      return;
    }
    const Scratch numbers(device, static_cast<std::size_t>(count) * 4);
    launch_elements("count", count, device.current, Count{numbers.as<std::uint32_t>()});
    // kElsewhere has all bits set, so it is behind all positions in these bits.
    const SortCall call{.keys = at,
                        .sorted_keys = keys_.as<void>(),
                        .values = numbers.as<std::uint32_t>(),
                        .sorted_values = order_.as<std::uint32_t>(),
                        .count = static_cast<std::uint32_t>(count),
                        .key_bytes = 8,
                        .first_bit = 0,
                        .end_bit = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(end)))};
    const std::size_t bytes = sort_scratch(call);
    const Scratch scratch(device, bytes);
    sort_pairs(call, scratch.as<void>(), bytes, device.current);
  }
  Sorted sorted;

 private:
  Scratch keys_, order_;
};

template <class T, int width>
void fold_sorted(RankDevice& device, const FoldPlan<T>& plan, const Slices& s, const Sorted& sorted) {
  using C = Accumulate<T>;
  const Slices groups = in_units(s, width);
  const std::int64_t parts = (sorted.count + kPart - 1) / kPart, size = s.size();
  std::optional<Scratch> memory;
  if (parts > 1) memory.emplace(device, static_cast<std::size_t>(parts * 2 * size) * sizeof(C));
  C* const sums = memory ? memory->as<C>() : nullptr;
  launch_elements("fold", sorted.count * groups.size(), device.current, FoldTerms<T, width>{plan, groups, sorted, sums});
  if (parts > 1) launch_elements("join", (parts - 1) * size, device.current, JoinParts<T>{plan, groups, width, sorted, sums});
}

// Positions lie below `end` and are multiples of `granule`.
template <class T>
void fold_slices(RankDevice& device, const FoldPlan<T>& plan, const Slices& s, std::int64_t granule, std::int64_t end) {
  const SortedPositions positions(device, s.at, s.count, end);
  constexpr int kWide = 16 / sizeof(T);
  const bool aligned = (reinterpret_cast<std::uintptr_t>(plan.values) | reinterpret_cast<std::uintptr_t>(plan.table)) % 16 == 0;
  if (aligned && common_run(s, granule) % kWide == 0) fold_sorted<T, kWide>(device, plan, s, positions.sorted);
  else fold_sorted<T, 1>(device, plan, s, positions.sorted);
}

// f(plan), after what needs no positions.
template <class F>
void with_plan(const Tensor& values, const Tensor& table, const cpu::DepositOptions& options, Fold how, const F& f) {
  if (table.numel() == 0) return;
  RankDevice& device = rank_device(table);
  if (!options.add) set_bytes(table.raw(), 0, static_cast<std::size_t>(table.bytes()), device.current);
  if (values.numel() == 0) return;
  visit_dtype(table.dtype(), [&]<class T>(std::type_identity<T>) {
    f(device, FoldPlan<T>{how, options.add, convert<Accumulate<T>>(options.alpha), values.raw_as<const T>(), table.raw_as<T>()});
  });
}

void deposit_rows(const cpu::RowsCall& c, const Tensor& grad, const Tensor& sums, const cpu::DepositOptions& options) {
  with_plan(grad, sums, options, Fold::sum,
            [&]<class T>(RankDevice& device, const FoldPlan<T>& plan) { fold_slices(device, plan, slices_of(c), 1, c.length); });
}
void sum_bags_backward(const Tensor& at, const Tensor& grad, const Tensor* share, const Tensor& sums) {
  const cpu::RowsCall rows{.outer = 1, .length = sums.shape()[0], .inner = sums.shape()[1], .at = at};
  if (at.numel() == 0) return sums.fill_(0);
  with_plan(grad, sums, {}, Fold::sum, [&]<class T>(RankDevice& device, FoldPlan<T> plan) {
    plan.factors = share == nullptr ? nullptr : share->raw_as<const T>();
    plan.shared = at.shape()[1];
    fold_slices(device, plan, slices_of(rows), 1, rows.length);
  });
}
void deposit_points(const cpu::PointsCall& c, const Tensor& values, const Tensor& sums, const cpu::DepositOptions& options) {
  with_plan(values, sums, options, Fold::sum,
            [&]<class T>(RankDevice& device, const FoldPlan<T>& plan) { fold_slices(device, plan, slices_of(c), c.granule, sums.numel()); });
}

// A thread per line: every position by the first element that has it.
template <class T>
struct FoldLines {
  using C = Accumulate<T>;
  FoldPlan<T> plan;
  Elements e;
  DTENSOR_DEVICE void operator()(std::int64_t line) const {
    const std::int64_t base = e.base(line), begin = e.begin(line);
    if (base == cpu::kElsewhere) return;
    for (std::int64_t j = 0; j < e.length; ++j) {
      const std::int64_t at = e.at[begin + j * e.inner];
      bool leads = at != cpu::kElsewhere;
      for (std::int64_t k = 0; leads && k < j; ++k) leads = e.at[begin + k * e.inner] != at;
      if (!leads) continue;
      T* const to = plan.table + base + at * e.step;
      C sum = plan.add ? C(load(*to)) : C(0);
      for (std::int64_t k = j; k < e.length; ++k) {
        const std::int64_t i = begin + k * e.inner;
        if (e.at[i] == at) sum = folded<C>(plan.how, sum, scaled<C>(plan.alpha, load(plan.values[i])));
      }
      *to = store<T>(sum);
    }
  }
};

struct FindElements {
  Elements e;
  std::int64_t* positions;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { positions[i] = e.position(i); }
};

void fold_elements(const cpu::ElementsCall& c, const Tensor& values, const Tensor& table, const cpu::DepositOptions& options, Fold how) {
  with_plan(values, table, options, how, [&]<class T>(RankDevice& device, const FoldPlan<T>& plan) {
    const ElementsOnDevice elements(device, c, table.shape());
    const Elements& e = elements.elements();
    if (e.length <= kShortLine) return launch_elements("fold lines", e.lines(), device.current, FoldLines<T>{plan, e});
    const Scratch positions(device, static_cast<std::size_t>(e.count) * sizeof(std::int64_t));
    launch_elements("find elements", e.count, device.current, FindElements{e, positions.as<std::int64_t>()});
    fold_slices(device, plan, slices_of(positions.as<std::int64_t>(), e.count), 1, table.numel());
  });
}
void deposit_elements(const cpu::ElementsCall& c, const Tensor& grad, const Tensor& sums, const cpu::DepositOptions& options) {
  fold_elements(c, grad, sums, options, Fold::sum);
}
void combine_elements(const cpu::ElementsCall& c, const Tensor& source, cpu::Combine combine, const Tensor& target) {
  fold_elements(c, source, target, {.add = true}, fold_of(combine));
}

}  // namespace

void install_deposit() {
  kernels::deposit_rows.cuda = deposit_rows;
  kernels::sum_bags_backward.cuda = sum_bags_backward;
  kernels::deposit_points.cuda = deposit_points;
  kernels::deposit_elements.cuda = deposit_elements;
  kernels::combine_elements.cuda = combine_elements;
}

}  // namespace dtensor::local::cuda
