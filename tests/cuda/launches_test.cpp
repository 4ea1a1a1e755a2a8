// SPDX-License-Identifier: Apache-2.0
// How kernels take a tensor that lies well and one that does not: in how many launches, in vectors of how many bytes, and with which bits.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "compared.h"
#include "dtensor/dtensor.h"
#include "local/kernels/activations.h"
#include "local/kernels/binary.h"
#include "local/kernels/losses.h"
#include "local/kernels/norms.h"
#include "local/kernels/optimizer.h"
#include "local/kernels/pointwise.h"
#include "local/kernels/reduce.h"
#include "local/kernels/rotary.h"
#include "local/kernels/softmax.h"
#include "under_test.h"

using namespace dtensor;
using namespace compared;
namespace cpu = local::cpu;
namespace kernels = local::kernels;
namespace emulated = local::cuda::emulated;

namespace {

constexpr std::int64_t kRows = 24, kLength = 1024;

// Tensors of one call, each so many elements behind an aligned address. `big` are walked from end to end.
struct Given {
  Dtype dtype;
  std::int64_t offset;
  std::vector<Tensor> results = {};
  std::int64_t big = 0;
  std::uint64_t seed = 0;
  bool mixed = false;  // halves beside f32, or f32 beside f64

  Tensor in(const Shape& shape = {kRows, kLength}) { return counted(there(random(shape, dtype, ++seed), offset)); }
  Tensor out(const Shape& shape = {kRows, kLength}) {
    results.push_back(in(shape));
    return results.back();
  }
  Tensor row(double low = -1) const { return there(random({kLength}, dtype, 77, low), offset); }
  Tensor f32(const Shape& shape) {
    const Tensor t = there(random(shape, wide(), 78, 0.5, 2), offset);
    results.push_back(t);
    return t;
  }
  Dtype wide() const { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }
  Tensor counted(const Tensor& t) {
    big += t.numel() == kRows * kLength ? t.bytes() : 0;
    return t;
  }
};

using Call = std::function<void()>;
struct Case {
  const char* what;
  int launches;
  Call (*prepare)(Given&);
};

const cpu::Classes kAll{.count = kLength, .runs = {{0, kLength, 0}}};
Tensor targets() {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < kRows; ++i) values.push_back(i * 37 % kLength);
  return there(Tensor::of(values, {kRows}));
}

const Case kCases[] = {
    {"relu", 1, [](Given& g) -> Call { return [x = g.in(), y = g.out()] { kernels::unary(cpu::Unary::relu, x, y); }; }},
    {"mul", 1, [](Given& g) -> Call { return [a = g.in(), b = g.in(), y = g.out()] { kernels::binary(cpu::Binary::mul, a, b, y); }; }},
    {"all rows times one", 1,
     [](Given& g) -> Call { return [a = g.in(), b = g.row(), y = g.out()] { kernels::binary(cpu::Binary::mul, a, b, y); }; }},
    {"swiglu", 1, [](Given& g) -> Call { return [a = g.in(), b = g.in(), y = g.out()] { kernels::swiglu(a, b, y); }; }},
    {"swiglu backward", 1,
     [](Given& g) -> Call {
       return [dy = g.in(), a = g.in(), b = g.in(), da = g.out(), db = g.out()] { kernels::swiglu_backward(dy, a, b, da, db); };
     }},
    {"a conversion", 1,
     [](Given& g) -> Call {
       const Tensor y = there(Tensor::zeros({kRows, kLength}, g.dtype == Dtype::f32 ? Dtype::bf16 : Dtype::f32), g.offset);
       g.results.push_back(y);
       g.mixed = true;
       return [x = g.in(), y] { y.copy_(x); };
     }},
    {"softmax", 1, [](Given& g) -> Call { return [x = g.in(), y = g.out()] { kernels::softmax(x, 1, false, y); }; }},
    {"softmax backward", 1,
     [](Given& g) -> Call { return [dy = g.in(), y = g.in(), dx = g.out()] { kernels::softmax_backward(dy, y, 1, false, dx); }; }},
    {"log_softmax", 1, [](Given& g) -> Call { return [x = g.in(), y = g.out()] { kernels::softmax(x, 1, true, y); }; }},
    {"log_softmax backward", 1,
     [](Given& g) -> Call { return [dy = g.in(), y = g.in(), dx = g.out()] { kernels::softmax_backward(dy, y, 1, true, dx); }; }},
    {"cross_entropy", 1,
     [](Given& g) -> Call {
       return [x = g.in(), t = targets(), loss = g.f32({kRows}), sum = g.f32({kRows})] {
         CHECK(!kernels::cross_entropy_rows(x, t, cpu::LossOptions{.dim = 1}, loss, sum));
       };
     }},
    {"cross_entropy backward", 1,
     [](Given& g) -> Call {
       return [up = g.f32({kRows}), x = g.in(), t = targets(), sum = g.f32({kRows}), dx = g.out()] {
         kernels::cross_entropy_backward(up, x, t, &sum, kAll, cpu::LossOptions{.dim = 1}, dx);
       };
     }},
    {"layer_norm", 1,
     [](Given& g) -> Call {
       return [x = g.in(), w = g.row(), b = g.row(), y = g.out(), mean = g.f32({kRows}), rstd = g.f32({kRows})] {
         kernels::layer_norm(x, kLength, &w, &b, 1e-5, y, mean, rstd);
       };
     }},
    {"layer_norm backward", 3,
     [](Given& g) -> Call {
       return [dy = g.in(), x = g.in(), w = g.row(), mean = g.f32({kRows}), rstd = g.f32({kRows}), dx = g.out(), dw = g.out({kLength}),
               db = g.out({kLength})] { kernels::layer_norm_backward(dy, x, kLength, &w, mean, rstd, dx, dw, db); };
     }},
    {"rms_norm", 1,
     [](Given& g) -> Call {
       return [x = g.in(), w = g.row(), y = g.out(), rstd = g.f32({kRows})] { kernels::rms_norm(x, kLength, &w, 1e-5, y, rstd); };
     }},
    {"rms_norm backward", 2,
     [](Given& g) -> Call {
       return [dy = g.in(), x = g.in(), w = g.row(), rstd = g.f32({kRows}), dx = g.out(), dw = g.out({kLength})] {
         kernels::rms_norm_backward(dy, x, kLength, &w, rstd, dx, dw);
       };
     }},
    {"rotary", 1,
     [](Given& g) -> Call {
       const Shape table{8, 32};
       return [x = g.in({kRows * 2, 8, 64}), c = g.in(table), s = g.in(table), y = g.out({kRows * 2, 8, 64})] { kernels::rotary(x, c, s, false, y); };
     }},
    {"a sum along rows", 1,
     [](Given& g) -> Call { return [x = g.in(), y = g.out({kRows})] { kernels::reduce(cpu::Reduction::sum, x, Shape{1}, y); }; }},
    {"a fill", 1, [](Given& g) -> Call { return [y = g.out()] { y.fill_(1.375); }; }},
    {"a copy of a part of each row", 1,
     [](Given& g) -> Call {
       const Tensor x = Tensor::empty({kRows, kLength + 64}, g.dtype, kGpu).narrow(1, g.offset, kLength);
       x.copy_(g.in());
       return [x, y = g.out()] { y.copy_(x); };
     }},
};

void settle() { Stream::current(kGpu).synchronize(); }
std::string bits_of(const std::vector<Tensor>& list) {
  std::string all;
  for (const Tensor& t : list) {
    const Tensor here = t.to(Device::cpu()).contiguous();
    all += std::string(static_cast<const char*>(here.read()), static_cast<std::size_t>(here.bytes()));
  }
  return all;
}

struct Ran {
  int launches = 0;
  emulated::Vectors vectors;
  std::string bits;
};
Ran run(const Call& call, const std::vector<Tensor>& results) {
  settle();
  test::queued();
  emulated::taken_vectors();
  call();
  Ran ran{.launches = test::queued("launch "), .vectors = {}, .bits = {}};
  settle();
  ran.vectors = emulated::taken_vectors();
  ran.bits = bits_of(results);
  return ran;
}

}  // namespace

TEST_CASE("elementwise and row kernels are as many launches as they say, in vectors where tensors lie well and element by element where not") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f64})
    for (const Case& c : kCases) {
      CAPTURE(to_string(dtype));
      INFO(std::string(c.what));
      Given well{.dtype = dtype, .offset = 0}, shifted{.dtype = dtype, .offset = 1};
      const Ran a = run(c.prepare(well), well.results), b = run(c.prepare(shifted), shifted.results);
      CHECK(a.launches == c.launches);
      CHECK(b.launches == c.launches);
      // Every byte of the large operands at least once in a vector, of 16 bytes but for the narrower of two types.
      CHECK(well.big > 0);
      CHECK(a.vectors.bytes >= well.big);
      CHECK(a.vectors.bytes >= (dtype == Dtype::bf16 || well.mixed ? 8 : 16) * a.vectors.count);
      CHECK(a.vectors.bytes - b.vectors.bytes >= well.big);
      if (c.launches == 1) CHECK(b.vectors.bytes == 0);  // further ones add up what the first has made
      CHECK(a.bits == b.bits);
    }
}

TEST_CASE("steps of Adam read and write vectors where all of a list's tensors lie well") {
  std::vector<Ran> ran;
  for (const std::int64_t offset : {0, 1}) {
    Given g{.dtype = Dtype::f32, .offset = offset};
    const Tensor p = g.out(), grad = g.in(), m = g.out(), v = g.f32({kRows, kLength});
    std::vector<cpu::AdamCall> calls{{p, grad, m, v, Tensor(), {.step = 3}, {}}};
    ran.push_back(run([&] { kernels::adam_steps(calls); }, g.results));
  }
  CHECK(ran[0].launches == 1);
  CHECK(ran[1].launches == 1);
  CHECK(ran[0].vectors.bytes == 7 * 4 * kRows * kLength);  // reads of four, writes of three
  CHECK(ran[0].vectors.bytes >= 16 * ran[0].vectors.count);
  CHECK(ran[1].vectors.bytes == 0);
  CHECK(ran[0].bits == ran[1].bits);
}

TEST_CASE("attention of halves is one launch and reads tiles of keys and values in vectors, where these lie well") {
  run_ranks({.ranks = 1, .device = kGpu}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const NoGrad off;
    std::vector<Ran> ran;
    std::int64_t bytes = 0;
    for (const std::int64_t offset : {0, 1}) {
      std::vector<DTensor> qkv;
      for (const std::uint64_t seed : {1, 2, 3}) {
        qkv.push_back(from_local(there(random({1, 2, 200, 64}, Dtype::bf16, seed), offset), mesh, {}));
        bytes += qkv.back().local().bytes();
      }
      DTensor y;
      ran.push_back(run([&] { y = scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]); }, {}));
      ran.back().bits = bits_of({y.local()});
    }
    CHECK(ran[0].launches == 1);
    CHECK(ran[1].launches == 1);
    CHECK(ran[0].vectors.bytes >= bytes / 2);
    CHECK(ran[0].vectors.bytes == 16 * ran[0].vectors.count);
    CHECK(ran[1].vectors.bytes == 0);
    CHECK(ran[0].bits == ran[1].bits);
  });
}
