// SPDX-License-Identifier: Apache-2.0
// Window: memory of one communicator that is registered with it on all members, so that NCCL's symmetric kernels (and its copy engines) can carry what lies
// there. Collectives of little data go through it; the copies to it and from it cost less than those kernels save.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/nccl/nccl_api.h"

namespace dtensor::comm::nccl {

struct Exchange;
struct Launch;
struct Prepared;

/// Where the operands of a collective lie instead.
struct Slots {
  const Prepared* operation = nullptr;
  const Exchange* exchange = nullptr;
  std::byte *in = nullptr, *out = nullptr;
  std::size_t in_bytes = 0, out_bytes = 0;
};

/// Of what a collective gives and gets together, at most; more is carried where it lies. All members see the same numbers.
inline constexpr std::size_t kStagedBytes = std::size_t{1} << 20;

class Window {
 public:
  /// Whether anything of the launch goes through a window of `bytes`; the same on all members.
  static bool carries(const Launch& launch, int members, std::size_t bytes, CtaPolicy policy);
  bool is_open() const noexcept { return open_ != nullptr; }
  /// Collective, once. What it gives may be in_progress, until state() of the communicator is another; then opened() says whether NCCL has taken it.
  Result open(std::size_t bytes, Comm comm);
  bool opened() const noexcept { return open_ != nullptr && open_->handle != nullptr; }
  /// Of the calls of a launch, in their order. @pre opened().
  std::vector<Slots> slots(const Launch& launch, int members, CtaPolicy policy) const;
  /// Before the communicator ends. The memory lives on until the window ends.
  Result close(Comm comm);

 private:
  // Where NCCL writes the handle later, wherever the window is by then.
  struct Open {
    void* memory = nullptr;
    std::size_t bytes = 0;
    nccl::WindowHandle handle = nullptr;
    ~Open();
  };
  std::unique_ptr<Open> open_;
};

}  // namespace dtensor::comm::nccl
