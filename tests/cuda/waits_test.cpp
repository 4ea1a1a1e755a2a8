// SPDX-License-Identifier: Apache-2.0
// What ops ask of the driver: the host never waits in an op whose result shape does not depend on data, and elementwise ops, rows and products are one launch.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "base/rank.h"
#include "debug/verify_run.h"
#include "dtensor/autograd.h"
#include "dtensor/error.h"
#include "dtensor/generator.h"
#include "dtensor/world.h"
#include "emulator.h"
#include "tensor/signature.h"

using namespace dtensor;
using debug::Problem;
namespace emulated = local::cuda::emulated;

namespace {

struct Asked {
  std::int64_t waits = 0, launches = 0;
};
Asked count_entries() {
  Asked asked;
  for (const emulated::Entry& e : emulated::taken_entries()) {
    asked.waits += e.what.starts_with("host waits");
    asked.launches += e.what.starts_with("launch ");
  }
  return asked;
}

// One call of an op on the device, by itself; nothing where the op refuses the sample.
template <class F>
void each_call(F&& f) {
  run_ranks({.ranks = 1, .device = Device::cuda(0)}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const NoGrad off;
    for (const OpDef* op : all_ops()) {
      if (op->samples == nullptr || op->shape == nullptr) continue;
      const auto signature = tensor::parse_signature(*op);
      for (const Sample& sample : op->samples()) {
        const Problem p(*op, signature, sample, Dtype::f32, 1);
        const auto inputs = [&] {
          std::vector<DTensor> made;
          for (std::size_t i = 0; i < p.inputs.size(); ++i)
            made.push_back(
                p.present[i] ? from_local(debug::from_numbers(p.inputs[i].values, p.inputs[i].shape, p.inputs[i].dtype).to(Device::cuda(0)), mesh, {})
                             : DTensor());
          return made;
        };
        const auto run = [&] {
          const std::vector<DTensor> given = inputs();
          std::vector<Input> borrowed(given.begin(), given.end());
          static_cast<void>(emulated::taken_entries());
          if (p.types.empty()) static_cast<void>(call_on(p.op, mesh, {}, Device::cuda(0), p.attributes));
          else static_cast<void>(call_all(p.op, borrowed, p.attributes));
        };
        try {
          run();  // the plan is made, and what is made once
          run();
        } catch (const InvalidArgument&) { continue; }  // the values of the sample are refused, as on the CPU
        f(*op, p, count_entries());
      }
    }
  });
}

}  // namespace

TEST_CASE("the host waits in no op whose result shape does not depend on data") {
  // Ranges and masks are data.
  const std::set<std::string> allowed{"histc", "index_put"};
  std::set<std::string> waiting;
  std::int64_t calls = 0;
  each_call([&](const OpDef& op, const Problem& p, const Asked& asked) {
    ++calls;
    if (asked.waits == 0) return;
    if (!op.data_dependent && !allowed.contains(std::string(op.name))) waiting.insert(std::string(op.name) + "(" + p.text() + ")");
  });
  for (const std::string& w : waiting) MESSAGE(w);
  CHECK(waiting.empty());
  CHECK(calls > 1000);
}

TEST_CASE("an elementwise op, a row op and a product of matrices that lie well are one launch") {
  const std::set<std::string> ops{"add",   "mul",      "relu",       "gelu", "silu", "swiglu", "where",
                                  "clamp", "rms_norm", "layer_norm", "sum",  "amax", "rotary"};
  std::set<std::string> seen;
  each_call([&](const OpDef& op, const Problem& p, const Asked& asked) {
    if (!ops.contains(std::string(op.name))) return;
    seen.insert(std::string(op.name));
    INFO(std::string(op.name) << "(" << p.text() << ")");
    CHECK(asked.launches <= 1);
  });
  CHECK(seen == ops);
}
