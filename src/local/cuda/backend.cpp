// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <atomic>
#include <utility>

#include "base/error_text.h"
#include "base/rank.h"
#include "local/cuda/boxes.h"
#include "local/cuda/cudnn_state.h"
#include "local/cuda/driver.h"
#include "local/cuda/group_boxes.h"
#include "local/cuda/launched.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/recording.h"
#include "local/cuda/table.h"
#include "local/device.h"

namespace dtensor::local {
namespace {

// A collective that was aborted while the host waited has left no result.
void check_over() {
  base::RankContext* here = base::current_rank();
  if (here != nullptr && here->over != nullptr && here->over->load(std::memory_order_acquire)) here->throw_over(*here);
}

class CudaBackend final : public DeviceBackend {
 public:
  base::Ref<Buffer> allocate(std::size_t bytes, Device device) override {
    cuda::RankDevice& d = cuda::rank_device(device);
    return d.allocator->allocate(bytes, d.current);
  }
  CudaInfo info() override {
    CudaInfo all{.built = true, .driver = cuda::driver_version(), .runtime = cuda::runtime_version(), .why_none = cuda::why_none(), .devices = {}};
    all.cudnn = cuda::cudnn_text();
    for (int i = 0; i < cuda::device_count(); ++i) {
      const cuda::DeviceFacts f = cuda::device_facts(i);
      const cuda::MemoryInfo m = cuda::device_memory(i);
      all.devices.push_back({f.name, f.major, f.minor, f.multiprocessors, m.total, m.free});
    }
    return all;
  }
  int device_count() noexcept override { return cuda::device_count(); }
  void check(Device device) override { cuda::check_exists(device); }
  void check_address(const void* memory, Device device) override {
    cuda::check_exists(device);
    if (memory == nullptr) return;
    const cuda::PointerFacts facts = cuda::pointer_facts(memory);
    if (!facts.on_device)
      base::fail<InvalidArgument>("wrap: the address is memory of the host and the tensor is on {}; wrap it on the CPU and move it with to()",
                                  to_string(device));
    if (facts.device != device.index)
      base::fail<InvalidArgument>("wrap: the address is memory of cuda:{} and the tensor is on {}; name the device that owns it", facts.device,
                                  to_string(device));
  }
  void zero(void* memory, std::size_t bytes, Device device) override { cuda::set_bytes(memory, 0, bytes, stream_of(device)); }
  void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) override {
    if (bytes == 0) return;
    const bool to_host = to_device.kind == DeviceKind::cpu, from_host = from_device.kind == DeviceKind::cpu;
    if (to_host || from_host) refuse_recording(to_host ? from_device : to_device, to_host);
    const cuda::Stream stream = stream_of(to_host ? from_device : to_device);
    // What another device of this rank has queued on the source comes first, and nothing there overwrites it before it is read.
    if (!to_host && !from_host && !(to_device == from_device)) {
      if (cuda::current_recording() != nullptr)
        base::fail<Unsupported>("CudaGraph::record: a copy from {} to {}; a graph is of one device, copy outside the body", to_string(from_device),
                                to_string(to_device));
      const cuda::Stream source = stream_of(from_device);
      cuda::PooledEvent(from_device, source).order(stream_of(to_device));
      cuda::copy(to, from, bytes, cuda::CopyKind::on_device, stream);
      return cuda::PooledEvent(to_device, stream).order(source);
    }
    cuda::copy(to, from, bytes, to_host ? cuda::CopyKind::to_host : from_host ? cuda::CopyKind::to_device : cuda::CopyKind::on_device, stream);
    if (!to_host && !from_host) return;
    cuda::host_waits_for_stream(stream);
    check_over();
    cuda::rank_device(to_host ? from_device : to_device).faults.check();
  }
  void convert_box(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                   std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes, Device device) override {
    cuda::convert_box(dst, dst_dtype, dst_strides, src, src_dtype, src_strides, sizes, stream_of(device));
  }
  void fill_box(void* dst, Dtype dtype, std::span<const std::int64_t> strides, std::span<const std::int64_t> sizes, const Scalar& value,
                Device device) override {
    cuda::fill_box(dst, dtype, strides, sizes, value, stream_of(device));
  }

  DeviceStreamRef make_stream(Device device) override {
    cuda::check_exists(device);
    return std::make_shared<cuda::OwnedStream>(device);
  }
  DeviceStreamRef wrap_stream(void* native) override { return std::make_shared<DeviceStream>(Device::cuda(cuda::device_of(native)), native); }
  DeviceStreamRef current_stream(Device device) override { return cuda::rank_device(device).current_stream; }
  DeviceStreamRef set_current_stream(DeviceStreamRef stream) override {
    cuda::RankDevice& d = cuda::unchecked_rank_device(stream->device());
    DeviceStreamRef before = std::exchange(d.current_stream, std::move(stream));
    d.current = d.current_stream->native();
    d.staging.leave();  // the stream before may be destroyed
    d.faults.leave();
    return before;
  }
  DeviceEventRef record(const DeviceStream& stream) override { return std::make_shared<cuda::PooledEvent>(stream.device(), stream.native()); }
  void order_after(const DeviceStream& stream, DeviceEvent& event) override { static_cast<cuda::PooledEvent&>(event).order(stream.native()); }
  bool is_done(const DeviceStream& stream) override {
    refuse_recording(stream.device(), true);
    return cuda::is_idle(stream.native());
  }
  void synchronize(const DeviceStream& stream) override {
    refuse_recording(stream.device(), true);
    cuda::host_waits_for_stream(stream.native());
    check_over();
    cuda::rank_device(stream.device()).faults.check();
  }
  void host_waits(DeviceEvent& event, Device device) override {
    refuse_recording(device, true);
    event.host_waits();
    cuda::rank_device(device).faults.check();
  }
  base::Ref<Buffer> allocate_pinned(std::size_t bytes) override {
    // Of the process, never destroyed: tensors of static objects come back late.
    static const auto* const allocator = new std::shared_ptr(std::make_shared<cuda::DeviceAllocator>(Device::cuda(0), true));
    cuda::check_exists(Device::cuda(0));
    return (*allocator)->allocate(bytes, nullptr);
  }
  void copy_async(void* to, const void* from, std::size_t bytes, bool to_host, const DeviceStream& stream) override {
    if (bytes == 0) return;
    cuda::use_device(stream.device().index);
    cuda::copy(to, from, bytes, to_host ? cuda::CopyKind::device_to_pinned : cuda::CopyKind::pinned_to_device, stream.native());
  }

  std::unique_ptr<DeviceGraph> record_graph(Device device, std::span<Generator* const> generators, const std::function<void()>& body) override {
    if (cuda::current_recording() != nullptr)
      base::fail<InvalidArgument>(
          "CudaGraph::record: a recording goes on; record one graph after the other, or call the other body's function in this one");
    if (cuda::waits_after_launches())
      base::fail<Unsupported>("CudaGraph::record: DTENSOR_CUDA_SYNC=1 makes the host wait after every launch, which a recording cannot; unset it");
    cuda::RankDevice& d = cuda::rank_device(device);
    if (d.current == nullptr)
      base::fail<InvalidArgument>("CudaGraph::record: the legacy default stream cannot record; make another one current (StreamScope)");
    auto recording = std::make_unique<cuda::Recording>(d, generators);
    recording->record(body);
    return recording;
  }
  bool is_recording(Device device) noexcept override {
    const cuda::Recording* recording = cuda::current_recording();
    return recording != nullptr && recording->device() == device;
  }
  bool end_graphs() noexcept override { return cuda::end_recordings(); }
  bool is_outside_recording(const Buffer& buffer) noexcept override {
    const cuda::Recording* recording = cuda::current_recording();
    const auto* block = dynamic_cast<const cuda::DeviceBuffer*>(&buffer);
    return recording != nullptr && (block == nullptr || block->home() != &recording->allocator());
  }
  void keep_for_replays(base::Ref<Buffer> buffer) override {
    if (cuda::Recording* recording = cuda::current_recording()) recording->keep(std::move(buffer));
  }
  void note_draw(const Generator& generator, std::uint64_t seed, std::uint64_t call) override {
    if (cuda::Recording* recording = cuda::current_recording()) recording->note_draw(generator, seed, call);
  }
  void add_side_stream(const std::shared_ptr<SideStream>& side) override {
    cuda::unchecked_rank_device(side->stream->device()).side_streams.push_back(side);
  }

  void connect(Device device, Device other) override {
    if (device == other) return;
    // By device, the others that are reached.
    static std::array<std::array<std::atomic<bool>, 128>, 128> reached{};
    std::atomic<bool>& known = reached[static_cast<std::uint8_t>(device.index)][static_cast<std::uint8_t>(other.index)];
    if (known.load(std::memory_order_acquire)) return;
    if (cuda::connect(device.index, other.index)) return known.store(true, std::memory_order_release);
    base::fail<Unsupported>("cuda: {} cannot reach the memory of {}; put the ranks on one device, or use one process per rank with NCCL",
                            to_string(device), to_string(other));
  }
  void copy_boxes(const DeviceStream& stream, std::span<const BoxCopy> boxes, std::size_t element_bytes) override {
    cuda::use_device(stream.device().index);
    cuda::copy_boxes(boxes, element_bytes, stream.native());
  }
  void reduce_box(const DeviceStream& stream, std::span<void* const> dsts, const Shape& dst_strides, std::span<const void* const> sources,
                  std::span<const Shape> source_strides, const Shape& sizes, Dtype dtype, ReduceOp op, std::int64_t divisor) override {
    cuda::use_device(stream.device().index);
    cuda::reduce_box(dsts, dst_strides, sources, source_strides, sizes, dtype, op, divisor, stream.native());
  }

  MemoryStats stats(Device device) override { return cuda::rank_device(device).allocator->stats(); }
  void reset_peak(Device device) override { cuda::rank_device(device).allocator->reset_peak(); }
  void empty_cache(Device device) override { cuda::rank_device(device).allocator->empty_cache(); }
  void set_cap(std::int64_t bytes, Device device) override { cuda::rank_device(device).allocator->set_cap(bytes); }

 private:
  // Of what the host waits for, and of memory of the host that is read now.
  static void refuse_recording(Device device, bool waits) {
    if (cuda::current_recording() == nullptr) return;
    if (waits) cuda::refuse_wait(device);
    base::fail<InvalidArgument>(
        "CudaGraph::record: values of the CPU are copied to {} when the body runs, not at a replay; make the tensor before and write to it between "
        "replays, "
        "or copy from a pinned one without blocking",
        to_string(device));
  }
  static cuda::Stream stream_of(Device device) { return cuda::rank_device(device).current; }
};

}  // namespace

DeviceBackend* cuda_backend() noexcept {
  static CudaBackend backend;
  static const bool installed = (cuda::install_all(), true);
  static_cast<void>(installed);
  return &backend;
}

}  // namespace dtensor::local
