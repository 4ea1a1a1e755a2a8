// SPDX-License-Identifier: Apache-2.0
// What stands in the place of NCCL in tests: ranks are threads of this process, devices are emulated. Every call is written down, data really move, in the
// order of the streams and as late as that allows; ranks whose calls do not match are told of, and errors can be made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comm/nccl/nccl_api.h"

namespace dtensor::comm::nccl::recorded {

struct Call {
  std::string comm;  ///< the name given to init()
  int member = 0;
  std::string verb;  ///< "AllGather"
  std::int64_t count = 0;
  Type type = Type::f32;
  Op op = kSum;             ///< of those that reduce
  double factor = 1;        ///< of a premul sum
  int peer = -1;            ///< or the root
  int group = 0;            ///< number of the group_start..group_end of its communicator; 0-based
  bool in_windows = false;  ///< both operands lie in windows of the communicator
  Stream stream = nullptr;
  /// "AllGather 4 f32", "Send 3 f32 to 1", "AllReduce 5 u8 max".
  std::string text() const;
};
/// Of all ranks since the last call, of each rank in order.
std::vector<Call> taken_calls();
/// Groups of operations of all ranks, each as the first of them, in the order in which devices have come to them since the last call.
std::vector<std::string> taken_starts();
/// What ranks did that does not match, since the last call; of ranks that match nothing.
std::vector<std::string> taken_mismatches();

struct Settings {
  int version = 22809;
  int lingers = 0;                    ///< how often state() is in_progress after a group
  Result init = Result::in_progress;  ///< another: what init() gives
  int fails_at = -1;                  ///< the call of a group that gives system_error and does nothing; 0-based
  bool windows = true;                ///< there are functions of windows
  bool takes_windows = true;          ///< windows are not null
  int abort_ms = 0;                   ///< what an abort takes
  bool connects = false;              ///< state() is in_progress after a group until all peers of its operations have closed theirs
};
/// From now on, for all.
void set(const Settings& settings);
/// Groups that are open, of all threads.
int open_groups();
/// With which the communicators of a name were made.
CtaPolicy policy_of(std::string_view name);
/// The communicators of a name have met an error.
void break_comm(std::string_view name, Result error);
struct Lives {
  int made = 0, aborted = 0, destroyed = 0;
  int aborts_ended = 0;
  int aborted_together = 0;    ///< of those aborted: within a group
  int opened = 0, closed = 0;  ///< windows
};
/// Of all communicators since the last call.
Lives taken_lives();

}  // namespace dtensor::comm::nccl::recorded
