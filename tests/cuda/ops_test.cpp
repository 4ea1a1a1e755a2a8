// SPDX-License-Identifier: Apache-2.0
// Every op on a device against the CPU: all samples, all dtypes that the op takes, rows of strides that are not row-major.
// DTENSOR_TEST_OPS=add,mul runs these alone.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/rank.h"
#include "debug/verify_run.h"
#include "dtensor/autograd.h"
#include "dtensor/cuda.h"
#include "dtensor/error.h"
#include "dtensor/generator.h"
#include "dtensor/world.h"
#include "tensor/signature.h"

using namespace dtensor;
using debug::Problem;
using debug::Whole;

namespace {

// A host that touches memory of the device faults: the op is named.
std::string_view current_op;
void name_op(int signal) {
  constexpr std::string_view kText = "\nthe host touched memory of the device in op ";
  static_cast<void>(!write(2, kText.data(), kText.size()) || !write(2, current_op.data(), current_op.size()) || !write(2, "\n", 1));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

bool is_asked(const OpDef& op) {
  const char* names = std::getenv("DTENSOR_TEST_OPS");
  if (names == nullptr || *names == '\0') return true;
  return ("," + std::string(names) + ",").find("," + std::string(op.name) + ",") != std::string::npos;
}

bool takes(const OpDef& op, Dtype dtype) {
  if (op.dtypes.empty() || op.dtypes == "any") return true;
  if (op.dtypes == "floating") return info(dtype).floating;
  if (op.dtypes == "number") return dtype != Dtype::boolean;
  return op.dtypes.find(to_string(dtype)) != std::string_view::npos;
}

struct Outcome {
  std::string error;
  std::vector<Dtype> dtypes;
  std::vector<Shape> shapes;
  std::vector<std::vector<double>> values;
};

// The problem on one rank whose tensors live on `device`. Every second matrix is given as the transpose of what its transpose holds.
Outcome run_on(const Problem& p, Device device, const DeviceMesh& mesh, bool strided) {
  Outcome result;
  base::current_rank()->device = device;
  try {
    const NoGrad off;
    manual_seed(5);
    std::vector<DTensor> inputs;
    for (std::size_t i = 0; i < p.inputs.size(); ++i) {
      if (!p.present[i]) {
        inputs.emplace_back();
        continue;
      }
      Tensor t = debug::from_numbers(p.inputs[i].values, p.inputs[i].shape, p.inputs[i].dtype);
      if (strided && t.ndim() >= 2) t = t.transpose(0, t.ndim() - 1).contiguous().to(device).transpose(0, t.ndim() - 1);
      inputs.push_back(from_local(t.to(device), mesh, {}));
    }
    Results results;
    if (p.types.empty()) {
      results = {call_on(p.op, mesh, {}, device, p.attributes)};
    } else {
      std::vector<Input> borrowed(inputs.begin(), inputs.end());
      results = call_all(p.op, borrowed, p.attributes);
    }
    for (const DTensor& r : results) {
      const Tensor local = r.local();
      if (!(local.device() == device)) result.error = "a result is on " + to_string(local.device());
      result.dtypes.push_back(local.dtype());
      result.shapes.push_back(local.shape());
      result.values.push_back(debug::numbers(local.to(Device::cpu()).contiguous()));
    }
  } catch (const Error& e) {
    result = {};  // a device may find it after the shapes
    result.error = e.what();
  }
  base::current_rank()->device = Device::cpu();
  return result;
}

double tolerance(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return 1e-11;
    case Dtype::f32:
      return 2e-5;
    case Dtype::bf16:
      return 1.0 / 64;
    case Dtype::f16:
      return 1.0 / 512;
    default:
      return 0;
  }
}

std::string difference(const Outcome& cpu, const Outcome& device) {
  if (cpu.error != device.error) return "the CPU says \"" + cpu.error + "\", the device \"" + device.error + "\"";
  if (cpu.shapes != device.shapes || cpu.dtypes != device.dtypes) return "shapes or dtypes differ";
  for (std::size_t o = 0; o < cpu.values.size(); ++o) {
    double scale = 1;
    for (double v : cpu.values[o])
      if (std::isfinite(v)) scale = std::max(scale, std::min(std::abs(v), 16.0));
    for (std::size_t i = 0; i < cpu.values[o].size(); ++i) {
      const double a = cpu.values[o][i], b = device.values[o][i];
      if ((std::isnan(a) && std::isnan(b)) || a == b) continue;
      if (std::abs(a - b) <= tolerance(cpu.dtypes[o]) * std::max(scale, std::abs(a))) continue;
      return "result " + std::to_string(o) + " element " + std::to_string(i) + ": CPU " + std::to_string(a) + ", device " + std::to_string(b);
    }
  }
  return "";
}

}  // namespace

TEST_CASE("every op gives on a device what it gives on the CPU, in every dtype that it takes") {
  if (const CudaInfo here = cuda_info(); here.devices.empty()) {
    MESSAGE("SKIPPED: " << here.why_none);
    return;
  }
  std::signal(SIGSEGV, name_op);
  std::set<std::string> wrong, ran;
  std::int64_t cases = 0;
  run_ranks({.ranks = 1}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    for (const OpDef* op : all_ops()) {
      if (op->samples == nullptr || op->shape == nullptr || !is_asked(*op)) continue;
      const auto signature = tensor::parse_signature(*op);
      current_op = op->name;
      std::string first;
      for (const Sample& sample : op->samples())
        for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean}) {
          if (!takes(*op, dtype) || (!sample.dtypes.empty() && dtype != Dtype::f32 && dtype != Dtype::f64 && dtype != Dtype::bf16)) continue;
          std::optional<Problem> made;
          try {
            made.emplace(*op, signature, sample, dtype, 1);
          } catch (const InvalidArgument&) { continue; }  // the op refuses the dtype
          const Problem& p = *made;
          for (bool strided : {false, true}) {
            const std::string d = difference(run_on(p, Device::cpu(), mesh, strided), run_on(p, Device::cuda(0), mesh, strided));
            ++cases;
            if (!d.empty() && first.empty()) first = "(" + p.text() + (strided ? ", strided): " : "): ") + d;
          }
        }
      ran.insert(std::string(op->name));
      if (!first.empty()) wrong.insert(std::string(op->name) + first);
    }
  });
  for (const std::string& w : wrong) MESSAGE(w);
  MESSAGE((ran.size() - wrong.size()) << " of " << ran.size() << " ops agree, " << cases << " cases");
  CHECK(wrong.empty());
  CHECK(!ran.empty());
}
