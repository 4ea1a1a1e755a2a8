// SPDX-License-Identifier: Apache-2.0
// A work that a program may ask about in a loop: asking does what can be done.
#pragma once

#include "local/storage.h"

namespace dtensor::comm {

class PolledWork : public local::PendingWork {
 public:
  /// Does parts that nobody has taken; never blocks.
  virtual void poll() = 0;
};

}  // namespace dtensor::comm
