// SPDX-License-Identifier: Apache-2.0
// One answer for all ranks of the world: what one rank finds wrong is an error on each.
#pragma once

#include <functional>
#include <string_view>

namespace dtensor::checkpoints {

/// Collective over the world. Runs `f` on every rank; when it throws on any, every rank throws InvalidArgument with the text of the first such rank.
void together(std::string_view what, const std::function<void()>& f);

}  // namespace dtensor::checkpoints
