// SPDX-License-Identifier: Apache-2.0
#include "base/environment.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "dtensor/error.h"

using namespace dtensor;

namespace {

constexpr const char* kName = "DTENSOR_TEST_VARIABLE";

template <class F>
std::string error_of(const char* text, F&& read) {
  ::setenv(kName, text, 1);
  try {
    read();
  } catch (const InvalidArgument& error) { return error.what(); }
  return "no error";
}

}  // namespace

TEST_CASE("an unset or empty variable is none") {
  ::unsetenv(kName);
  CHECK_FALSE(base::env(kName).has_value());
  CHECK_FALSE(base::env_int(kName).has_value());
  ::setenv(kName, "", 1);
  CHECK_FALSE(base::env_double(kName).has_value());
  CHECK_FALSE(base::env_bool(kName).has_value());
}

TEST_CASE("a variable is read whole, as its type") {
  ::setenv(kName, "-12", 1);
  CHECK(base::env(kName) == "-12");
  CHECK(base::env_int(kName) == -12);
  CHECK(base::env_double(kName) == -12.0);
  ::setenv(kName, "+0.5", 1);
  CHECK(base::env_double(kName) == 0.5);
  ::setenv(kName, "off", 1);
  CHECK(base::env_bool(kName) == false);
  ::setenv(kName, "1", 1);
  CHECK(base::env_bool(kName) == true);
}

TEST_CASE("a variable that does not read as its type is named with its text") {
  CHECK(error_of("12s", [] { base::env_int(kName); }) == "DTENSOR_TEST_VARIABLE: not a whole number ('12s'); set it to one, or unset it");
  CHECK(error_of("9", [] { base::env_int(kName, 1, 8); }) ==
        "DTENSOR_TEST_VARIABLE: 9 is out of range (1 to 8); set it within the range, or unset it");
  CHECK(error_of("soon", [] { base::env_double(kName); }) ==
        "DTENSOR_TEST_VARIABLE: not a number ('soon'); set it to one such as 30 or 0.5, or unset it");
  CHECK(error_of("inf", [] { base::env_double(kName); }) ==
        "DTENSOR_TEST_VARIABLE: not a number ('inf'); set it to one such as 30 or 0.5, or unset it");
  CHECK(error_of("maybe", [] { base::env_bool(kName); }) == "DTENSOR_TEST_VARIABLE: neither yes nor no ('maybe'); set it to 1 or 0, or unset it");
}
