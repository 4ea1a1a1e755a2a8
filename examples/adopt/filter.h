// SPDX-License-Identifier: Apache-2.0
// The library inside an application that owns its communicator, threads, stream and memory: what such an application writes.
#pragma once

#include <dtensor/dtensor.h>
#include <dtensor/interop/nccl.h>

#include <cstdint>
#include <cstdio>
#include <string>

/// Scales the columns of a square matrix, whose rows lie on the ranks in blocks, to a mean square of one.
class Filter {
 public:
  /// Collective. The communicator, the stream and `folder`, which all ranks see and which is empty, outlive it.
  Filter(ncclComm_t comm, int gpu, cudaStream_t stream, const std::string& folder)
      : world_(dtensor::adopt(comm, {.device = dtensor::Device::cuda(gpu), .time_limit_s = 60, .store_folder = folder})),
        mesh_(world_.mesh({{"x", world_.size()}})),
        stream_(dtensor::Stream::wrap(stream)) {}

  /// Collective, from any thread, another one each time. On return the work is queued on the stream, not finished.
  void apply(float* rows, std::int64_t local_rows, std::int64_t n) {
    using namespace dtensor;
    const auto here = world_.enter();
    const StreamScope on(stream_);
    const NoGrad no_grad;
    const Tensor mine = Tensor::wrap(rows, {local_rows, n}, {.device = world_.device()});
    const DTensor f = from_local(mine, mesh_, {Shard(0)}, {.shape = {n, n}, .check = true});
    const DTensor columns = f.redistribute({Shard(1)});
    const DTensor scaled = columns * rsqrt(mean(square(columns), 0, {.keepdim = true}) + 1e-6);
    copy_(f, scaled);
  }

 private:
  dtensor::World world_;
  dtensor::DeviceMesh mesh_;
  dtensor::Stream stream_;
};

/// 0: queued. 1: the call was wrong, on all ranks alike. 2: the world is over, and the application aborts its communicator.
inline int filter_apply(Filter& filter, float* rows, std::int64_t local_rows, std::int64_t n) noexcept {
  try {
    filter.apply(rows, local_rows, n);
    return 0;
  } catch (const dtensor::InvalidArgument& e) { return std::fprintf(stderr, "%s\n", e.what()), 1; } catch (const dtensor::Error& e) {
    return std::fprintf(stderr, "%s\n", e.what()), 2;
  }
}
