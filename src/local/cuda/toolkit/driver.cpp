// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/driver.h"

#include <cuda_runtime_api.h>

#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "base/error_text.h"
#include "local/cuda/launched.h"

namespace dtensor::local::cuda {
namespace {

std::string text_of(cudaError_t code) { return fmt::format("{} ({})", cudaGetErrorString(code), cudaGetErrorName(code)); }
void check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // what does not stick is reported once
  fail_device(what, text_of(code));
}

cudaStream_t of(Stream s) { return static_cast<cudaStream_t>(s); }
cudaEvent_t of_event(Event e) { return static_cast<cudaEvent_t>(e); }

// Makes `device` current for a scope.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "device");
    if (device != before_) check(cudaSetDevice(device), "device");
    changed_ = device != before_;
  }
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() {
    if (changed_) static_cast<void>(cudaSetDevice(before_));
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace

int device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(cudaGetLastError());
  return 0;
}

std::string why_none() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());
  if (code == cudaSuccess) return count > 0 ? "" : "there is no device";
  if (code == cudaErrorInsufficientDriver && driver_version() != 0)
    return fmt::format("the driver is for CUDA {}.{}, older than {}.{}: update it", driver_version() / 1000, driver_version() % 1000 / 10,
                       runtime_version() / 1000, runtime_version() % 1000 / 10);
  if (code == cudaErrorInsufficientDriver) return "there is no driver";
  return cudaGetErrorString(code);
}

int driver_version() noexcept {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}
int runtime_version() noexcept {
  int version = 0;
  return cudaRuntimeGetVersion(&version) == cudaSuccess ? version : 0;
}

const DeviceFacts& device_facts(int device) {
  static std::mutex mutex;
  static auto* const known = new std::map<int, DeviceFacts>;
  const std::lock_guard lock(mutex);
  const auto at = known->find(device);
  if (at != known->end()) return at->second;
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, device), "device");
  return (*known)[device] = {p.name, p.major, p.minor, p.multiProcessorCount, p.sharedMemPerBlockOptin};
}

void use_device(int device) { check(cudaSetDevice(device), "device"); }

void* device_malloc(int device, std::size_t bytes) {
  const OnDevice on(device);
  void* memory = nullptr;
  const cudaError_t code = cudaMalloc(&memory, bytes);
  if (code == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  check(code, "allocate");
  return memory;
}
void device_free(int device, void* memory) noexcept {
  static_cast<void>(device);
  static_cast<void>(cudaFree(memory));
}
void mark_used(void* /*memory*/, std::size_t /*used*/, std::size_t /*held*/, Stream /*stream*/) noexcept {}
MemoryInfo device_memory(int device) {
  const OnDevice on(device);
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "memory");
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}
void* pinned_malloc(int device, std::size_t bytes) {
  std::optional<OnDevice> on;
  if (device >= 0) on.emplace(device);
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped), "allocate pinned memory");
  std::memset(memory, 0, bytes);
  return memory;
}
void pinned_free(void* memory) noexcept { static_cast<void>(cudaFreeHost(memory)); }

Stream make_stream(int device) {
  const OnDevice on(device);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  return stream;
}
std::uint64_t stream_id(Stream stream) {
  unsigned long long id = 0;
  check(cudaStreamGetId(of(stream), &id), "stream");
  return id;
}
bool is_idle(Stream stream) {
  const cudaError_t code = cudaStreamQuery(of(stream));
  if (code == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());
    return false;
  }
  check(code, "stream");
  return true;
}
int device_of(Stream stream) {
  int device = 0;
  check(cudaStreamGetDevice(of(stream), &device), "stream");
  return device;
}
bool connect(int device, int other) {
  int can = 0;
  check(cudaDeviceCanAccessPeer(&can, device, other), "peer access");
  if (can == 0) return false;
  const OnDevice on(device);
  const cudaError_t code = cudaDeviceEnablePeerAccess(other, 0);
  if (code == cudaErrorPeerAccessAlreadyEnabled) static_cast<void>(cudaGetLastError());
  else check(code, "peer access");
  return true;
}
Event make_event(int device) {
  const OnDevice on(device);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
  return event;
}
void free_event(Event event) noexcept { static_cast<void>(cudaEventDestroy(of_event(event))); }
void record(Event event, Stream stream) { check(cudaEventRecord(of_event(event), of(stream)), "event"); }
void order_after(Stream stream, Event event) { check(cudaStreamWaitEvent(of(stream), of_event(event), 0), "stream"); }
bool is_done(Event event) {
  const cudaError_t code = cudaEventQuery(of_event(event));
  if (code == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());
    return false;
  }
  check(code, "event");
  return true;
}
void host_waits(Event event) { check(cudaEventSynchronize(of_event(event)), "wait"); }
void host_waits_for_stream(Stream stream) { check(cudaStreamSynchronize(of(stream)), "wait"); }

// Relaxed: the thread may ask for memory and look at events of before, neither of which belongs to the recording.
void begin_recording(Stream stream) { check(cudaStreamBeginCapture(of(stream), cudaStreamCaptureModeRelaxed), "record"); }
bool is_recording(Stream stream) {
  if (stream == nullptr) return false;  // the legacy stream never does, and asking it breaks what records
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(of(stream), &status), "stream");
  return status != cudaStreamCaptureStatusNone;
}
EndedRecording end_recording(Stream stream) {
  EndedRecording ended;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t runnable = nullptr;
  cudaError_t code = cudaStreamEndCapture(of(stream), &graph);
  ended.unjoined = code == cudaErrorStreamCaptureUnjoined;
  if (code == cudaSuccess) code = cudaGraphGetNodes(graph, nullptr, &ended.nodes);
  if (code == cudaSuccess) code = cudaGraphInstantiate(&runnable, graph, 0);
  if (code == cudaSuccess) code = cudaGraphUpload(runnable, of(stream));
  if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
  if (code == cudaSuccess) {
    ended.graph = runnable;
    return ended;
  }
  static_cast<void>(cudaGetLastError());
  if (runnable != nullptr) static_cast<void>(cudaGraphExecDestroy(runnable));
  ended.error = text_of(code);
  return ended;
}
void launch_graph(Graph graph, Stream stream) { check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), of(stream)), "replay"); }
void free_graph(Graph graph) noexcept { static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph))); }

void copy(void* to, const void* from, std::size_t bytes, CopyKind kind, Stream stream) {
  const bool from_host = kind == CopyKind::to_device || kind == CopyKind::pinned_to_device;
  const bool to_host = kind == CopyKind::to_host || kind == CopyKind::device_to_pinned;
  const cudaMemcpyKind how = from_host ? cudaMemcpyHostToDevice : to_host ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice;
  check(cudaMemcpyAsync(to, from, bytes, how, of(stream)), "copy");
  if (kind == CopyKind::to_device) check(cudaStreamSynchronize(of(stream)), "copy");  // the runtime may read the host's memory later
}
void set_bytes(void* memory, int byte, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(memory, byte, bytes, of(stream)), "fill");
}

PointerFacts pointer_facts(const void* memory) {
  cudaPointerAttributes a{};
  check(cudaPointerGetAttributes(&a, memory), "wrap");
  return {a.type == cudaMemoryTypeDevice || a.type == cudaMemoryTypeManaged, a.device};
}

std::string launch_error() {
  const cudaError_t code = cudaGetLastError();
  return code == cudaSuccess ? "" : text_of(code);
}
std::string finish_error() {
  const cudaError_t code = cudaDeviceSynchronize();
  static_cast<void>(cudaGetLastError());
  return code == cudaSuccess ? "" : text_of(code);
}

}  // namespace dtensor::local::cuda
