// SPDX-License-Identifier: Apache-2.0
// Recorded cases of ops: runs a folder of calls with inputs, attributes, expected results and expected gradients (docs/cases.md) on one rank and sharded.
//
//   CasesReport report = check_cases("cases/ops");
//   std::puts(to_string(report).c_str());
//
//  * A case passes when every run of it gives results and gradients of the expected shape and dtype, within the case's tolerance, replicas alike.
//  * Runs: on one rank (strided inputs as views); then on every mesh with all inputs split along their first, second, ... dimension, each input alone split
//    along each dimension, each floating input alone Partial, and random mixtures with StridedShard and RaggedShard. Nothing is Partial, nor is a gradient that
//    comes in, if some value of the case is not finite: parts of infinity times 0 are NaN. A case that fails on one rank is not run on the meshes.
//  * A case is a call of the public function of that name where it is more than one op (losses with weights, pieces, optimisers), else of the op of that name
//    (find_op); if its signature does not take the case, the overloads "<name>.<overload>" are tried, and numbers that stand for tensors become tensors
//    without dimensions. An unknown op or attribute is a failure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/values.h"

namespace dtensor {

struct CaseFailure {
  std::string id, mesh, placements, text;
};
/// "softmax.3 on 2x2 {0: S(0), 1: R}: result 0: element [1, 2] is 0.5, expected 0.25".
DTENSOR_EXPORT std::string to_string(const CaseFailure& failure);

struct CasesOptions {
  std::vector<std::string> meshes = {"2", "3", "2x2"};  ///< "2x2" or "dp=2,tp=2"
  std::string op = {};                                  ///< only cases of this op
  std::string family = {};                              ///< only cases of this family
  Device device = {};                                   ///< of the tensors of all ranks
  bool fail_fast = false;                               ///< stop after the first case that fails
  std::uint64_t seed = 0;                               ///< of the random placements
  std::function<void(const CaseFailure&)> on_failure = {};
};

struct CasesReport {
  struct Family {
    std::string name;
    std::int64_t passed = 0, failed = 0;  ///< cases
  };
  std::int64_t passed = 0, failed = 0;  ///< cases
  std::int64_t runs = 0;                ///< calls with one choice of placements, forward and backward
  std::vector<Family> families;         ///< in order of first case
  std::vector<CaseFailure> failures;    ///< runs that failed, at most one per case and mesh
  bool ok() const noexcept { return failed == 0; }
};
/// A line per failure, then "1263 passed, 0 failed".
DTENSOR_EXPORT std::string to_string(const CasesReport& report);

/// Starts its own ranks (threads). @throws InvalidArgument on a thread that is a rank, and for a folder that cannot be read, an op or family without cases.
/// What run_ranks throws for the device.
DTENSOR_EXPORT CasesReport check_cases(const std::string& directory, const CasesOptions& options = {});

}  // namespace dtensor
