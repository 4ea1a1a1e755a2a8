// SPDX-License-Identifier: Apache-2.0
// One recorded case on ranks: which placements its tensors get, what every rank sees, whether that is what was recorded.
#pragma once

#include <string>
#include <vector>

#include "debug/case_calls.h"
#include "debug/verify_run.h"

namespace dtensor::debug {

/// Placements for the tensors of a case (lists laid out) on a mesh of these sizes, as dtensor/cases.h says. The first is all Replicate.
std::vector<Case> placements_of(const RecordedCase& recorded, const std::vector<int>& mesh, std::uint64_t seed);

/// This rank's part of `whole`. Contributions of a Partial(sum) are parts of the value itself, so that they add up without rounding.
Tensor exact_part(const Whole& whole, const placements::Layout& layout, const Shape& coordinates);

/// Collective. The case once, forward and backward.
CaseRecord run_recorded(const RecordedCase& recorded, const CaseCall& call, const DeviceMesh& mesh, const Case& placements);

/// What is wrong with run `at`; empty when nothing is.
std::string judge(const RecordedCase& recorded, const Records& records, std::size_t at);

}  // namespace dtensor::debug
