// SPDX-License-Identifier: Apache-2.0
// Recorded cases of every op, computed by another program, on one rank and sharded on meshes (2), (3) and (2, 2).
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "dtensor/cases.h"

using namespace dtensor;

TEST_CASE("every recorded case holds on one rank and in every placement") {
  const char* given = std::getenv("DTENSOR_GOLDEN");
  const std::string folder = given != nullptr && *given != '\0' ? std::string(given) : std::string(DTENSOR_SOURCE_DIR) + "/tests/golden";
  const CasesReport report = check_cases(folder + "/ops");
  for (const CaseFailure& failure : report.failures) FAIL_CHECK(to_string(failure));
  MESSAGE(to_string(report).substr(to_string(report).rfind('\n') + 1));
  CHECK(report.failures.empty());
  CHECK(report.passed > 0);
}
