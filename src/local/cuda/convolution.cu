// SPDX-License-Identifier: Apache-2.0
// Convolutions by cuDNN, or as products of the weight with the windows of some samples at a time; integers and groups of a few channels without either.
#include <cstdint>
#include <limits>
#include <type_traits>

#include "local/cpu/convolution_sizes.h"
#include "local/cuda/boxes.h"
#include "local/cuda/gemm.h"
#include "local/cuda/launch.h"
#include "local/cuda/library_convolution.h"
#include "local/cuda/rank_device.h"
#include "local/kernels/convolution.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

using cpu::Convolution;
using cpu::ConvolutionSizes;

// Positions of the input that positions of the result read. Channels of all groups are numbered through; a term is a channel and a position of the kernel.
template <class I>
struct Windows {
  I in[3], kernel[3], out[3], stride[3], padding[3], dilation[3];
  I groups, p, q, samples;

  explicit Windows(const ConvolutionSizes& s)
      : groups(static_cast<I>(s.groups)), p(static_cast<I>(s.p)), q(static_cast<I>(s.q)), samples(static_cast<I>(s.samples)) {
    for (std::size_t d = 0; d < 3; ++d) {
      in[d] = static_cast<I>(s.in[d]);
      kernel[d] = static_cast<I>(s.kernel[d]);
      out[d] = static_cast<I>(s.out[d]);
      stride[d] = static_cast<I>(s.rule.stride[d]);
      padding[d] = static_cast<I>(s.rule.padding[d]);
      dilation[d] = static_cast<I>(s.rule.dilation[d]);
    }
  }
  DTENSOR_DEVICE I points() const { return out[0] * out[1] * out[2]; }
  DTENSOR_DEVICE I pixels() const { return in[0] * in[1] * in[2]; }
  DTENSOR_DEVICE I taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  // Where in its channel `tap` reads for `point`; -1: outside.
  DTENSOR_DEVICE I pixel(I point, I tap) const {
    I at[3], of[3];
    split(point, out, at);
    split(tap, kernel, of);
    I result = 0;
    for (int d = 0; d < 3; ++d) {
      const I x = at[d] * stride[d] - padding[d] + of[d] * dilation[d];
      if (x < 0 || x >= in[d]) return -1;
      result = result * in[d] + x;
    }
    return result;
  }
  /// f(tap, pixel) for the taps that read inside for `point`, in their order.
  template <class F>
  DTENSOR_DEVICE void for_pixels(I of_point, const F& f) const {
    I at[3];
    split(of_point, out, at);
    for (I a = 0, tap = 0; a < kernel[0]; ++a) {
      const I z = at[0] * stride[0] - padding[0] + a * dilation[0];
      for (I b = 0; b < kernel[1]; ++b) {
        const I y = at[1] * stride[1] - padding[1] + b * dilation[1];
        const bool here = z >= 0 && z < in[0] && y >= 0 && y < in[1];
        for (I c = 0; c < kernel[2]; ++c, ++tap) {
          const I x = at[2] * stride[2] - padding[2] + c * dilation[2];
          if (here && x >= 0 && x < in[2]) f(tap, (z * in[1] + y) * in[2] + x);
        }
      }
    }
  }
  /// f(tap, point) for the taps by which a point reads `pixel`, in their order.
  template <class F>
  DTENSOR_DEVICE void for_points(I of_pixel, const F& f) const {
    I at[3];
    split(of_pixel, in, at);
    for (I a = 0, tap = 0; a < kernel[0]; ++a) {
      const I z = position(at[0], a, 0);
      for (I b = 0; b < kernel[1]; ++b) {
        const I y = z < 0 ? -1 : position(at[1], b, 1);
        for (I c = 0; c < kernel[2]; ++c, ++tap) {
          const I x = y < 0 ? -1 : position(at[2], c, 2);
          if (x >= 0) f(tap, (z * out[1] + y) * out[2] + x);
        }
      }
    }
  }

 private:
  // Along dim d, where the window begins whose element k is x; -1: nowhere.
  DTENSOR_DEVICE I position(I x, I k, int d) const {
    const I from = x + padding[d] - k * dilation[d], at = stride[d] == 1 ? from : from / stride[d];
    return from < 0 || at >= out[d] || (stride[d] != 1 && at * stride[d] != from) ? I(-1) : at;
  }
  DTENSOR_DEVICE static void split(I i, const I (&sizes)[3], I (&at)[3]) {
    at[2] = i % sizes[2];
    i /= sizes[2];
    at[1] = i % sizes[1];
    at[0] = i / sizes[1];
  }
};

// Windows move bits: elements are words of their size.
template <class Word, class I>
struct ToColumns {
  Windows<I> w;
  const Word* image;
  Word* columns;
  I of_sample, of_row;  // strides of the columns; points lie side by side
  bool samples_inside;  // the order of elements: rows, then samples, then points; else samples first
  I count;              // samples
  DTENSOR_DEVICE void operator()(std::int64_t element) const {
    const I points = w.points(), rows = w.groups * w.q * w.taps();
    I e = static_cast<I>(element);
    const I point = e % points;
    e /= points;
    const I sample = samples_inside ? e % count : e / rows, row = samples_inside ? e / count : e % rows;
    const I channel = row / w.taps(), pixel = w.pixel(point, row % w.taps());
    const std::int64_t from = (static_cast<std::int64_t>(sample) * (w.groups * w.q) + channel) * w.pixels() + pixel;
    columns[static_cast<std::int64_t>(sample) * of_sample + static_cast<std::int64_t>(row) * of_row + point] = pixel < 0 ? Word(0) : image[from];
  }
};

// Every pixel takes what the taps give for it, in their order.
template <class T, class I>
struct FromColumns {
  using A = Accumulate<T>;
  Windows<I> w;
  const A* columns;  // [samples, groups, terms, points]
  const T* bias;
  T* image;
  DTENSOR_DEVICE void operator()(std::int64_t element) const {
    const I pixels = w.pixels(), points = w.points(), taps = w.taps(), e = static_cast<I>(element), channel = e / pixels, pixel = e % pixels;
    A sum = bias == nullptr ? A(0) : load(bias[channel % (w.groups * w.q)]);
    const A* const of_channel = columns + static_cast<std::int64_t>(channel) * taps * points;
    w.for_points(pixel, [&](I tap, I point) { sum += of_channel[tap * points + point]; });
    image[element] = store<T>(sum);
  }
};

// Integers are summed in 64 bits and wrap.
template <class T>
using Sum = std::conditional_t<std::is_integral_v<T>, std::uint64_t, Accumulate<T>>;
template <class T>
DTENSOR_DEVICE Sum<T> number(T x) {
  return static_cast<Sum<T>>(load(x));
}

// I: of positions within a sample's channels; wide enough for a weight, too.
template <class T, class I>
struct DirectMap {
  Windows<I> w;
  const T *input, *weight, *bias;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t e) const {
    const std::int64_t points = w.points(), channels = w.groups * w.p, sample = e / (points * channels);
    const I rest = static_cast<I>(e - sample * points * channels), channel = rest / w.points(), point = rest % w.points(), taps = w.taps();
    Sum<T> sum = 0;
    for (I c = 0; c < w.q; ++c) {
      const T* const image = input + ((sample * w.groups + channel / w.p) * w.q + c) * w.pixels();
      const T* const factors = weight + (channel * w.q + c) * taps;
      w.for_pixels(point, [&](I tap, I pixel) { sum += number(factors[tap]) * number(image[pixel]); });
    }
    if (bias != nullptr) sum += number(bias[channel]);
    out[e] = static_cast<T>(sum);
  }
};
template <class T, class I>
struct DirectInput {
  Windows<I> w;
  const T *grad, *weight, *bias;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t e) const {
    const std::int64_t pixels = w.pixels(), channels = w.groups * w.q, sample = e / (pixels * channels);
    const I rest = static_cast<I>(e - sample * pixels * channels), channel = rest / w.pixels(), pixel = rest % w.pixels(), taps = w.taps();
    Sum<T> sum = bias == nullptr ? Sum<T>(0) : number(bias[channel]);
    for (I o = channel / w.q * w.p; o < (channel / w.q + 1) * w.p; ++o) {
      const T* const map = grad + (sample * w.groups * w.p + o) * w.points();
      const T* const factors = weight + (o * w.q + channel % w.q) * taps;
      w.for_points(pixel, [&](I tap, I point) { sum += number(factors[tap]) * number(map[point]); });
    }
    out[e] = static_cast<T>(sum);
  }
};
// A block per element of the weight.
template <class T>
struct DirectWeight {
  Windows<std::int64_t> w;
  const T *grad, *input;
  T* out;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const std::int64_t points = w.points(), taps = w.taps(), all = w.samples * points, channels = w.groups * w.p;
    for (std::int64_t e = b.index; e < channels * w.q * taps; e += b.blocks) {
      const std::int64_t tap = e % taps, c = e / taps % w.q, o = e / taps / w.q, channel = o / w.p * w.q + c;
      Sum<T> sum = 0;
      for (std::int64_t i = b.thread; i < all; i += b.threads) {
        const std::int64_t sample = i / points, point = i % points, pixel = w.pixel(point, tap);
        if (pixel >= 0)
          sum += number(grad[(sample * channels + o) * points + point]) * number(input[(sample * w.groups * w.q + channel) * w.pixels() + pixel]);
      }
      sum = reduce_block(b, sum, Sum<T>(0), [](Sum<T> x, Sum<T> y) { return x + y; });
      if (b.thread == 0) out[e] = static_cast<T>(sum);
      b.sync();
    }
  }
};

// ---- on the host
constexpr std::int64_t kColumnBytes = std::int64_t{64} << 20;  // of the windows that exist together
constexpr std::int64_t kFewChannels = 8;

bool goes_direct(const ConvolutionSizes& s, Dtype dtype) { return !info(dtype).floating || (s.groups > 1 && s.p * s.q < kFewChannels); }
Dtype sum_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

struct Work {
  const ConvolutionSizes s;
  RankDevice& d;
  Dtype dtype;
  std::int64_t bytes = info(dtype).bytes;

  std::int64_t image() const { return s.groups * s.q * s.pixels(); }
  std::int64_t map() const { return s.groups * s.p * s.points(); }
  std::int64_t columns() const { return s.groups * s.terms() * s.points(); }  // of a sample
  /// Samples whose windows exist together.
  std::int64_t chunk(std::int64_t element) const {
    return std::clamp<std::int64_t>(kColumnBytes / std::max<std::int64_t>(1, columns() * element), 1, std::max<std::int64_t>(1, s.samples));
  }
  /// f(type_identity<I>) with an I for positions in a sample and in the weight.
  template <class F>
  void with_index(const F& f) const {
    if (small(std::max({image(), map(), s.groups * s.p * s.terms()}))) f(std::type_identity<std::int32_t>{});
    else f(std::type_identity<std::int64_t>{});
  }
  bool small(std::int64_t elements) const { return elements < std::numeric_limits<std::int32_t>::max() / 2; }

  template <class Word, class I>
  void fill(std::int64_t count, const void* from, void* to, bool samples_inside) const {
    const std::int64_t points = s.points();
    ToColumns<Word, I> f{Windows<I>(s),
                         static_cast<const Word*>(from),
                         static_cast<Word*>(to),
                         static_cast<I>(samples_inside ? points : columns()),
                         static_cast<I>(samples_inside ? count * points : points),
                         samples_inside,
                         static_cast<I>(count)};
    launch_elements("convolution windows", count * columns(), d.current, f);
  }
  template <class Word>
  void fill_words(std::int64_t count, const void* from, void* to, bool samples_inside) const {
    if (small(count * std::max(columns(), image()))) fill<Word, std::int32_t>(count, from, to, samples_inside);
    else fill<Word, std::int64_t>(count, from, to, samples_inside);
  }
  /// [samples, groups, terms, points], or [groups, terms, samples, points].
  void to_columns(std::int64_t count, const void* from, void* to, bool samples_inside) const {
    if (bytes == 2) fill_words<std::uint16_t>(count, from, to, samples_inside);
    else if (bytes == 4) fill_words<std::uint32_t>(count, from, to, samples_inside);
    else fill_words<std::uint64_t>(count, from, to, samples_inside);
  }
  cpu::GemmCall product(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k) const {
    cpu::GemmCall g;
    g.dtype = dtype;
    g.batch = {count, s.groups};
    g.m = m;
    g.n = n;
    g.k = k;
    g.device = d.device;
    return g;
  }
  const std::byte* at(const void* data, std::int64_t element) const { return static_cast<const std::byte*>(data) + element * bytes; }
  std::byte* at(void* data, std::int64_t element) const { return static_cast<std::byte*>(data) + element * bytes; }
};

void forward(const Work& w, const void* input, const void* weight, const void* bias, void* out) {
  const ConvolutionSizes& s = w.s;
  const std::int64_t points = s.points(), terms = s.terms(), chunk = s.direct() ? s.samples : w.chunk(w.bytes);
  const Scratch columns(w.d, static_cast<std::size_t>(s.direct() ? 1 : std::max<std::int64_t>(1, chunk * w.columns() * w.bytes)));
  for (std::int64_t first = 0; first < s.samples; first += chunk) {
    const std::int64_t count = std::min(chunk, s.samples - first);
    const void* windows = w.at(input, first * w.image());
    if (!s.direct()) {
      w.to_columns(count, windows, columns.as<void>(), false);
      windows = columns.as<void>();
    }
    cpu::GemmCall g = w.product(count, s.p, points, terms);
    g.a = {weight, terms, 1, {0, s.p * terms}};
    g.b = {windows, points, 1, {w.columns(), terms * points}};
    if (bias != nullptr) g.addend = {bias, 1, 0, {0, s.p}};
    g.out = w.at(out, first * w.map());
    multiply(g, w.dtype);
  }
}

template <class T, class I>
void gather(const Work& w, std::int64_t count, const void* columns, const void* bias, void* image) {
  launch_elements(
      "convolution input gradient", count * w.image(), w.d.current,
      FromColumns<T, I>{Windows<I>(w.s), static_cast<const Accumulate<T>*>(columns), static_cast<const T*>(bias), static_cast<T*>(image)});
}
void input_gradient(const Work& w, const void* grad, const void* weight, const void* bias, void* out) {
  const ConvolutionSizes& s = w.s;
  const Dtype wide = s.direct() ? w.dtype : sum_dtype(w.dtype);
  const std::int64_t points = s.points(), terms = s.terms(), chunk = s.direct() ? s.samples : w.chunk(info(wide).bytes);
  const Scratch columns(w.d, static_cast<std::size_t>(s.direct() ? 1 : std::max<std::int64_t>(1, chunk * w.columns() * info(wide).bytes)));
  for (std::int64_t first = 0; first < s.samples; first += chunk) {
    const std::int64_t count = std::min(chunk, s.samples - first);
    void* const image = w.at(out, first * w.image());
    cpu::GemmCall g = w.product(count, terms, points, s.p);
    g.a = {weight, 1, terms, {0, s.p * terms}};
    g.b = {w.at(grad, first * w.map()), points, 1, {w.map(), s.p * points}};
    if (s.direct() && bias != nullptr) g.addend = {bias, 1, 0, {0, s.q}};
    g.out = s.direct() ? image : columns.as<void>();
    multiply(g, wide);
    if (s.direct()) continue;
    visit_floating(w.dtype, [&]<class T>(std::type_identity<T>) {
      if (w.small(count * std::max(w.image(), w.columns()))) gather<T, std::int32_t>(w, count, columns.as<void>(), bias, image);
      else gather<T, std::int64_t>(w, count, columns.as<void>(), bias, image);
    });
  }
}

// One product over all samples of a chunk, chunk after chunk on top of the sums so far.
void weight_gradient(const Work& w, const void* grad, const void* input, void* out) {
  const ConvolutionSizes& s = w.s;
  const Dtype wide = sum_dtype(w.dtype);
  const std::int64_t points = s.points(), terms = s.terms(), chunk = w.chunk(w.bytes), size = s.groups * s.p * terms;
  const Scratch columns(w.d, static_cast<std::size_t>(std::max<std::int64_t>(1, chunk * w.columns() * w.bytes))),
      maps(w.d, static_cast<std::size_t>(chunk == 1 ? 1 : std::max<std::int64_t>(1, chunk * w.map() * w.bytes))),
      sums(w.d, static_cast<std::size_t>(wide == w.dtype ? 1 : size * info(wide).bytes));
  void* const total = wide == w.dtype ? out : sums.as<void>();
  if (s.samples == 0) return set_bytes(out, 0, static_cast<std::size_t>(size * w.bytes), w.d.current);
  for (std::int64_t first = 0; first < s.samples; first += chunk) {
    const std::int64_t count = std::min(chunk, s.samples - first);
    // Of one sample the maps lie as they are wanted, and so do its windows where they are the input.
    const void *map = w.at(grad, first * w.map()), *windows = w.at(input, first * w.image());
    if (count > 1) {
      const std::int64_t channels = s.groups * s.p, sizes[3] = {channels, count, points}, to[3] = {count * points, points, 1},
                         from[3] = {points, channels * points, 1};
      convert_box(maps.as<void>(), w.dtype, to, map, w.dtype, from, sizes, w.d.current);
      map = maps.as<void>();
    }
    if (count > 1 || !s.direct()) {
      w.to_columns(count, windows, columns.as<void>(), true);
      windows = columns.as<void>();
    }
    cpu::GemmCall g = w.product(1, s.p, terms, count * points);
    g.a = {map, count * points, 1, {0, s.p * count * points}};
    g.b = {windows, 1, count * points, {0, terms * count * points}};
    if (first > 0) g.addend = {total, terms, 1, {0, s.p * terms}};
    g.out = total;
    multiply(g, wide);
  }
  const std::int64_t one[1] = {1}, all[1] = {size};
  if (wide != w.dtype) convert_box(out, w.dtype, one, total, wide, one, all, w.d.current);
}

void convolution(const Convolution& c, const Tensor& input, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  if (out.numel() == 0) return;
  const Work w{cpu::convolution_sizes(c, input, weight, out), rank_device(out), out.dtype()};
  const void* const addend = bias != nullptr ? bias->raw() : nullptr;
  if (!goes_direct(w.s, w.dtype)) {
    if (library_convolution(ConvolutionResult::map, w.s, w.d, w.dtype, {input.raw(), weight.raw(), out.raw(), addend})) return;
    return forward(w, input.raw(), weight.raw(), addend, out.raw());
  }
  visit_arithmetic(w.dtype, [&]<class T>(std::type_identity<T>) {
    w.with_index([&]<class I>(std::type_identity<I>) {
      launch_elements(
          "convolution", out.numel(), w.d.current,
          DirectMap<T, I>{Windows<I>(w.s), input.raw_as<const T>(), weight.raw_as<const T>(), static_cast<const T*>(addend), out.raw_as<T>()});
    });
  });
}
void convolution_input_gradient(const Convolution& c, const Tensor& grad, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  if (out.numel() == 0) return;
  const Work w{cpu::convolution_sizes(c, out, weight, grad), rank_device(out), out.dtype()};
  const void* const addend = bias != nullptr ? bias->raw() : nullptr;
  if (!goes_direct(w.s, w.dtype)) {
    if (library_convolution(ConvolutionResult::image, w.s, w.d, w.dtype, {out.raw(), weight.raw(), grad.raw(), addend})) return;
    return input_gradient(w, grad.raw(), weight.raw(), addend, out.raw());
  }
  visit_arithmetic(w.dtype, [&]<class T>(std::type_identity<T>) {
    w.with_index([&]<class I>(std::type_identity<I>) {
      launch_elements(
          "convolution input gradient", out.numel(), w.d.current,
          DirectInput<T, I>{Windows<I>(w.s), grad.raw_as<const T>(), weight.raw_as<const T>(), static_cast<const T*>(addend), out.raw_as<T>()});
    });
  });
}
void convolution_weight_gradient(const Convolution& c, const Tensor& grad, const Tensor& input, const Tensor& out) {
  if (out.numel() == 0) return;
  const Work w{cpu::convolution_sizes(c, input, out, grad), rank_device(out), out.dtype()};
  if (!goes_direct(w.s, w.dtype)) {
    if (library_convolution(ConvolutionResult::weight, w.s, w.d, w.dtype, {input.raw(), out.raw(), grad.raw()})) return;
    return weight_gradient(w, grad.raw(), input.raw(), out.raw());
  }
  visit_arithmetic(w.dtype, [&]<class T>(std::type_identity<T>) {
    const std::int64_t terms = w.s.samples * w.s.points(), threads = std::clamp<std::int64_t>((terms + kWarp - 1) / kWarp * kWarp, kWarp, 256);
    launch_blocks("convolution weight gradient", std::min(out.numel(), kMostBlocks), static_cast<int>(threads), kWarp * sizeof(Sum<T>), w.d.current,
                  DirectWeight<T>{Windows<std::int64_t>(w.s), grad.raw_as<const T>(), input.raw_as<const T>(), out.raw_as<T>()});
  });
}

}  // namespace

void install_convolution() {
  kernels::convolution.cuda = convolution;
  kernels::convolution_input_gradient.cuda = convolution_input_gradient;
  kernels::convolution_weight_gradient.cuda = convolution_weight_gradient;
}

}  // namespace dtensor::local::cuda
