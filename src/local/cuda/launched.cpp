// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/launched.h"

#include "base/environment.h"
#include "base/error_text.h"
#include "base/rank.h"
#include "local/cuda/driver.h"
#include "local/cuda/unwaited.h"

namespace dtensor::local::cuda {
namespace {

thread_local int unwaited = 0;

std::string last_op() {
  const base::RankContext* rank = base::current_rank();
  const char* op = rank == nullptr ? nullptr : rank->last_call.load(std::memory_order_relaxed);
  return op == nullptr ? "" : op;
}

}  // namespace

bool waits_after_launches() {
  static const bool asked = base::env_bool("DTENSOR_CUDA_SYNC").value_or(false);
  return asked;
}

void check_launch(const char* kernel) {
  if (const std::string text = launch_error(); !text.empty()) fail_device(kernel, text);
  if (!waits_after_launches() || unwaited > 0) return;
  if (const std::string text = finish_error(); !text.empty())
    base::fail<DeviceError>("{}: kernel {} failed: {}", last_op().empty() ? "cuda" : last_op(), kernel, text);
}

void check_shared(const char* kernel, std::size_t bytes, Stream stream) {
  const std::size_t most = device_facts(device_of(stream)).shared_per_block;
  if (bytes > most) base::fail<InternalError>("kernel {} asks for {} bytes of shared memory, and a block of the device has {}", kernel, bytes, most);
}

UnwaitedLaunches::UnwaitedLaunches() noexcept { ++unwaited; }
UnwaitedLaunches::~UnwaitedLaunches() { --unwaited; }

void fail_device(const char* what, const std::string& text) {
  const std::string op = last_op();
  base::fail<DeviceError>("{}: {}{}", op.empty() ? what : fmt::format("{} ({})", op, what), text,
                          waits_after_launches() ? "" : "; it may be of a kernel queued earlier: run with DTENSOR_CUDA_SYNC=1 to learn which");
}

}  // namespace dtensor::local::cuda
