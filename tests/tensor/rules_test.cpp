// SPDX-License-Identifier: Apache-2.0
// The rules of every op against one rank, on meshes (2), (3) and (2, 2): a sample of the placements, or all of them with DTENSOR_RULES=all.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "dtensor/verify.h"

using namespace dtensor;

TEST_CASE("no op has a wrong rule") {
  const char* which = std::getenv("DTENSOR_RULES");
  const bool all = which != nullptr && std::string(which) == "all";
  std::int64_t checked = 0, wrong = 0, missing = 0, explained = 0;
  for (const OpDef* op : all_ops()) {
    const VerifyReport report = verify(*op, {.limit = all ? 0 : 8});
    INFO(to_string(report));
    CHECK(report.wrong == 0);
    CHECK(report.missing == 0);
    checked += report.checked, wrong += report.wrong, missing += report.missing, explained += report.explained;
  }
  MESSAGE(checked << " checked, " << wrong << " wrong, " << missing << " missing, " << explained << " explained");
  CHECK(checked > 5000);
}

TEST_CASE("rules hold in bf16 and f16 within their rounding, for ops that take them") {
  for (const std::string_view name :
       {"add", "mul", "matmul", "softmax", "layer_norm", "rms_norm", "sum", "linear", "gelu", "embedding", "cross_entropy"}) {
    const VerifyReport report = verify(find_op(name), {.meshes = {{2}}, .missing = false, .dtypes = {Dtype::bf16, Dtype::f16}, .limit = 12});
    INFO(to_string(report));
    CHECK(report.wrong == 0);
  }
}
