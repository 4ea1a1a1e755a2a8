// SPDX-License-Identifier: Apache-2.0
// Errors. Two families: after InvalidArgument and Unsupported nothing has changed and the world stays usable, and every
// rank of the call throws the same text or none; after the others the world is over and each later call throws it again.
// Text: "op: what (values); way out", lower case, the values of both sides printed.
#pragma once

#include <stdexcept>

#include "dtensor/export.h"

namespace dtensor {

/// Base of all errors thrown by the library.
struct DTENSOR_EXPORT Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// The caller's fault, seen from metadata before a byte moves; correct the call and go on.
struct DTENSOR_EXPORT InvalidArgument : Error {
  using Error::Error;
};
/// A legal call that this build or backend cannot do; nothing has changed.
struct DTENSOR_EXPORT Unsupported : Error {
  using Error::Error;
};
/// A rank failed, left, disagreed or did not come within the time limit. The world is over.
struct DTENSOR_EXPORT CommError : Error {
  using Error::Error;
};
/// Out of memory, or a device fault. The world is over.
struct DTENSOR_EXPORT DeviceError : Error {
  using Error::Error;
};
/// A defect of this library.
struct DTENSOR_EXPORT InternalError : Error {
  using Error::Error;
};

}  // namespace dtensor
