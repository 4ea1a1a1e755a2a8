// SPDX-License-Identifier: Apache-2.0
// The op for which kernels run, for what they find wrong only later.
#pragma once

#include <string_view>

namespace dtensor::local {

/// Names the calling thread's op while the object lives.
class OpName {
 public:
  explicit OpName(std::string_view name) noexcept : outer_(current_) { current_ = name; }
  OpName(const OpName&) = delete;
  ~OpName() { current_ = outer_; }
  /// Empty: none is named.
  static std::string_view current() noexcept { return current_; }

 private:
  std::string_view outer_;
  static inline thread_local std::string_view current_;
};

}  // namespace dtensor::local
