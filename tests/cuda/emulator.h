// SPDX-License-Identifier: Apache-2.0
// What stands in the place of a GPU in tests: device code runs on the host, and the driver keeps a list of what was queued where.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "local/cuda/driver.h"

namespace dtensor::local::cuda::emulated {

struct Entry {
  std::string what;  ///< "launch fill", "copy to_device 64", "record 3", "order after 3", "host waits"
  Stream stream = nullptr;
};
/// Of the calling thread since the last call.
std::vector<Entry> taken_entries();
/// Devices that there are (default 2), and the bytes of each (default 1 GiB).
void set_devices(int count, std::int64_t bytes);
inline constexpr int kMultiprocessors = 4;
inline constexpr std::size_t kShared = 227 << 10;
/// Multiprocessors of each device, and the shared memory that a block may ask for.
void set_parts(int multiprocessors = kMultiprocessors, std::size_t shared = kShared);
/// Queues a function of the host on a stream.
void queue_host(Stream stream, std::function<void()> work);
/// The same for work that may have to wait for other streams: it is tried again while it returns false.
void queue_when(Stream stream, std::function<bool()> work);
/// The same for work that is made when it is queued, which is at every launch of a graph where the stream records, and told how many works the stream of
/// the launch has had with it.
void queue_made(Stream stream, std::function<std::function<bool()>(Stream stream, std::uint64_t number)> make);
/// Runs what can run of the first `count` works of a stream. Inside a work only.
void run_up_to(Stream stream, std::uint64_t count);
/// While it is held no work runs on any stream.
std::unique_lock<std::recursive_mutex> stopped();
/// The next launch of `kernel` that runs fails like one that leaves its memory: the error sticks until clear_failure().
void fail_kernel(std::string kernel);
void clear_failure();
/// Destroys a stream when what is queued on it has run. The next make_stream() gives its handle again.
void free_stream(Stream stream) noexcept;
/// How blocks of a launch, threads of a block between two meetings, and threads of an elementwise launch follow each other from now on (default: upwards,
/// those of a block upwards and downwards by turns).
enum class Order { upwards, downwards, mixed };
void set_order(Order order);
/// What kernels have read and written as vectors (as_vector) since the last call, on all devices.
struct Vectors {
  std::int64_t count = 0, bytes = 0;
};
Vectors taken_vectors();
/// Memory in use on a device.
std::int64_t bytes_in_use(int device);

}  // namespace dtensor::local::cuda::emulated
