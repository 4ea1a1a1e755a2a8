// SPDX-License-Identifier: Apache-2.0
// Recorded cases of every op, computed by another program, on a device: on one rank and on two.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "dtensor/cases.h"
#include "dtensor/cuda.h"

using namespace dtensor;

TEST_CASE("every recorded case holds on a device, on one rank and on two") {
  const CudaInfo here = cuda_info();
  if (here.devices.empty()) {
    MESSAGE("SKIPPED: " << here.why_none);
    return;
  }
  const char* given = std::getenv("DTENSOR_GOLDEN");
  const std::string folder = given != nullptr && *given != '\0' ? std::string(given) : std::string(DTENSOR_SOURCE_DIR) + "/tests/golden";
  CasesOptions options{.meshes = {"2"}, .device = Device::cuda(0)};
  if (const char* op = std::getenv("DTENSOR_TEST_OP")) options.op = op;
  const CasesReport report = check_cases(folder + "/ops", options);
  for (const CaseFailure& failure : report.failures) FAIL_CHECK(to_string(failure));
  MESSAGE(to_string(report).substr(to_string(report).rfind('\n') + 1) << ", " << report.runs << " runs");
  CHECK(report.passed > 0);
}
