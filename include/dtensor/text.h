// SPDX-License-Identifier: Apache-2.0
// Text: one printable part of a line, so that print({...}) needs no format library and no <ostream>.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "dtensor/export.h"

namespace dtensor {

/// Shortest text that reads back as the same number.
DTENSOR_EXPORT std::string number_text(double value);

/// A text, a number, or anything with a to_string() found by argument-dependent lookup.
class Text {
 public:
  Text(const char* text) : text_(text) {}                // NOLINT(google-explicit-constructor)
  Text(std::string_view text) : text_(text) {}           // NOLINT(google-explicit-constructor)
  Text(std::string text) : text_(std::move(text)) {}     // NOLINT(google-explicit-constructor)
  Text(bool value) : text_(value ? "true" : "false") {}  // NOLINT(google-explicit-constructor)
  template <std::integral T>
  requires(!std::same_as<T, bool>) Text(T value) : text_(std::to_string(value)) {}  // NOLINT(google-explicit-constructor)
  template <std::floating_point T>
  Text(T value) : text_(number_text(static_cast<double>(value))) {}  // NOLINT(google-explicit-constructor)
  template <class T>
  requires(!std::is_arithmetic_v<T> &&
           requires(const T& t) {
             { to_string(t) } -> std::convertible_to<std::string>;
           }) Text(const T& value)  // NOLINT(google-explicit-constructor)
      : text_(to_string(value)) {}
  const std::string& str() const noexcept { return text_; }

 private:
  std::string text_;
};

}  // namespace dtensor
