// SPDX-License-Identifier: Apache-2.0
// Several NCCL ranks on one GPU: processes that NCCL takes for machines of their own, so that it lets them share it. They talk over sockets of this machine.
#pragma once

#include <string>
#include <vector>

namespace dtensor::testing {

struct Processes {
  std::vector<int> codes;          ///< of each rank; -1: ended by a signal, or by the time limit
  std::vector<std::string> texts;  ///< what each wrote
  /// Why NCCL has refused ranks like these, empty: it has not.
  std::string refusal() const;
};
/// This program again, once per rank, for one of its test cases.
Processes run_processes(int ranks, const std::string& test_case, double time_limit_s);

}  // namespace dtensor::testing
