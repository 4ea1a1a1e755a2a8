// SPDX-License-Identifier: Apache-2.0
// Job: how a rank that is a process of its own takes part in its world.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/rank.h"
#include "comm/communicator.h"
#include "comm/store/store.h"

namespace dtensor::comm {

class Job {
 public:
  virtual ~Job() = default;
  virtual std::unique_ptr<Transport> transport() = 0;
  virtual const std::atomic<bool>& over() const noexcept = 0;
  /// @throws CommError: why the world is over.
  [[noreturn]] virtual void throw_over(std::string_view op) = 0;
  /// This rank's program has ended by an error: communicators are aborted, the other ranks told.
  virtual void fail(const std::string& text) noexcept = 0;
  /// The error that ended the world is one that the rank where it arose prints.
  virtual bool printed_elsewhere() const noexcept = 0;
  /// What the rank has queued may never end, and is not the library's to stop: nothing that it uses may be freed.
  virtual bool hangs() noexcept = 0;
  /// The rank's program has ended. Returns when nobody needs this process any more.
  virtual void leave() noexcept = 0;
};

/// How many of a device's multiprocessors collectives over NCCL take: NCCL's choice, few, or none where copy engines can do it.
enum class CtaPolicy : std::uint8_t { standard, efficiency, zero };

struct JobOptions {
  std::shared_ptr<Store> store = {};
  int rank = 0, size = 1;
  Device device = Device::cuda(0);
  double time_limit_s = 300;      ///< of making a communicator, and of a collective that has started; 0: none
  bool in_rank_order = false;     ///< floating sums in rank order: the bits of the other backends
  void* adopted = nullptr;        ///< ncclComm_t of the application, over all ranks: used, neither freed nor aborted
  bool all_to_all = true;         ///< use NCCL's where it has one
  bool check = false;             ///< before a collective starts, members find out whether all have made the same call
  std::int64_t window_bytes = 0;  ///< of a communicator's symmetric window; 0: none
  CtaPolicy cta_policy = CtaPolicy::standard;
};
// Over NCCL; no_nccl.cpp stands in its place in a build without it.
bool has_nccl() noexcept;
// Of the others: @throws Unsupported for a build without NCCL.
/// Joins. @throws CommError for an NCCL that is absent or too old, or a rank that is there already.
std::shared_ptr<Job> nccl_job(const JobOptions& options);
/// For a rank that could not join: the others end with this error.
void end_job(Store& store, const std::string& text) noexcept;
struct Membership {
  int rank = 0, size = 0, device = 0;
};
/// Of an ncclComm_t. @throws CommError with NCCL's text.
Membership nccl_membership(void* comm);
/// The bytes of member 0, on every member of an ncclComm_t; waits. @throws CommError with NCCL's text, or when the limit (0: none) is exceeded.
std::string nccl_broadcast(void* comm, const Membership& membership, const std::string& bytes, double time_limit_s);

/// Where a rank finds its job (rank state).
struct JobOfRank {
  std::shared_ptr<Job> job;
};

}  // namespace dtensor::comm
