// SPDX-License-Identifier: Apache-2.0
#include "local/random.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include <Random123/philox.h>

#include "base/error_text.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local {

namespace {

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

void check_map(const Tensor& out, const GlobalMap& map) {
  bool fits = map.global.ndim() == out.ndim() && map.runs.size() == out.shape().size();
  for (int d = 0; fits && d < out.ndim(); ++d) {
    std::int64_t held = 0;
    for (const GlobalRun& r : map.runs[static_cast<std::size_t>(d)]) held += r.length;
    fits = held == out.shape()[d];
  }
  if (!fits)
    base::fail<InternalError>("random: the runs do not describe the tensor (local {}, global {})", to_string(out.shape()), to_string(map.global));
}

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
  check_map(out, map);
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

// Natural logarithm of a number in (0, 1] (the polynomial of fdlibm's e_log.c).
inline double log_of(double x) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  // The exponent that leaves the mantissa in [sqrt(1/2), sqrt(2)).
  const auto shifted = bits + 0x00095f6400000000ull;
  const double k = static_cast<double>(static_cast<std::int64_t>(shifted >> 52) - 1023);
  const double f = std::bit_cast<double>((shifted & 0x000fffffffffffffull) + 0x3fe6a09c00000000ull) - 1.0;
  const double s = f / (2.0 + f), z = s * s, w = z * z;
  const double even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const double odd = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  const double half = 0.5 * f * f;
  return k * 6.93147180369123816490e-01 - ((half - (s * (half + (even + odd)) + k * 1.90821492927058770002e-10)) - f);
}

struct SineCosine {
  double sine, cosine;
};
// Of 2 pi u, u in [0, 1) (the polynomials of fdlibm's k_sin.c and k_cos.c on an eighth of the circle).
inline SineCosine turn(double u) noexcept {
  const double quarter = std::floor(4.0 * u + 0.5);
  const double x = (u - 0.25 * quarter) * 6.283185307179586477;
  const double z = x * x;
  const double s = x + x * z *
                           (-1.66666666666666324348e-01 +
                            z * (8.33333333332248946124e-03 +
                                 z * (-1.98412698298579493134e-04 +
                                      z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  const double c =
      1.0 - (0.5 * z - z * z *
                           (4.16666666666666019037e-02 +
                            z * (-1.38888888888741095749e-03 +
                                 z * (2.48015872894767294178e-05 +
                                      z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11))))));
  const bool swap = quarter == 1.0 || quarter == 3.0;
  const double sine = swap ? c : s, cosine = swap ? s : c;
  return {quarter == 2.0 || quarter == 3.0 ? -sine : sine, quarter == 1.0 || quarter == 2.0 ? -cosine : cosine};
}

// Signed conversions are the ones that vectorise; 53 bits fit.
inline double unit(std::uint64_t word) noexcept { return static_cast<double>(static_cast<std::int64_t>(word >> 11)) * 0x1p-53; }

// Out of line, so that __restrict__ is not lost by inlining.
[[gnu::noinline]] void normal_pairs(const std::uint64_t* __restrict__ words, std::int64_t count, double* __restrict__ values, double mean,
                                    double std) {
  for (std::int64_t i = 0; i < count; i += 2) {
    const double radius = std::sqrt(-2.0 * log_of(1.0 - unit(words[i])));
    const SineCosine angle = turn(unit(words[i + 1]));
    values[i] = mean + std * (radius * angle.cosine);
    values[i + 1] = mean + std * (radius * angle.sine);
  }
}

// As many leading bits as the type holds, so that rounding never reaches 1.
template <class T>
double unit_of(std::uint64_t word) noexcept {
  constexpr int kBits = std::is_same_v<T, double> ? 53 : std::is_same_v<T, float> ? 24 : std::is_same_v<T, Half> ? 11 : 8;
  return static_cast<double>(static_cast<std::int64_t>(word >> (64 - kBits))) / static_cast<double>(std::int64_t{1} << kBits);
}

void pass(const Words& words, std::int64_t count, Words& out) { std::copy_n(words.begin(), count, out.begin()); }

void refuse_not_floating(const Tensor& out, const char* op) {
  if (!info(out.dtype()).floating)
    base::fail<InvalidArgument>("{}: the dtype is not floating ({}); use f64, f32, bf16 or f16", op, to_string(out.dtype()));
}

}  // namespace

void fill_uniform(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double low, double high) {
  refuse_not_floating(out, "uniform");
  const double range = high - low;
  generate<std::uint64_t>(out, seed, call, map, pass,
                          [low, range]<class T>(std::type_identity<T>, std::uint64_t word) { return convert<T>(low + unit_of<T>(word) * range); });
}

void fill_normal(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double mean, double std) {
  refuse_not_floating(out, "normal");
  const auto make = [mean, std](const Words& words, std::int64_t count, Values& values) {
    normal_pairs(words.data(), count, values.data(), mean, std);
  };
  generate<double>(out, seed, call, map, make, []<class T>(std::type_identity<T>, double v) { return convert<T>(v); });
}

void fill_keep_mask(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double probability, const Scalar& kept) {
  generate<std::uint64_t>(out, seed, call, map, pass, [probability, kept]<class T>(std::type_identity<T>, std::uint64_t word) {
    return unit(word) < probability ? convert<T>(kept) : T{};
  });
}

void fill_integers(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, std::int64_t low, std::int64_t high) {
  if (low >= high) base::fail<InvalidArgument>("integers: the range is empty (low {}, high {}); low must be below high", low, high);
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  generate<std::uint64_t>(out, seed, call, map, pass, [low, range]<class T>(std::type_identity<T>, std::uint64_t word) {
    __extension__ using Wide = unsigned __int128;
    const auto above = static_cast<std::uint64_t>((static_cast<Wide>(word) * range) >> 64);
    return convert<T>(static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + above));
  });
}

void fill_words(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map) {
  if (out.dtype() != Dtype::i64) base::fail<InvalidArgument>("words: the dtype is {}; random words are i64", to_string(out.dtype()));
  generate<std::uint64_t>(out, seed, call, map, pass,
                          []<class T>(std::type_identity<T>, std::uint64_t word) { return convert<T>(static_cast<std::int64_t>(word)); });
}

}  // namespace dtensor::local
