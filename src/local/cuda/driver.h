// SPDX-License-Identifier: Apache-2.0
// The part of the CUDA runtime that the library uses, as functions. driver.cpp is the real one; tests link what stands in its place.
// Every function that queues something takes the stream. @throws DeviceError with the runtime's text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace dtensor::local::cuda {

/// Opaque. Null: none.
using Stream = void*;
using Event = void*;

/// 0 where there is no driver or no device; `why_none` then says so in words.
int device_count() noexcept;
std::string why_none();
/// 12080 is 12.8; 0: no driver.
int driver_version() noexcept;
int runtime_version() noexcept;
struct DeviceFacts {
  std::string name;
  int major = 0, minor = 0, multiprocessors = 0;
  std::size_t shared_per_block = 0;  ///< bytes of shared memory that a launch may ask for
};
/// Asked for once.
const DeviceFacts& device_facts(int device);
/// The calling thread's device.
void use_device(int device);

/// Null when the device has no more memory.
void* device_malloc(int device, std::size_t bytes);
void device_free(int device, void* memory) noexcept;
/// Of a block of `held` bytes only the first `used` may be touched by what is queued from now on; for checkers of memory, the runtime does not want to know.
void mark_used(void* memory, std::size_t used, std::size_t held, Stream stream) noexcept;
struct MemoryInfo {
  std::int64_t free = 0, total = 0;
};
MemoryInfo device_memory(int device);

/// Memory of the host that the device reads and writes at the same address. Zeros. A negative device: the thread's, whichever that is.
void* pinned_malloc(int device, std::size_t bytes);
void pinned_free(void* memory) noexcept;

/// Never destroyed.
Stream make_stream(int device);
/// No two streams of the process have the same, although a handle is given out again once its stream is destroyed.
std::uint64_t stream_id(Stream stream);
/// Whether all that is queued has run.
bool is_idle(Stream stream);
int device_of(Stream stream);
/// Kernels of `device` may use memory of `other` from now on; false where the machine cannot do that.
bool connect(int device, int other);
/// Without timing.
Event make_event(int device);
void free_event(Event event) noexcept;
void record(Event event, Stream stream);
/// What is queued on `stream` from now on runs after what `event` recorded last.
void order_after(Stream stream, Event event);
bool is_done(Event event);
void host_waits(Event event);
void host_waits_for_stream(Stream stream);

/// What one stream, and those that came to wait for it, were given while they recorded.
using Graph = void*;
/// From now on nothing that `stream` is given runs: it is written down, and so is what is queued on streams from when they wait for an event of it. Such
/// events can be waited for by streams only, and by none that does not record. Memory may be asked for, and events of before looked at.
void begin_recording(Stream stream);
bool is_recording(Stream stream);
struct EndedRecording {
  Graph graph = nullptr;  ///< null: nothing can be made of it
  std::size_t nodes = 0;
  bool unjoined = false;  ///< because a stream that waited for the recording's has not been waited for
  std::string error;      ///< why there is no graph, in the runtime's words
};
EndedRecording end_recording(Stream stream);
/// Queues all of the graph on `stream`. One graph runs once at a time, in the order of its launches.
void launch_graph(Graph graph, Stream stream);
/// Of one that does not run.
void free_graph(Graph graph) noexcept;

enum class CopyKind : std::uint8_t { to_device, to_host, on_device, pinned_to_device, device_to_pinned };
/// Memory of the host that is not pinned has been read or written when a copy from or to it returns.
void copy(void* to, const void* from, std::size_t bytes, CopyKind kind, Stream stream);
/// Of no memory for 0 bytes.
void set_bytes(void* memory, int byte, std::size_t bytes, Stream stream);

struct PointerFacts {
  bool on_device = false;  ///< memory that kernels own: not the host's, pinned or not
  int device = 0;
};
PointerFacts pointer_facts(const void* memory);

/// Why the last launch was refused, or what a kernel of before did; empty: nothing. What does not stick is forgotten.
std::string launch_error();
/// The same once all that is queued on the calling thread's device has run.
std::string finish_error();

}  // namespace dtensor::local::cuda
