// SPDX-License-Identifier: Apache-2.0
#include "ops/view_rules.h"

#include <vector>

namespace dtensor::ops {
namespace {

std::string term(const std::vector<std::string>& factors) {
  if (factors.empty()) return "1";
  if (factors.size() == 1) return factors[0];
  std::string text = "(";
  for (std::size_t i = 0; i < factors.size(); ++i) text += (i == 0 ? "" : " ") + factors[i];
  return text + ")";
}

std::string operand(const std::vector<std::vector<std::string>>& dims) {
  if (dims.empty()) return "()";
  std::string text;
  for (std::size_t d = 0; d < dims.size(); ++d) text += (d == 0 ? "" : " ") + term(dims[d]);
  return text;
}

// Walks both shapes from the major side and cuts common factors.
class Common {
 public:
  Common(const Shape& from, const Shape& to) : from_(from), to_(to), a_(from.size()), b_(to.size()) {}

  std::string rule() {
    int i = 0, j = 0;
    std::int64_t left = 0, right = 0;  // what is left of dims i and j; 0: not begun
    while (i < from_.ndim() || j < to_.ndim()) {
      if (left == 0 && i < from_.ndim()) left = from_[i];
      if (right == 0 && j < to_.ndim()) right = to_[j];
      // The order of the cases matters, so equal branches stay apart.
      // NOLINTNEXTLINE(bugprone-branch-clone)
      if (i == from_.ndim()) {  // only sizes of one are left
        ++j, right = 0;
      } else if (j == to_.ndim()) {  // NOLINT(bugprone-branch-clone)
        ++i, left = 0;
      } else if (left == right) {
        common(i, j);
        ++i, ++j, left = right = 0;
      } else if (left == 1) {
        ++i, left = 0;
      } else if (right == 1) {
        ++j, right = 0;
      } else if (left % right == 0) {
        common(i, j);
        left /= right, ++j, right = 0;
      } else if (right % left == 0) {
        common(i, j);
        right /= left, ++i, left = 0;
      } else {
        whole(i, j, left, right);
      }
    }
    std::string text = operand(a_) + " -> " + operand(b_);
    for (std::size_t k = 0; k < whole_.size(); ++k) text += (k == 0 ? "    " : ", ") + whole_[k];
    if (!whole_.empty()) text += ": whole";
    return text + (whole_.empty() ? "    linear; monotone" : "; linear; monotone");
  }

 private:
  void common(int i, int j) {
    const std::string name = "f" + std::to_string(count_++);
    a_[static_cast<std::size_t>(i)].push_back(name);
    b_[static_cast<std::size_t>(j)].push_back(name);
  }

  // Sizes share no factor: everything up to the next common bound stays whole.
  void whole(int& i, int& j, std::int64_t& left, std::int64_t& right) {
    std::int64_t a = left, b = right;
    int k = i, l = j;
    while (a != b) {
      if (a < b) a *= from_[++k];
      else b *= to_[++l];
    }
    for (int d = i; d <= k; ++d) {
      const std::string name = "w" + std::to_string(count_++);
      a_[static_cast<std::size_t>(d)].push_back(name);
      whole_.push_back(name);
    }
    for (int d = j; d <= l; ++d) {
      const std::string name = "v" + std::to_string(count_++);
      b_[static_cast<std::size_t>(d)].push_back(name);
      whole_.push_back(name);
    }
    i = k + 1, j = l + 1, left = right = 0;
  }

  const Shape& from_;
  const Shape& to_;
  std::vector<std::vector<std::string>> a_, b_;
  std::vector<std::string> whole_;
  int count_ = 0;
};

}  // namespace

std::string names(int ndim, std::string_view prefix) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += (d == 0 ? "" : " ") + std::string(prefix) + std::to_string(d);
  return ndim == 0 ? "()" : text;
}

std::string reshape_rule(const Shape& from, const Shape& to) {
  if (from.numel() == 0) {
    // Products of zero say nothing: equal leading dimensions correspond, the rest is whole.
    std::string a, b, whole;
    for (int d = 0; d < from.ndim(); ++d) {
      const bool same = d < to.ndim() && from[d] == to[d];
      a += (a.empty() ? "" : " ") + std::string(same ? "f" : "w") + std::to_string(d);
      if (!same) whole += (whole.empty() ? "" : ", ") + std::string("w") + std::to_string(d);
    }
    for (int d = 0; d < to.ndim(); ++d)
      b += (b.empty() ? "" : " ") + std::string(d < from.ndim() && from[d] == to[d] ? "f" : "v") + std::to_string(d);
    return (a.empty() ? "()" : a) + " -> " + (b.empty() ? "()" : b) + (whole.empty() ? "" : "    " + whole + ": whole");
  }
  return Common(from, to).rule();
}

bool fill_size(Shape& shape, std::int64_t numel) {
  int open = -1;
  std::int64_t known = 1;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (shape[d] == -1) {
      if (open >= 0) return false;
      open = d;
    } else if (shape[d] < 0) {
      return false;
    } else {
      known *= shape[d];
    }
  }
  if (open < 0) return known == numel;
  if (known == 0 || numel % known != 0) return false;
  shape[open] = numel / known;
  return true;
}

std::string window(std::string_view dim, std::string_view of, const WindowText& map) {
  const auto term = [](std::int64_t n) { return (n < 0 ? "- " : "+ ") + std::to_string(n < 0 ? -n : n); };
  std::string text = std::string(dim) + ": window(" + (map.num == 1 ? "" : map.num == -1 ? "-" : std::to_string(map.num) + " ") + std::string(of);
  if (map.low != 0 || map.high != map.low) text += " " + term(map.low);
  if (map.high != map.low) text += " .. " + std::to_string(map.high);
  if (map.den != 1) text += " / " + std::to_string(map.den);
  return text + (map.wrap ? ", wrap)" : ")");
}

}  // namespace dtensor::ops
