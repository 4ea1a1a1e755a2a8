// SPDX-License-Identifier: Apache-2.0
// A build without NCCL.
#include "base/error_text.h"
#include "comm/job.h"
#include "dtensor/nccl.h"

namespace dtensor {

NcclInfo nccl_info() {
  NcclInfo info;
  info.why_none = "this build has no NCCL; build with DTENSOR_CUDA and DTENSOR_NCCL";
  return info;
}

}  // namespace dtensor

namespace dtensor::comm {
namespace {

[[noreturn]] void refuse(const char* op) { base::fail<Unsupported>("{}: this build has no NCCL; build with DTENSOR_CUDA and DTENSOR_NCCL", op); }

}  // namespace

bool has_nccl() noexcept { return false; }
std::shared_ptr<Job> nccl_job(const JobOptions& /*options*/) { refuse("nccl"); }
void end_job(Store& /*store*/, const std::string& /*text*/) noexcept {}
Membership nccl_membership(void* /*comm*/) { refuse("adopt"); }
std::string nccl_broadcast(void* /*comm*/, const Membership& /*membership*/, const std::string& /*bytes*/, double /*time_limit_s*/) {
  refuse("adopt");
}

}  // namespace dtensor::comm
