// SPDX-License-Identifier: Apache-2.0
// Typed reading of environment variables. An unset or empty variable is none; one that does not read as its type is an
// InvalidArgument that names the variable, its text and what is expected.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "dtensor/export.h"

namespace dtensor::base {

/// The text of the variable.
DTENSOR_EXPORT std::optional<std::string> env(const char* name);
/// A whole number in [least, most].
DTENSOR_EXPORT std::optional<std::int64_t> env_int(const char* name, std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                                                   std::int64_t most = std::numeric_limits<std::int64_t>::max());
/// A finite number.
DTENSOR_EXPORT std::optional<double> env_double(const char* name);
/// 1, true, yes, on or 0, false, no, off.
DTENSOR_EXPORT std::optional<bool> env_bool(const char* name);

}  // namespace dtensor::base
