// SPDX-License-Identifier: Apache-2.0
// Kernels that share their work among threads, and that read and write rows in place where these are whole chunks: neither may change a bit.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "local/as_rank.h"
#include "local/cpu/binary.h"
#include "local/cpu/losses.h"
#include "local/cpu/norms.h"
#include "local/cpu/reduce.h"
#include "local/cpu/softmax.h"

using namespace dtensor;
namespace cpu = dtensor::local::cpu;

namespace {

Tensor normal(const Shape& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0, 2);
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (float& v : values) v = value(random);
  return Tensor::of(values, shape);
}
Tensor empty(const Shape& shape) { return Tensor::empty(shape, Dtype::f32); }
// The same numbers at an address that is no multiple of a vector.
Tensor shifted(const Tensor& t) {
  const Tensor room = empty({t.numel() + 1}), part = room.narrow(0, 1, t.numel()).view(t.shape());
  part.copy_(t);
  return part;
}
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && (a.numel() == 0 || std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.numel()) * sizeof(float)) == 0);
}
void check_close(const Tensor& got, const std::vector<double>& wanted) {
  const auto v = got.values<const float>();
  REQUIRE(v.size() == wanted.size());
  for (std::size_t i = 0; i < v.size(); ++i) REQUIRE(std::fabs(static_cast<double>(v[i]) - wanted[i]) <= 2e-5 * (1 + std::fabs(wanted[i])));
}

struct Kernel {
  std::string name;
  std::function<std::vector<Tensor>(const Tensor& x, const Tensor& g)> run;  // of two [rows, n] tensors
};
std::vector<Tensor> norms(const Tensor& x, const Tensor& g, bool rms) {
  const std::int64_t rows = x.shape()[0], n = x.shape()[1];
  const Tensor w = normal({n}, 3), b = normal({n}, 4), y = empty(x.shape()), gx = empty(x.shape()), gw = empty({n}), gb = empty({n}),
               mean = empty({rows}), rstd = empty({rows});
  if (rms) {
    cpu::rms_norm(x, n, &w, 1e-5, y, rstd);
    cpu::rms_norm_backward(g, x, n, &w, rstd, gx, gw);
    return {y, rstd, gx, gw};
  }
  cpu::layer_norm(x, n, &w, &b, 1e-5, y, mean, rstd);
  cpu::layer_norm_backward(g, x, n, &w, mean, rstd, gx, gw, gb);
  return {y, mean, rstd, gx, gw, gb};
}
std::vector<Tensor> softmaxes(const Tensor& x, const Tensor& g, bool logarithm) {
  const Tensor y = empty(x.shape()), gx = empty(x.shape());
  cpu::softmax(x, 1, logarithm, y);
  cpu::softmax_backward(g, y, 1, logarithm, gx);
  return {y, gx};
}
std::vector<Tensor> losses(const Tensor& x, const Tensor& g, double smoothing) {
  const std::int64_t rows = x.shape()[0], n = x.shape()[1];
  std::vector<std::int64_t> classes(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<std::int64_t>(i * 7) % n;
  const Tensor target = Tensor::of(classes, {rows}), loss = empty({rows}), lse = empty({rows}), up = g.narrow(1, 0, 1).contiguous().view({rows}),
               gx = empty(x.shape()), error = empty(x.shape()), picked = empty({rows});
  const cpu::LossOptions options{.dim = 1, .ignore_index = -100, .label_smoothing = smoothing};
  const cpu::Classes all{.count = n, .runs = {{0, n, 0}}};
  cpu::cross_entropy_rows(x, target, options, loss, lse);
  cpu::cross_entropy_backward(up, x, target, &lse, all, options, gx);
  cpu::target_logit(x, target, all, options, 1, picked);
  cpu::squared_error(x, g, error);
  return {loss, lse, gx, picked, error};
}
std::vector<Tensor> reductions(const Tensor& x, const Tensor&) {
  std::vector<Tensor> results;
  const std::int64_t rows = x.shape()[0], n = x.shape()[1];
  const std::vector<std::pair<Shape, Shape>> cases{{{1}, {rows}}, {{0}, {n}}, {{0, 1}, {}}};
  for (const auto& [dims, shape] : cases) {
    for (const cpu::Reduction kind : {cpu::Reduction::sum, cpu::Reduction::max, cpu::Reduction::square_sum}) {
      results.push_back(empty(shape));
      cpu::reduce(kind, x, dims, results.back());
    }
    if (x.numel() == 0) continue;
    results.push_back(empty(shape));
    cpu::variance(x, dims, 0, false, results.back());
  }
  results.push_back(empty({rows}));
  cpu::log_sum_exp(x, {1}, results.back());
  results.push_back(empty({rows}));
  cpu::exp_sum(x, normal({rows}, 5), {1}, results.back());
  return results;
}
// A row, a column and a number spread over a matrix: not one run of memory.
std::vector<Tensor> broadcasts(const Tensor& x, const Tensor& g) {
  const Tensor row = normal({x.shape()[1]}, 6), a = empty(x.shape()), b = empty(x.shape()), c = empty({x.shape()[1], x.shape()[0]});
  const Scalar alpha = 1;
  cpu::binary(cpu::Binary::add, cpu::Value(x), cpu::Value(row), a, &alpha);
  cpu::binary(cpu::Binary::mul, cpu::Value(x), cpu::Value(g.narrow(1, 0, 1)), b);
  cpu::binary(cpu::Binary::mul, cpu::Value(x.transpose(0, 1)), cpu::Value(Scalar(3.0)), c);
  return {a, b, c};
}
std::vector<Kernel> kernels() {
  return {{"softmax", [](const Tensor& x, const Tensor& g) { return softmaxes(x, g, false); }},
          {"log_softmax", [](const Tensor& x, const Tensor& g) { return softmaxes(x, g, true); }},
          {"layer_norm", [](const Tensor& x, const Tensor& g) { return norms(x, g, false); }},
          {"rms_norm", [](const Tensor& x, const Tensor& g) { return norms(x, g, true); }},
          {"cross_entropy", [](const Tensor& x, const Tensor& g) { return losses(x, g, 0); }},
          {"cross_entropy with smoothing", [](const Tensor& x, const Tensor& g) { return losses(x, g, 0.1); }},
          {"reduce", reductions},
          {"broadcast", broadcasts}};
}
constexpr std::int64_t kSizes[][2]{{0, 64}, {1, 1}, {1, 64}, {3, 100}, {700, 64}, {700, 100}, {2100, 5}, {5, 40000}, {1, 200000}};

}  // namespace

TEST_CASE("threads and the address of the memory change no bit") {
  for (const auto& [rows, n] : kSizes) {
    const Tensor x = normal({rows, n}, 1), g = normal({rows, n}, 2);
    for (const Kernel& kernel : kernels()) {
      CAPTURE(kernel.name);
      CAPTURE(rows);
      CAPTURE(n);
      const std::vector<Tensor> alone = kernel.run(x, g);
      const Rank rank(3);
      const std::vector<Tensor> shared = kernel.run(x, g), moved = kernel.run(shifted(x), shifted(g));
      for (std::size_t i = 0; i < alone.size(); ++i) {
        CAPTURE(i);
        CHECK(same_bits(alone[i], shared[i]));
        CHECK(same_bits(alone[i], moved[i]));
      }
    }
  }
}

TEST_CASE("weights' gradients of norms are the sums over all rows, however many groups of rows there are") {
  for (const std::int64_t rows : {0, 1, 63, 64, 65, 130, 1000}) {
    for (const std::int64_t n : {1, 64, 100}) {
      const Tensor x = normal({rows, n}, 1), g = normal({rows, n}, 2);
      for (const bool rms : {false, true}) {
        const std::vector<Tensor> got = norms(x, g, rms);
        const auto xs = x.values<const float>(), gs = g.values<const float>();
        std::vector<double> wanted(static_cast<std::size_t>(n)), wanted_bias(wanted);
        for (std::int64_t r = 0; r < rows; ++r) {
          double mean = 0, squares = 0;
          const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(r * n + i); };
          for (std::int64_t i = 0; i < n && !rms; ++i) mean += static_cast<double>(xs[at(i)]) / static_cast<double>(n);
          for (std::int64_t i = 0; i < n; ++i) squares += std::pow(static_cast<double>(xs[at(i)]) - mean, 2) / static_cast<double>(n);
          for (std::int64_t i = 0; i < n; ++i) {
            const double up = static_cast<double>(gs[at(i)]);
            wanted[static_cast<std::size_t>(i)] += up * (static_cast<double>(xs[at(i)]) - mean) / std::sqrt(squares + 1e-5);
            wanted_bias[static_cast<std::size_t>(i)] += up;
          }
        }
        check_close(rms ? got[3] : got[4], wanted);
        if (!rms) check_close(got[5], wanted_bias);
      }
    }
  }
}

TEST_CASE("a row with NaN or infinity is NaN in softmax and cross entropy, in place or not, and leaves its neighbours alone") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t n : {64, 65, 128}) {
    for (const float bad : {nan, -nan, inf}) {
      for (const std::int64_t where : {std::int64_t{0}, n - 1}) {
        const Tensor clean = normal({3, n}, 1), x = clean.clone(), g = normal({3, n}, 2);
        x.raw_as<float>()[n + where] = bad;
        const std::vector<Tensor> without = softmaxes(clean, g, false), with = softmaxes(x, g, false);
        const std::vector<Tensor> loss = losses(x, g, 0), clean_loss = losses(clean, g, 0);
        for (std::int64_t i = 0; i < 3 * n; ++i) {
          if (i / n == 1) CHECK(std::isnan(with[0].raw_as<float>()[i]));
          else CHECK(with[0].raw_as<float>()[i] == without[0].raw_as<float>()[i]);
        }
        CHECK(std::isnan(loss[0].raw_as<float>()[1]));
        CHECK(loss[0].raw_as<float>()[0] == clean_loss[0].raw_as<float>()[0]);
        CHECK(loss[0].raw_as<float>()[2] == clean_loss[0].raw_as<float>()[2]);
        const Tensor lse = empty({3});
        cpu::log_sum_exp(x, {1}, lse);
        if (bad == inf) CHECK(lse.raw_as<float>()[1] == inf);
        else CHECK(std::isnan(lse.raw_as<float>()[1]));
      }
    }
  }
}
