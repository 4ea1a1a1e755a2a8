// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdio>
#include <fstream>

#include <fmt/format.h>

#include "cli/commands.h"

namespace dtensor::cli {

Device read_device(const std::string& text) {
  int index = 0, read = 0;
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda(0);
  if (std::sscanf(text.c_str(), "cuda:%d%n", &index, &read) == 1 && read == static_cast<int>(text.size()) && index >= 0) return Device::cuda(index);
  throw UsageError(fmt::format("--device takes cpu, cuda or cuda:N (got '{}'); for example --device cuda", text));
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (!text.empty() && text.back() != '\n') std::fputc('\n', stdout);
}

void write_file(const std::string& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  if (!out.flush()) throw Error(fmt::format("cannot write {}; give a file in a folder that exists", path));
}

std::string bytes_text(std::int64_t bytes) {
  constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes);
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
  return fmt::format("{:.4g} {}", value, units[unit]);
}

}  // namespace dtensor::cli
