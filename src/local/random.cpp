// SPDX-License-Identifier: Apache-2.0
#include "local/random.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <Random123/philox.h>

#include "base/error_text.h"
#include "local/formulas/random.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local {

namespace {

static_assert(formulas::kPhiloxFactor0 == PHILOX_M4x32_0 && formulas::kPhiloxFactor1 == PHILOX_M4x32_1);
static_assert(formulas::kPhiloxStep0 == PHILOX_W32_0 && formulas::kPhiloxStep1 == PHILOX_W32_1);

constexpr std::int64_t kBlocks = 64, kWords = 2 * kBlocks;  // per batch
using Words = std::array<std::uint64_t, kWords>;
using Values = std::array<double, kWords>;

struct Stream {
  std::uint64_t seed, call;

  // Words of elements 2 * first and on. The ten rounds of Random123's philox4x32, side by side over a batch so that they vectorise.
  void words(std::int64_t first, std::int64_t blocks, Words& out) const {
    std::array<std::array<std::uint32_t, kBlocks>, 4> c;
    const auto count = static_cast<std::size_t>(blocks);
    for (std::size_t b = 0; b < count; ++b) {
      const std::uint64_t block = static_cast<std::uint64_t>(first) + b;
      c[0][b] = static_cast<std::uint32_t>(block);
      c[1][b] = static_cast<std::uint32_t>(block >> 32);
      c[2][b] = static_cast<std::uint32_t>(call);
      c[3][b] = static_cast<std::uint32_t>(call >> 32);
    }
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += PHILOX_W32_0, k1 += PHILOX_W32_1) {
      for (std::size_t b = 0; b < count; ++b) {
        const std::uint64_t p0 = std::uint64_t{PHILOX_M4x32_0} * c[0][b], p1 = std::uint64_t{PHILOX_M4x32_1} * c[2][b];
        c[0][b] = static_cast<std::uint32_t>(p1 >> 32) ^ c[1][b] ^ k0;
        c[1][b] = static_cast<std::uint32_t>(p1);
        c[2][b] = static_cast<std::uint32_t>(p0 >> 32) ^ c[3][b] ^ k1;
        c[3][b] = static_cast<std::uint32_t>(p0);
      }
    }
    for (std::size_t b = 0; b < count; ++b) {
      out[2 * b] = c[0][b] | (static_cast<std::uint64_t>(c[1][b]) << 32);
      out[2 * b + 1] = c[2][b] | (static_cast<std::uint64_t>(c[3][b]) << 32);
    }
  }
};

// Trailing dimensions that are held whole are folded into the one before, so that rows are long.
class RowMap {
 public:
  RowMap(const GlobalMap& map, const Shape& local) {
    const int ndim = local.ndim();
    std::int64_t inner = 1;  // global elements of the folded dimensions
    int last = ndim - 1;
    for (; last > 0 && whole(map, last); --last) inner *= map.global[last];
    if (last >= 0) {
      for (const GlobalRun& r : map.runs[static_cast<std::size_t>(last)]) runs_.push_back({r.begin * inner, r.length * inner});
    } else {
      runs_.push_back({0, 1});
    }
    for (const GlobalRun& r : runs_) row_ += r.length;
    std::int64_t stride = inner * (last >= 0 ? map.global[last] : 1);
    for (int d = last - 1; d >= 0; --d) {
      std::vector<std::int64_t> starts;
      for (const GlobalRun& r : map.runs[static_cast<std::size_t>(d)])
        for (std::int64_t i = 0; i < r.length; ++i) starts.push_back((r.begin + i) * stride);
      stride *= map.global[d];
      outer_.push_back(std::move(starts));
    }
  }
  /// f(local index, first global index, count) for the local elements [begin, end).
  template <class F>
  void segments(std::int64_t begin, std::int64_t end, F&& f) const {
    while (begin < end) {
      std::int64_t rest = begin / row_, start = 0, column = begin % row_;
      for (const auto& starts : outer_) {
        const auto n = static_cast<std::int64_t>(starts.size());
        start += starts[static_cast<std::size_t>(rest % n)];
        rest /= n;
      }
      for (const GlobalRun& r : runs_) {
        if (column >= r.length) {
          column -= r.length;
          continue;
        }
        const std::int64_t count = std::min(r.length - column, end - begin);
        if (count == 0) break;
        f(begin, start + r.begin + column, count);
        begin += count;
        column = 0;
      }
    }
  }

 private:
  static bool whole(const GlobalMap& map, int dim) {
    const auto& runs = map.runs[static_cast<std::size_t>(dim)];
    return runs.size() == 1 && runs[0].begin == 0 && runs[0].length == map.global[dim];
  }
  std::vector<std::vector<std::int64_t>> outer_;  // start of each local index, innermost dimension first
  std::vector<GlobalRun> runs_;
  std::int64_t row_ = 0;
};

// make(words, count, values) turns the words of whole blocks into values; put(T) stores one.
template <class V, class T, class Make, class Put>
void generate_rows(T* out, const RowMap& rows, const Stream& stream, std::int64_t numel, const Make& make, const Put& put) {
  parallel_for(numel, 1 << 12, [&](std::int64_t begin, std::int64_t end) {
    Words words;
    std::array<V, kWords> values;
    rows.segments(begin, end, [&](std::int64_t local, std::int64_t global, std::int64_t count) {
      while (count > 0) {
        const std::int64_t skip = global % 2, part = std::min(count, kWords - skip), blocks = (skip + part + 1) / 2;
        stream.words(global / 2, blocks, words);
        make(words, 2 * blocks, values);
        for (std::int64_t i = 0; i < part; ++i) out[local + i] = put(values[static_cast<std::size_t>(skip + i)]);
        local += part;
        global += part;
        count -= part;
      }
    });
  });
}

template <class V, class Make, class Put>
void generate(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, const Make& make, const Put& put) {
  out.bump_version();
  if (out.numel() == 0 || out.device().kind == DeviceKind::meta) return;
  if (!out.is_contiguous()) {
    const Tensor rows = Tensor::empty(out.shape(), out.dtype());
    generate<V>(rows, seed, call, map, make, put);
    return out.copy_(rows);
  }
  const RowMap rows(map, out.shape());
  visit_dtype(out.dtype(), [&]<class T>(std::type_identity<T>) {
    generate_rows<V>(static_cast<T*>(out.data()), rows, Stream{seed, call}, out.numel(), make, [&](V v) { return put(std::type_identity<T>{}, v); });
  });
}

// Out of line, so that __restrict__ is not lost by inlining.
[[gnu::noinline]] void normal_pairs(const std::uint64_t* __restrict__ words, std::int64_t count, double* __restrict__ values, double mean,
                                    double std) {
  const auto root = [](double x) { return std::sqrt(x); };
  for (std::int64_t i = 0; i < count; i += 2) formulas::normal_pair<double>(words[i], words[i + 1], mean, std, root, values + i);
}

void pass(const Words& words, std::int64_t count, Words& out) { std::copy_n(words.begin(), count, out.begin()); }

}  // namespace

void check_random(const Tensor& out, const GlobalMap& map, const char* op, bool floating) {
  if (floating && !info(out.dtype()).floating)
    base::fail<InvalidArgument>("{}: the dtype is not floating ({}); use f64, f32, bf16 or f16", op, to_string(out.dtype()));
  bool fits = map.global.ndim() == out.ndim() && map.runs.size() == out.shape().size();
  for (int d = 0; fits && d < out.ndim(); ++d) {
    std::int64_t held = 0;
    for (const GlobalRun& r : map.runs[static_cast<std::size_t>(d)]) held += r.length;
    fits = held == out.shape()[d];
  }
  if (!fits)
    base::fail<InternalError>("random: the runs do not describe the tensor (local {}, global {})", to_string(out.shape()), to_string(map.global));
}
void check_range(std::int64_t low, std::int64_t high) {
  if (low >= high) base::fail<InvalidArgument>("integers: the range is empty (low {}, high {}); low must be below high", low, high);
}
void check_words(const Tensor& out) {
  if (out.dtype() != Dtype::i64) base::fail<InvalidArgument>("words: the dtype is {}; random words are i64", to_string(out.dtype()));
}

void fill_uniform(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double low, double high) {
  check_random(out, map, "uniform", true);
  const double range = high - low;
  generate<std::uint64_t>(out, seed, call, map, pass, [low, range]<class T>(std::type_identity<T>, std::uint64_t word) {
    return convert<T>(low + formulas::unit_of<T>(word) * range);
  });
}

void fill_normal(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double mean, double std) {
  check_random(out, map, "normal", true);
  const auto make = [mean, std](const Words& words, std::int64_t count, Values& values) {
    normal_pairs(words.data(), count, values.data(), mean, std);
  };
  generate<double>(out, seed, call, map, make, []<class T>(std::type_identity<T>, double v) { return convert<T>(v); });
}

void fill_keep_mask(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double probability, const Scalar& kept) {
  check_random(out, map, "keep_mask", false);
  generate<std::uint64_t>(out, seed, call, map, pass, [probability, kept]<class T>(std::type_identity<T>, std::uint64_t word) {
    return formulas::unit(word) < probability ? convert<T>(kept) : T{};
  });
}

void fill_integers(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, std::int64_t low, std::int64_t high) {
  check_range(low, high);
  check_random(out, map, "integers", false);
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  generate<std::uint64_t>(out, seed, call, map, pass, [low, range]<class T>(std::type_identity<T>, std::uint64_t word) {
    const std::uint64_t above = formulas::high_product(word, range);
    return convert<T>(static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + above));
  });
}

void fill_words(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map) {
  check_words(out);
  check_random(out, map, "words", false);
  generate<std::uint64_t>(out, seed, call, map, pass,
                          []<class T>(std::type_identity<T>, std::uint64_t word) { return convert<T>(static_cast<std::int64_t>(word)); });
}

}  // namespace dtensor::local
