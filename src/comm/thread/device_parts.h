// SPDX-License-Identifier: Apache-2.0
// What one part of a collective queues on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "comm/thread/collective.h"

namespace dtensor::comm {

class Collective::OnDevice {
 public:
  OnDevice(Collective& collective, local::DeviceBackend& backend, const local::DeviceStream& stream)
      : c_(collective), backend_(backend), stream_(stream) {}
  /// Kept until flush(), so that one launch does many: boxes of one launch write different memory.
  void copy(local::BoxCopy box, std::size_t element_bytes);
  void reduce(void* to, const redistribute::Piece& box, const std::vector<const void*>& sources, const std::vector<Shape>& source_strides,
              const Post& post);
  void reduce_range(std::size_t operation, std::int64_t begin, std::int64_t end);
  void flush();

 private:
  Collective& c_;
  local::DeviceBackend& backend_;
  const local::DeviceStream& stream_;
  std::vector<local::BoxCopy> copies_;
  std::size_t element_bytes_ = 0;
};

}  // namespace dtensor::comm
