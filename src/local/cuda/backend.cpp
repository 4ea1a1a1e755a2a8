// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/boxes.h"
#include "local/cuda/driver.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/table.h"
#include "local/device.h"

namespace dtensor::local {
namespace {

class CudaBackend final : public DeviceBackend {
 public:
  base::Ref<Buffer> allocate(std::size_t bytes, Device device) override {
    cuda::RankDevice& d = cuda::rank_device(device);
    return d.allocator->allocate(bytes, d.current);
  }
  CudaInfo info() override {
    CudaInfo all{.built = true, .driver = cuda::driver_version(), .runtime = cuda::runtime_version(), .why_none = cuda::why_none(), .devices = {}};
    for (int i = 0; i < cuda::device_count(); ++i) {
      const cuda::DeviceFacts f = cuda::device_facts(i);
      const cuda::MemoryInfo m = cuda::device_memory(i);
      all.devices.push_back({f.name, f.major, f.minor, f.multiprocessors, m.total, m.free});
    }
    return all;
  }
  void check(Device device) override { cuda::check_exists(device); }
  void zero(void* memory, std::size_t bytes, Device device) override {
    if (bytes != 0) cuda::set_bytes(memory, 0, bytes, stream_of(device));
  }
  void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) override {
    if (bytes == 0) return;
    const bool to_host = to_device.kind == DeviceKind::cpu, from_host = from_device.kind == DeviceKind::cpu;
    const cuda::Stream stream = stream_of(to_host ? from_device : to_device);
    // What another device of this rank has queued on the source comes first.
    if (!to_host && !from_host && !(to_device == from_device)) cuda::host_waits_for_stream(stream_of(from_device));
    cuda::copy(to, from, bytes, to_host ? cuda::CopyKind::to_host : from_host ? cuda::CopyKind::to_device : cuda::CopyKind::on_device, stream);
    if (!to_host && !from_host) return;
    cuda::host_waits_for_stream(stream);
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
  MemoryStats stats(Device device) override { return cuda::rank_device(device).allocator->stats(); }
  void reset_peak(Device device) override { cuda::rank_device(device).allocator->reset_peak(); }
  void empty_cache(Device device) override { cuda::rank_device(device).allocator->empty_cache(); }
  void set_cap(std::int64_t bytes, Device device) override { cuda::rank_device(device).allocator->set_cap(bytes); }

 private:
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
