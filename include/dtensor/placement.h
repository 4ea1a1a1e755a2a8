// SPDX-License-Identifier: Apache-2.0
// Placements: how a tensor lies on the ranks of a mesh, one placement per mesh axis.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dtensor/export.h"

namespace dtensor {

/// How contributions are combined. Partial takes the first five; the bitwise ones are for functional collectives of integers.
enum class ReduceOp : std::uint8_t { sum, avg, min, max, product, band, bor, bxor };
DTENSOR_EXPORT std::string to_string(ReduceOp op);

/// Dimension `dim` is cut into ceil chunks: of n over k ranks, rank r holds [min(n, r*c), min(n, (r+1)*c)), c = ceil(n/k).
/// dim < 0 counts from the end.
struct Shard {
  int dim;
  explicit constexpr Shard(int d) : dim(d) {}
  friend constexpr bool operator==(const Shard&, const Shard&) = default;
};
/// The dimension is cut into `split_factor` ceil chunks, each of those into ceil chunks over the axis; a rank holds its chunk of every piece.
struct StridedShard {
  int dim;
  std::int64_t split_factor;
  constexpr StridedShard(int d, std::int64_t f) : dim(d), split_factor(f) {}
  friend constexpr bool operator==(const StridedShard&, const StridedShard&) = default;
};
/// Rank r holds sizes[r] consecutive indices; the sizes add up to the dimension. Only as the first split of a dimension.
struct RaggedShard {
  int dim;
  std::vector<std::int64_t> sizes;
  friend bool operator==(const RaggedShard&, const RaggedShard&) = default;
};
/// Every rank of the axis holds the same.
struct Replicate {
  friend constexpr bool operator==(const Replicate&, const Replicate&) = default;
};
/// The value is the reduction over the ranks of the axis. Kinds on one tensor must commute: all equal, or sum with avg.
struct Partial {
  ReduceOp op;
  explicit constexpr Partial(ReduceOp o = ReduceOp::sum) : op(o) {}
  friend constexpr bool operator==(const Partial&, const Partial&) = default;
};

/// Any of the five. The members of the other kinds keep their defaults (std::variant would double what this header costs to compile).
class Placement {
 public:
  enum class Kind : std::uint8_t { replicate, shard, strided_shard, ragged_shard, partial };
  Placement() = default;
  Placement(Shard p) : kind_(Kind::shard), shard_(p) {}                           // NOLINT(google-explicit-constructor)
  Placement(StridedShard p) : kind_(Kind::strided_shard), strided_(p) {}          // NOLINT(google-explicit-constructor)
  Placement(RaggedShard p) : kind_(Kind::ragged_shard), ragged_(std::move(p)) {}  // NOLINT(google-explicit-constructor)
  Placement(Replicate) {}                                                         // NOLINT(google-explicit-constructor)
  Placement(Partial p) : kind_(Kind::partial), partial_(p) {}                     // NOLINT(google-explicit-constructor)
  Kind kind() const noexcept { return kind_; }
  bool is_replicate() const noexcept { return kind_ == Kind::replicate; }
  bool is_shard() const noexcept { return kind_ == Kind::shard; }
  bool is_partial() const noexcept { return kind_ == Kind::partial; }
  /// The placement as that type; null when it is another.
  template <class T>
  const T* as() const noexcept {
    return find(static_cast<const T*>(nullptr));
  }
  friend bool operator==(const Placement&, const Placement&) = default;

 private:
  const Replicate* find(const Replicate*) const noexcept { return is_replicate() ? &replicate_ : nullptr; }
  const Shard* find(const Shard*) const noexcept { return is_shard() ? &shard_ : nullptr; }
  const StridedShard* find(const StridedShard*) const noexcept { return kind_ == Kind::strided_shard ? &strided_ : nullptr; }
  const RaggedShard* find(const RaggedShard*) const noexcept { return kind_ == Kind::ragged_shard ? &ragged_ : nullptr; }
  const Partial* find(const Partial*) const noexcept { return is_partial() ? &partial_ : nullptr; }

  Kind kind_ = Kind::replicate;
  Replicate replicate_;
  Partial partial_;
  Shard shard_{0};
  StridedShard strided_{0, 1};
  RaggedShard ragged_{};
};
/// "S(0)", "SS(0, 2)", "Ragged(0, 4 2)", "R", "P(sum)".
DTENSOR_EXPORT std::string to_string(const Placement& placement);

/// A placement on one axis, by the axis' name or position ("dp", "0"); several names joined by '+' for a joint RaggedShard.
struct AxisPlacement {
  std::string axis;
  Placement placement;
  AxisPlacement(std::string_view a, Placement p) : axis(a), placement(std::move(p)) {}
  friend bool operator==(const AxisPlacement&, const AxisPlacement&) = default;
};

/// A list of placements, in one of two forms.
///  * positional: one per mesh axis; the splits of a dimension apply in mesh order. A wrong length is an error where a mesh meets it.
///  * by axis name: axes not named are Replicate; the written order is the order in which the splits apply.
/// An empty list is Replicate on every axis.
class DTENSOR_EXPORT Placements {
 public:
  Placements() = default;
  Placements(std::initializer_list<Placement> positional) : Placements(std::span<const Placement>(positional.begin(), positional.size())) {}
  Placements(std::initializer_list<AxisPlacement> by_axis) : by_axis_(by_axis), named_(true) {}
  explicit Placements(std::span<const Placement> positional);
  explicit Placements(std::vector<AxisPlacement> by_axis) : by_axis_(std::move(by_axis)), named_(true) {}
  /// Reads "{dp: S(0), tp: P(sum)}" (braces optional). @throws InvalidArgument with the column of the first error.
  static Placements parse(std::string_view notation);
  /// The placement on `axis` (name, or position as text for a positional list); Replicate when the list does not name it.
  /// @throws InvalidArgument for a name in a positional list that is not empty.
  Placement operator[](std::string_view axis) const;
  bool empty() const noexcept { return by_axis_.empty(); }
  /// True for the by-name form.
  bool named() const noexcept { return named_; }
  /// Entries in written order; for the positional form axis names are "0", "1", ...
  const std::vector<AxisPlacement>& entries() const noexcept { return by_axis_; }
  friend bool operator==(const Placements&, const Placements&) = default;

 private:
  std::vector<AxisPlacement> by_axis_;
  bool named_ = false;
};
/// "{dp: S(0), tp: R}".
DTENSOR_EXPORT std::string to_string(const Placements& placements);

}  // namespace dtensor
