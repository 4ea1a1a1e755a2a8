// SPDX-License-Identifier: Apache-2.0
// A program of a user of the installed package.
#include <dtensor/version.h>

#include <cstdio>
#include <cstring>

int main() {
  std::printf("dtensor %s\n", dtensor::version());
  return std::strcmp(dtensor::version(), dtensor::kVersion);
}
