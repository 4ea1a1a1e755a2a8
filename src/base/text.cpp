// SPDX-License-Identifier: Apache-2.0
#include "dtensor/text.h"

#include <charconv>

namespace dtensor {

std::string number_text(double value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, result.ptr};
}

}  // namespace dtensor
