// SPDX-License-Identifier: Apache-2.0
// All lines are sorted at once: the number of the line stands above the key, or is sorted by afterwards where both do not fit 64 bits.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "dtensor/error.h"
#include "local/cuda/atomics.h"
#include "local/cuda/axes.h"
#include "local/cuda/launch.h"
#include "local/cuda/order_keys.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/table.h"
#include "local/cuda/toolkit/sorting.h"
#include "local/kernels/sorting.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

struct LineShape {
  std::int64_t outer = 1, length = 1, inner = 1;
  LineShape() = default;
  LineShape(const Shape& shape, int dim) {
    for (int d = 0; d < shape.ndim(); ++d) (d < dim ? outer : d == dim ? length : inner) *= shape[d];
  }
  DTENSOR_DEVICE std::int64_t lines() const { return outer * inner; }
  std::int64_t numel() const { return lines() * length; }
  /// Of the element that is number `e` in memory.
  DTENSOR_DEVICE std::int64_t line_of(std::int64_t e) const {
    const std::int64_t row = quotient(e, inner);
    return quotient(row, length) * inner + e - row * inner;
  }
  DTENSOR_DEVICE std::int64_t index_of(std::int64_t e) const {
    const std::int64_t row = quotient(e, inner);
    return row - quotient(row, length) * length;
  }
};

template <class T, class Key>
struct MakeKeys {
  const T* in;
  Key* keys;
  std::uint32_t* numbers;
  LineShape shape;
  bool descending, with_line;
  DTENSOR_DEVICE void operator()(std::int64_t e) const {
    constexpr std::uint64_t kMask = ~std::uint64_t{0} >> (64 - kKeyBits<T>);
    std::uint64_t key = order_key(in[e]);
    if (descending) key ^= kMask;
    if constexpr (kKeyBits<T> < 64) {
      if (with_line) key |= static_cast<std::uint64_t>(shape.line_of(e)) << kKeyBits<T>;
    }
    keys[e] = static_cast<Key>(key);
    numbers[e] = static_cast<std::uint32_t>(e);
  }
};
struct MakeLineKeys {
  const std::uint32_t* order;
  std::uint32_t* keys;
  LineShape shape;
  DTENSOR_DEVICE void operator()(std::int64_t s) const { keys[s] = static_cast<std::uint32_t>(shape.line_of(order[s])); }
};

void sort(RankDevice& device, const SortCall& call) {
  const std::size_t bytes = sort_scratch(call);
  const Scratch scratch(device, bytes);
  sort_pairs(call, scratch.as<void>(), bytes, device.current);
}

// Numbers of the elements, line after line in order.
class LineOrder {
 public:
  LineOrder(RankDevice& device, const Tensor& in, const LineShape& shape, bool descending)
      : device_(device), shape_(shape), first_(device, words(shape.numel())), second_(device, words(shape.numel())) {
    if (shape.numel() > std::numeric_limits<std::uint32_t>::max())
      throw Unsupported("sort: " + std::to_string(shape.numel()) + " elements on one rank; at most 2^32 - 1 are sorted, split the tensor");
    visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
      const int line_bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(shape.lines() - 1))), bits = kKeyBits<T> + line_bits;
      if constexpr (kKeyBits<T> <= 32) {
        if (bits <= 32) return by_key<T, std::uint32_t>(in, descending, bits, true);
        return by_key<T, std::uint64_t>(in, descending, bits, true);
      } else {
        by_key<T, std::uint64_t>(in, descending, kKeyBits<T>, false);
        if (shape.lines() > 1) by_line(line_bits);
      }
    });
  }
  const std::uint32_t* data() const { return sorted_; }

 private:
  static std::size_t words(std::int64_t n) { return static_cast<std::size_t>(n) * sizeof(std::uint32_t); }
  template <class T, class Key>
  void by_key(const Tensor& in, bool descending, int bits, bool with_line) {
    const std::int64_t n = shape_.numel();
    const Scratch keys(device_, static_cast<std::size_t>(n) * sizeof(Key)), sorted_keys(device_, static_cast<std::size_t>(n) * sizeof(Key));
    launch_elements("sort keys", n, device_.current,
                    MakeKeys<T, Key>{in.raw_as<const T>(), keys.as<Key>(), first_.as<std::uint32_t>(), shape_, descending, with_line});
    sort(device_, {.keys = keys.as<void>(),
                   .sorted_keys = sorted_keys.as<void>(),
                   .values = first_.as<std::uint32_t>(),
                   .sorted_values = second_.as<std::uint32_t>(),
                   .count = static_cast<std::uint32_t>(n),
                   .key_bytes = sizeof(Key),
                   .first_bit = 0,
                   .end_bit = bits});
    sorted_ = second_.as<std::uint32_t>();
  }
  void by_line(int bits) {
    const std::int64_t n = shape_.numel();
    const Scratch keys(device_, words(n)), sorted_keys(device_, words(n));
    launch_elements("line keys", n, device_.current, MakeLineKeys{sorted_, keys.as<std::uint32_t>(), shape_});
    sort(device_, {.keys = keys.as<void>(),
                   .sorted_keys = sorted_keys.as<void>(),
                   .values = sorted_,
                   .sorted_values = first_.as<std::uint32_t>(),
                   .count = static_cast<std::uint32_t>(n),
                   .key_bytes = 4,
                   .first_bit = 0,
                   .end_bit = bits});
    sorted_ = first_.as<std::uint32_t>();
  }
  RankDevice& device_;
  LineShape shape_;
  Scratch first_, second_;
  const std::uint32_t* sorted_ = nullptr;
};

template <class T>
struct TakeOrdered {
  const T* in;
  const std::uint32_t* order;
  LineShape shape;
  std::int64_t first, count;
  bool descending, nan_first;
  T* values;
  std::int64_t* indices;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t row = quotient(i, shape.inner), x = i - row * shape.inner, o = quotient(row, count), k = row - o * count;
    const std::uint32_t* line = order + (o * shape.inner + x) * shape.length;
    const std::int64_t e = line[nan_first && k == 0 ? with_nan(line) : first + k];
    values[i] = in[e];
    indices[i] = shape.index_of(e);
  }
  // Where the first NaN of the line stands, `first` if there is none.
  DTENSOR_DEVICE std::int64_t with_nan(const std::uint32_t* line) const {
    if (descending) return is_nan(in[line[0]]) ? 0 : first;
    std::int64_t low = 0, high = shape.length;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (is_nan(in[line[middle]])) high = middle;
      else low = middle + 1;
    }
    return low < shape.length ? low : first;
  }
};
// Every element counts what stands before it in its line and writes itself where that says: one launch, which wins over sorting where lines are short.
template <class T>
struct RankElements {
  const T* in;
  LineShape shape;
  std::int64_t first, count;
  bool descending, nan_first;
  T* values;
  std::int64_t* indices;
  DTENSOR_DEVICE void operator()(std::int64_t e) const {
    const std::int64_t row = quotient(e, shape.inner), x = e - row * shape.inner, o = quotient(row, shape.length), i = row - o * shape.length;
    const T* line = in + o * shape.length * shape.inner + x;
    const std::uint64_t turned = descending ? ~std::uint64_t{0} : 0, mine = order_key(in[e]) ^ turned;
    std::int64_t before = 0, first_nan = shape.length;
    for (std::int64_t j = 0; j < shape.length; ++j) {
      const T other = line[j * shape.inner];
      const std::uint64_t key = order_key(other) ^ turned;
      before += key < mine || (key == mine && j < i) ? 1 : 0;
      if (nan_first && first_nan == shape.length && is_nan(other)) first_nan = j;
    }
    if (first_nan < shape.length) before = i == first_nan ? first : -1;
    if (before < first || before >= first + count) return;
    const std::int64_t to = (o * count + before - first) * shape.inner + x;
    values[to] = in[e];
    indices[to] = i;
  }
};
constexpr std::int64_t kShortLine = 128, kMediumLine = 2048, kFewComparisons = std::int64_t{1} << 24;
bool ranks_elements(const LineShape& s) { return s.length <= kShortLine || (s.length <= kMediumLine && s.numel() * s.length <= kFewComparisons); }

void order_lines(const cpu::OrderCall& c, const Tensor& in, const Tensor& values, const Tensor& indices) {
  if (values.numel() == 0) return;
  RankDevice& device = rank_device(values);
  const LineShape shape(in.shape(), c.dim);
  if (ranks_elements(shape)) {
    return visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
      launch_elements("rank elements", shape.numel(), device.current,
                      RankElements<T>{in.raw_as<const T>(), shape, c.first, c.count, c.descending, c.nan_first && kIsFloating<T>, values.raw_as<T>(),
                                      indices.raw_as<std::int64_t>()});
    });
  }
  const LineOrder order(device, in, shape, c.descending);
  visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("take ordered", values.numel(), device.current,
                    TakeOrdered<T>{in.raw_as<const T>(), order.data(), shape, c.first, c.count, c.descending, c.nan_first && kIsFloating<T>,
                                   values.raw_as<T>(), indices.raw_as<std::int64_t>()});
  });
}

template <class T>
struct Search {
  const T* sequence;
  const T* wanted;
  const std::int64_t* sorter;
  std::int64_t length, per_line;  // values of a line of the sequence; 0: one line for all
  bool right;
  void* out;
  bool narrow;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t start = per_line == 0 ? 0 : quotient(i, per_line) * length;
    std::int64_t low = 0, high = length;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      const T here = sequence[start + (sorter == nullptr ? middle : sorter[start + middle])];
      if (right ? !is_less(wanted[i], here) : is_less(here, wanted[i])) low = middle + 1;
      else high = middle;
    }
    if (narrow) static_cast<std::int32_t*>(out)[i] = static_cast<std::int32_t>(low);
    else static_cast<std::int64_t*>(out)[i] = low;
  }
};
void search_lines(const Tensor& sequence, const Tensor& values, const Tensor& sorter, bool right, const Tensor& out) {
  if (values.numel() == 0) return;
  const std::int64_t n = sequence.shape().back(), lines = n == 0 ? 0 : sequence.numel() / n;
  visit_dtype(sequence.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("search", values.numel(), rank_device(out).current,
                    Search<T>{sequence.raw_as<const T>(), values.raw_as<const T>(), sorter ? sorter.raw_as<const std::int64_t>() : nullptr, n,
                              lines <= 1 ? 0 : values.numel() / lines, right, out.raw(), out.dtype() == Dtype::i32});
  });
}

// ---- different slices: rows in order, those that begin a group, their number so far
template <class T>
struct MakeRowKeys {
  const T* in;
  std::uint64_t* keys;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { keys[i] = order_key(in[i]); }
};
struct CountRows {
  std::int64_t* order;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { order[i] = i; }
};
struct RowOrder {
  const std::uint32_t* narrow;
  const std::int64_t* wide;
  DTENSOR_DEVICE std::int64_t operator[](std::int64_t j) const { return narrow != nullptr ? narrow[j] : wide[j]; }
};
template <class T>
struct BeginGroups {
  const T* rows;
  RowOrder order;
  std::int64_t width;
  std::uint8_t* begins;
  DTENSOR_DEVICE void operator()(std::int64_t j) const {
    bool different = j == 0;
    for (std::int64_t x = 0; !different && x < width; ++x) different = !(load(rows[order[j - 1] * width + x]) == load(rows[order[j] * width + x]));
    begins[j] = different ? 1 : 0;
  }
};
template <class T>
struct PutGroups {
  const T* rows;
  RowOrder order;
  std::int64_t width;
  const std::uint8_t* begins;
  const std::int64_t* groups;  // up to and with a row
  T* picked;
  std::int64_t *inverse, *starts;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t across = width == 0 ? 1 : width, j = quotient(i, across), x = i - j * across, row = order[j], group = groups[j] - 1;
    if (x == 0) {
      inverse[row] = group;
      if (begins[j] != 0) starts[group] = j;
    }
    if (begins[j] != 0 && width > 0) picked[group * width + x] = rows[row * width + x];
  }
};
struct CountGroups {
  const std::int64_t *groups, *starts;
  std::int64_t rows;
  std::int64_t *counts, *count;
  DTENSOR_DEVICE void operator()(std::int64_t g) const {
    const std::int64_t total = groups[rows - 1];
    counts[g] = g >= total ? 0 : (g + 1 < total ? starts[g + 1] : rows) - starts[g];
    if (g == 0) *count = total;
  }
};
void distinct(const Tensor& in, std::optional<int> dim, const Tensor& values, const Tensor& inverse, const Tensor& counts, const Tensor& count) {
  RankDevice& device = rank_device(in);
  const Shape flat{in.numel()};
  const Tensor all = dim ? in : in.view(flat), target = dim ? values : values.view(flat);
  Shape axes{dim.value_or(0)};
  for (int d = 0; d < all.ndim(); ++d)
    if (d != axes[0]) axes.push_back(d);
  const Tensor rows = all.permute(axes).contiguous(), picked = rows.clone();
  const std::int64_t n = rows.shape()[0], width = n == 0 ? 0 : rows.numel() / n;
  if (n == 0) return count.fill_(0);
  const auto longs = static_cast<std::size_t>(n) * sizeof(std::int64_t);
  std::optional<LineOrder> by_key;
  std::optional<Scratch> by_row;
  if (width == 1) {
    by_key.emplace(device, rows, LineShape({n}, 0), false);
  } else {
    by_row.emplace(device, longs);
    const Scratch keys(device, static_cast<std::size_t>(rows.numel()) * sizeof(std::uint64_t));
    visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
      launch_elements("row keys", rows.numel(), device.current, MakeRowKeys<T>{rows.raw_as<const T>(), keys.as<std::uint64_t>()});
    });
    launch_elements("count rows", n, device.current, CountRows{by_row->as<std::int64_t>()});
    const std::size_t bytes = row_sort_scratch(n);
    const Scratch scratch(device, bytes);
    sort_rows(keys.as<std::uint64_t>(), width, by_row->as<std::int64_t>(), n, scratch.as<void>(), bytes, device.current);
  }
  const RowOrder order{by_key ? by_key->data() : nullptr, by_row ? by_row->as<std::int64_t>() : nullptr};
  const Scratch begins(device, static_cast<std::size_t>(n)), groups(device, longs), starts(device, longs);
  visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("begin groups", n, device.current, BeginGroups<T>{rows.raw_as<const T>(), order, width, begins.as<std::uint8_t>()});
    const std::size_t bytes = sum_scratch(n);
    const Scratch scratch(device, bytes);
    inclusive_sum(begins.as<std::uint8_t>(), groups.as<std::int64_t>(), n, scratch.as<void>(), bytes, device.current);
    launch_elements("put groups", n * std::max<std::int64_t>(width, 1), device.current,
                    PutGroups<T>{rows.raw_as<const T>(), order, width, begins.as<std::uint8_t>(), groups.as<std::int64_t>(), picked.raw_as<T>(),
                                 inverse.raw_as<std::int64_t>(), starts.as<std::int64_t>()});
  });
  launch_elements("count groups", n, device.current,
                  CountGroups{groups.as<std::int64_t>(), starts.as<std::int64_t>(), n, counts.raw_as<std::int64_t>(), count.raw_as<std::int64_t>()});
  target.permute(axes).copy_(picked);
}

// ---- places of elements that are not 0
template <class T>
struct FlagNonzero {
  const T* in;
  std::uint8_t* flags;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { flags[i] = convert<bool>(in[i]) ? 1 : 0; }
};
struct PutPlaces {
  const std::uint8_t* flags;
  const std::int64_t* found;  // up to and with an element
  std::int64_t limit;
  int width;
  std::int64_t sizes[kMaxDims];
  std::int64_t* places;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t row = found[i] - 1;
    if (flags[i] == 0 || row >= limit) return;
    for (int d = width - 1; d >= 0; --d) {
      const std::int64_t rest = quotient(i, sizes[d]);
      places[row * width + d] = i - rest * sizes[d];
      i = rest;
    }
  }
};
void nonzero_places(const Tensor& in, std::int64_t fill, const Tensor& places) {
  if (places.numel() == 0) return;
  places.fill_(fill);
  const std::int64_t n = in.numel();
  if (n == 0) return;
  RankDevice& device = rank_device(places);
  const std::size_t bytes = sum_scratch(n);
  const Scratch flags(device, static_cast<std::size_t>(n)), found(device, static_cast<std::size_t>(n) * sizeof(std::int64_t)), scratch(device, bytes);
  visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("flag nonzero", n, device.current, FlagNonzero<T>{in.raw_as<const T>(), flags.as<std::uint8_t>()});
  });
  inclusive_sum(flags.as<std::uint8_t>(), found.as<std::int64_t>(), n, scratch.as<void>(), bytes, device.current);
  PutPlaces put{flags.as<std::uint8_t>(), found.as<std::int64_t>(), places.shape()[0], in.ndim(), {}, places.raw_as<std::int64_t>()};
  for (int d = 0; d < in.ndim(); ++d) put.sizes[d] = in.shape()[d];
  launch_elements("put places", n, device.current, put);
}

// ---- histogram: counts of a block in shared memory where the bins fit
constexpr std::int64_t kSharedBins = 8192;
template <class T>
struct Histogram {
  using C = Accumulate<T>;
  const T* in;
  std::int64_t count;
  C start, end;
  std::int64_t bins;
  std::int64_t* totals;
  DTENSOR_DEVICE std::int64_t bin_of(C v) const {
    if (!(v >= start && v <= end)) return -1;
    const auto bin = static_cast<std::int64_t>((v - start) / (end - start) * static_cast<C>(bins));
    return bin < bins ? bin : bins - 1;
  }
  DTENSOR_DEVICE void operator()(const Block& b) const {
    auto* const shared = b.shared<std::int32_t>();
    const bool privately = bins <= kSharedBins;
    if (privately) {
      for (std::int64_t k = b.thread; k < bins; k += b.threads) shared[k] = 0;
      b.sync();
    }
    for (std::int64_t i = b.index * b.threads + b.thread; i < count; i += b.blocks * b.threads) {
      const std::int64_t bin = bin_of(load(in[i]));
      if (bin < 0) continue;
      if (privately) atomic_add(shared + bin, 1);
      else atomic_add(totals + bin, std::int64_t{1});
    }
    if (!privately) return;
    b.sync();
    for (std::int64_t k = b.thread; k < bins; k += b.threads)
      if (shared[k] != 0) atomic_add(totals + k, std::int64_t{shared[k]});
  }
};
void histogram(const Tensor& in, double low, double high, const Tensor& counts) {
  if (counts.numel() == 0) return;
  RankDevice& device = rank_device(counts);
  const Tensor values = in.contiguous(), totals = Tensor::zeros({counts.numel()}, Dtype::i64, counts.device());
  const std::int64_t n = values.numel(), bins = counts.numel(), blocks = std::min<std::int64_t>(kEnoughBlocks, (n + 4095) / 4096);
  visit_floating(in.dtype(), [&]<class T>(std::type_identity<T>) {
    using C = Accumulate<T>;
    launch_blocks("histogram", blocks, 256, bins <= kSharedBins ? static_cast<std::size_t>(bins) * sizeof(std::int32_t) : 0, device.current,
                  Histogram<T>{values.raw_as<const T>(), n, static_cast<C>(low), static_cast<C>(high), bins, totals.raw_as<std::int64_t>()});
  });
  counts.copy_(totals.view(counts.shape()));
}

}  // namespace

void install_sorting() {
  kernels::order_lines.cuda = order_lines;
  kernels::search_lines.cuda = search_lines;
  kernels::distinct.cuda = distinct;
  kernels::nonzero_places.cuda = nonzero_places;
  kernels::histogram.cuda = histogram;
}

}  // namespace dtensor::local::cuda
