// SPDX-License-Identifier: Apache-2.0
#include "comm/store/store.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace dtensor::comm {

std::optional<std::string> Store::wait(std::string_view key, double limit_s) {
  using namespace std::chrono;
  const auto begin = steady_clock::now();
  for (auto pause = microseconds(100);; pause = std::min(pause * 2, microseconds(20'000))) {
    if (auto value = get(key)) return value;
    if (limit_s > 0 && steady_clock::now() - begin > duration<double>(limit_s)) return std::nullopt;
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace dtensor::comm
