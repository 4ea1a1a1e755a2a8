// SPDX-License-Identifier: Apache-2.0
#include "dtensor/version.h"

#include <doctest/doctest.h>

#include <string>

TEST_CASE("the library has the version of its headers") { CHECK(std::string(dtensor::version()) == dtensor::kVersion); }
