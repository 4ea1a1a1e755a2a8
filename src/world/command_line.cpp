// SPDX-License-Identifier: Apache-2.0
#include "world/command_line.h"

#include <charconv>
#include <string_view>

#include "base/error_text.h"

namespace dtensor::world {

namespace {

template <class T>
T number(std::string_view option, std::string_view text, std::string_view what) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !(value >= T{}))
    base::fail<InvalidArgument>("run: {} takes {} (got '{}'); for example {} 4", option, what, text, option);
  return value;
}

Device device_of(std::string_view text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return kOwnCuda;
  const std::string_view digits = text.starts_with("cuda:") ? text.substr(5) : "";
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc{} || end != digits.data() + digits.size() || index < 0 || index > 127)
    base::fail<InvalidArgument>("run: --device takes cpu, cuda or cuda:N (got '{}'); for example --device cuda", text);
  return Device::cuda(index);
}

Backend backend_of(std::string_view text) {
  if (text == "threads") return Backend::threads;
  if (text == "nccl") return Backend::nccl;
  base::fail<InvalidArgument>("run: --backend takes threads or nccl (got '{}'); for example --backend nccl", text);
}

}  // namespace

CommandLine read_command_line(std::span<char* const> argv, const RunOptions& defaults) {
  CommandLine line;
  line.options = defaults;
  std::size_t i = 0;
  if (!argv.empty()) line.rest.emplace_back(argv[i++]);
  for (; i < argv.size(); ++i) {
    const std::string_view word = argv[i];
    if (word == "--") break;
    const std::string_view name = word.substr(0, word.find('='));
    if (name != "--ranks" && name != "--threads" && name != "--time-limit" && name != "--device" && name != "--backend") {
      line.rest.emplace_back(word);
      continue;
    }
    std::string_view value;
    if (name.size() < word.size()) value = word.substr(name.size() + 1);
    else if (i + 1 < argv.size()) value = argv[++i];
    if (name == "--ranks") {
      line.options.ranks = number<int>(name, value, "a whole number of at least 1");
      if (line.options.ranks == 0) base::fail<InvalidArgument>("run: --ranks takes a whole number of at least 1 (got '0'); for example --ranks 4");
      line.ranks_given = true;
    } else if (name == "--threads") {
      line.options.threads_per_rank = number<int>(name, value, "a whole number of at least 0");
    } else if (name == "--device") {
      line.options.device = device_of(value);
    } else if (name == "--backend") {
      line.options.backend = backend_of(value);
      line.backend_given = true;
    } else {
      line.options.time_limit_s = number<double>(name, value, "seconds, 0 for none");
    }
  }
  for (; i < argv.size(); ++i) line.rest.emplace_back(argv[i]);
  return line;
}

}  // namespace dtensor::world
