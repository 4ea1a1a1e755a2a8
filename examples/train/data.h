// SPDX-License-Identifier: Apache-2.0
// Bytes as tokens: batches that depend on seed and position only, so that every mesh sees the same.
#pragma once

#include <cstdint>
#include <string>

#include <dtensor/dtensor.h>

namespace train {

struct Batch {
  dtensor::DTensor inputs, targets;  ///< i64 [batch, sequence], rows split over dp
};

class Corpus {
 public:
  /// A file, a folder (all its text, files sorted by name), or for an empty path the source text of this repository. The last tenth is for validation.
  /// @throws dtensor::InvalidArgument when it cannot be read or has fewer than 20 x (sequence + 1) bytes.
  Corpus(const std::string& path, std::int64_t batch, std::int64_t sequence, std::uint64_t seed);
  std::int64_t bytes() const noexcept { return static_cast<std::int64_t>(text_.size()); }
  /// Batch number `position` of the training part: windows drawn by (seed, position, row).
  Batch training(std::int64_t position, const dtensor::DeviceMesh& mesh) const;
  /// Batch number `index` of the validation part: windows at even distances.
  Batch validation(std::int64_t index, std::int64_t count, const dtensor::DeviceMesh& mesh) const;

 private:
  Batch windows(const std::vector<std::int64_t>& starts, const dtensor::DeviceMesh& mesh) const;
  std::string text_;
  std::int64_t batch_, sequence_, split_;
  std::uint64_t seed_;
};

}  // namespace train
