// SPDX-License-Identifier: Apache-2.0
#include "base/environment.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/error_text.h"

namespace dtensor::base {

namespace {

template <class T>
bool read_number(const std::string& text, T& value) {
  const char* first = text.data();
  const char* last = first + text.size();
  if (first != last && *first == '+') ++first;
  const auto [end, error] = std::from_chars(first, last, value);
  return error == std::errc{} && end == last;
}

}  // namespace

std::optional<std::string> env(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return std::string(text);
}

std::optional<std::int64_t> env_int(const char* name, std::int64_t least, std::int64_t most) {
  const auto text = env(name);
  if (!text) return std::nullopt;
  std::int64_t value = 0;
  if (!read_number(*text, value)) fail<InvalidArgument>("{}: not a whole number ('{}'); set it to one, or unset it", name, *text);
  if (value < least || value > most)
    fail<InvalidArgument>("{}: {} is out of range ({} to {}); set it within the range, or unset it", name, value, least, most);
  return value;
}

std::optional<double> env_double(const char* name) {
  const auto text = env(name);
  if (!text) return std::nullopt;
  double value = 0;
  if (!read_number(*text, value) || !std::isfinite(value))
    fail<InvalidArgument>("{}: not a number ('{}'); set it to one such as 30 or 0.5, or unset it", name, *text);
  return value;
}

std::optional<bool> env_bool(const char* name) {
  const auto text = env(name);
  if (!text) return std::nullopt;
  if (*text == "1" || *text == "true" || *text == "yes" || *text == "on") return true;
  if (*text == "0" || *text == "false" || *text == "no" || *text == "off") return false;
  fail<InvalidArgument>("{}: neither yes nor no ('{}'); set it to 1 or 0, or unset it", name, *text);
}

}  // namespace dtensor::base
