// SPDX-License-Identifier: Apache-2.0
// An application with NCCL communicators, threads, streams and memory of its own, and the library inside it. One thread per GPU plays a process of the
// application; its work comes from pool threads.
#include <cuda_runtime.h>
#include <nccl.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "adopt/filter.h"

namespace {

constexpr std::int64_t kSize = 1001;

bool good(cudaError_t code, const char* call) {
  if (code != cudaSuccess) std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(code));
  return code == cudaSuccess;
}
bool good(ncclResult_t code, const char* call) {
  if (code != ncclSuccess) std::fprintf(stderr, "%s: %s\n", call, ncclGetErrorString(code));
  return code == ncclSuccess;
}

/// Has rows begin .. end of the matrix. The sum of the squares of its column 0, or -1.
double process(ncclComm_t comm, int gpu, const std::string& folder, std::int64_t begin, std::int64_t end) {
  const auto count = static_cast<std::size_t>((end - begin) * kSize);
  std::vector<float> host(count);
  for (std::size_t i = 0; i < count; ++i) host[i] = static_cast<float>((static_cast<std::size_t>(begin * kSize) + i) % 17) - 5;
  float* rows = nullptr;
  cudaStream_t stream = nullptr;
  if (!good(cudaSetDevice(gpu), "cudaSetDevice") || !good(cudaStreamCreate(&stream), "cudaStreamCreate") ||
      !good(cudaMalloc(&rows, count * sizeof(float)), "cudaMalloc") ||
      !good(cudaMemcpyAsync(rows, host.data(), count * sizeof(float), cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync"))
    return -1;
  int failed = 0;
  const auto in_pool = [](const auto& f) { std::thread(f).join(); };
  try {
    std::unique_ptr<Filter> filter;
    in_pool([&] {
      try {
        filter = std::make_unique<Filter>(comm, gpu, stream, folder);
      } catch (const dtensor::Error& e) { std::fprintf(stderr, "%s\n", e.what()); }
    });
    for (int call = 0; call < 2 && filter != nullptr && failed == 0; ++call)
      in_pool([&] { failed = filter_apply(*filter, rows, end - begin, kSize); });
    if (filter == nullptr || failed != 0) return -1;
    if (!good(cudaMemcpyAsync(host.data(), rows, count * sizeof(float), cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync") ||
        !good(cudaStreamSynchronize(stream), "cudaStreamSynchronize"))
      return -1;
  } catch (const std::exception& e) { return std::fprintf(stderr, "%s\n", e.what()), -1; }
  good(cudaFree(rows), "cudaFree");
  good(cudaStreamDestroy(stream), "cudaStreamDestroy");
  double sum = 0;
  for (std::size_t i = 0; i < count; i += kSize) sum += static_cast<double>(host[i]) * host[i];
  return sum;
}

}  // namespace

int main() {
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) return std::puts("SKIPPED: an application over NCCL needs a GPU"), 0;
  std::string folder = (std::filesystem::temp_directory_path() / "adopt-XXXXXX").string();
  std::vector<ncclComm_t> comms(static_cast<std::size_t>(gpus));
  if (mkdtemp(folder.data()) == nullptr || !good(ncclCommInitAll(comms.data(), gpus, nullptr), "ncclCommInitAll")) return 1;
  std::vector<double> sums(comms.size());
  const std::int64_t part = (kSize + gpus - 1) / gpus;  // as Shard(0) divides rows
  std::vector<std::thread> processes;
  for (int gpu = 0; gpu < gpus; ++gpu)
    processes.emplace_back([&, gpu] {
      const auto own = static_cast<std::size_t>(gpu);
      sums[own] = process(comms[own], gpu, folder, std::min(kSize, part * gpu), std::min(kSize, part * (gpu + 1)));
    });
  for (std::thread& t : processes) t.join();
  std::filesystem::remove_all(folder);
  double mean_square = 0;
  for (const double sum : sums) {
    if (sum < 0) return 1;
    mean_square += sum / kSize;
  }
  for (ncclComm_t comm : comms) good(ncclCommDestroy(comm), "ncclCommDestroy");
  std::printf("mean square of column 0 on %d GPU(s): %g\n", gpus, mean_square);
  return std::abs(mean_square - 1) < 1e-3 ? 0 : 1;
}
