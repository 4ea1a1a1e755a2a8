// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM as a flag, for programs that ask.
#pragma once

namespace dtensor::world {

/// Counted: the first installs the handlers and clears the flag, the last unwatch puts the old handlers back.
void watch_signals();
void unwatch_signals() noexcept;
bool signal_seen() noexcept;

}  // namespace dtensor::world
