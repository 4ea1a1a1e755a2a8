// SPDX-License-Identifier: Apache-2.0
// Throwing with a formatted text: fail<InvalidArgument>("mesh: axis '{}' is repeated; ...", name).
#pragma once

#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "dtensor/error.h"

namespace dtensor::base {

template <class E, class... A>
[[noreturn]] void fail(fmt::format_string<A...> format, A&&... arguments) {
  throw E(fmt::format(format, std::forward<A>(arguments)...));
}

}  // namespace dtensor::base
