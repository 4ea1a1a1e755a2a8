// SPDX-License-Identifier: Apache-2.0
#include "dtensor/tensor.h"

#include <cstring>

#include "base/error_text.h"
#include "local/async_copy.h"
#include "local/copy.h"
#include "local/device.h"
#include "local/storage.h"

namespace dtensor {

namespace {

std::size_t checked_bytes(const Shape& shape, Dtype dtype, const char* op) {
  std::int64_t bytes = info(dtype).bytes;
  bool empty = false;
  for (const std::int64_t n : shape) {
    if (n < 0) base::fail<InvalidArgument>("{}: a size is negative (shape {}); sizes are 0 or more", op, to_string(shape));
    empty = empty || n == 0;
  }
  if (empty) return 0;
  for (const std::int64_t n : shape)
    if (__builtin_mul_overflow(bytes, n, &bytes))
      base::fail<InvalidArgument>("{}: more bytes than can be addressed (shape {}, {}); check the sizes", op, to_string(shape), to_string(dtype));
  return static_cast<std::size_t>(bytes);
}

// Elements from the first to the last that the strides reach, the last included.
std::int64_t extent(const Shape& shape, const Shape& strides, const char* op) {
  std::int64_t last = 0;
  bool empty = false;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (shape[d] < 0 || strides[d] < 0)
      base::fail<InvalidArgument>("{}: sizes and strides are 0 or more (shape {}, strides {}); flip copies", op, to_string(shape),
                                  to_string(strides));
    empty = empty || shape[d] == 0;
  }
  if (empty) return 0;
  for (int d = 0; d < shape.ndim(); ++d) {
    std::int64_t reach = 0;
    if (__builtin_mul_overflow(shape[d] - 1, strides[d], &reach) || __builtin_add_overflow(last, reach, &last))
      base::fail<InvalidArgument>("{}: more elements than can be addressed (shape {}, strides {}); check the sizes", op, to_string(shape),
                                  to_string(strides));
  }
  return last + 1;
}

bool writes_twice(const Tensor& t) {
  for (int d = 0; d < t.ndim(); ++d)
    if (t.strides()[d] == 0 && t.shape()[d] > 1) return t.numel() > 0;
  return false;
}

void refuse_expanded(const Tensor& t, const char* op) {
  if (writes_twice(t))
    base::fail<InvalidArgument>("{}: several elements share one address (shape {}, strides {}); write to a clone() of the expanded tensor", op,
                                to_string(t.shape()), to_string(t.strides()));
}

void convert(void* dst, Dtype dst_dtype, const Shape& dst_strides, const void* src, Dtype src_dtype, const Shape& src_strides, const Shape& sizes,
             Device device) {
  if (device.kind == DeviceKind::cuda)
    local::require_cuda(device, "copy").convert_box(dst, dst_dtype, dst_strides, src, src_dtype, src_strides, sizes, device);
  else if (device.kind == DeviceKind::cpu) local::convert_box_parallel(dst, dst_dtype, dst_strides, src, src_dtype, src_strides, sizes);
}

}  // namespace

Tensor::Tensor(local::Storage* storage, const Shape& shape, const Shape& strides, Dtype dtype) noexcept
    : storage_(storage), shape_(shape), strides_(strides), dtype_(dtype) {
  storage_->retain();
}

Tensor::Tensor(const Tensor& other) noexcept
    : storage_(other.storage_), shape_(other.shape_), strides_(other.strides_), offset_(other.offset_), dtype_(other.dtype_) {
  if (storage_ != nullptr) storage_->retain();
}

Tensor& Tensor::operator=(const Tensor& other) noexcept { return *this = Tensor(other); }

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(storage_, other.storage_);
  shape_ = other.shape_;
  strides_ = other.strides_;
  offset_ = other.offset_;
  dtype_ = other.dtype_;
  return *this;
}

void Tensor::release() noexcept { storage_->release(); }

Tensor Tensor::empty(const Shape& shape, Dtype dtype, Device device) {
  const std::size_t bytes = checked_bytes(shape, dtype, "empty");
  return Tensor(new local::Storage(local::allocate(bytes, device)), shape, contiguous_strides(shape), dtype);
}

Tensor Tensor::pinned(const Shape& shape, Dtype dtype) {
  const std::size_t bytes = checked_bytes(shape, dtype, "pinned");
  return Tensor(new local::Storage(local::require_cuda(Device::cuda(0), "pinned").allocate_pinned(bytes)), shape, contiguous_strides(shape), dtype);
}

Tensor Tensor::zeros(const Shape& shape, Dtype dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  const auto bytes = static_cast<std::size_t>(t.bytes());
  if (device.kind == DeviceKind::cuda) local::require_cuda(device, "zeros").zero(t.raw(), bytes, device);
  else if (void* data = t.raw(); data != nullptr) std::memset(data, 0, bytes);
  return t;
}

Tensor Tensor::wrap(void* data, const Shape& shape, const WrapOptions& options) {
  checked_bytes(shape, options.dtype, "wrap");
  const bool given = !options.strides.empty();
  if (given && options.strides.ndim() != shape.ndim())
    base::fail<InvalidArgument>("wrap: one stride per dim is needed (shape {}, strides {}); leave strides empty for row-major memory",
                                to_string(shape), to_string(options.strides));
  const Shape strides = given ? options.strides : contiguous_strides(shape);
  const auto width = static_cast<std::size_t>(info(options.dtype).bytes);
  const std::size_t bytes = static_cast<std::size_t>(extent(shape, strides, "wrap")) * width;
  if (options.device.kind == DeviceKind::meta) data = nullptr;
  else if (options.device.kind == DeviceKind::cuda) local::require_cuda(options.device, "wrap").check_address(data, options.device);
  if (options.device.kind != DeviceKind::meta && data == nullptr && bytes != 0)
    base::fail<InvalidArgument>("wrap: the address is null (shape {}); use empty() for memory of the library's own", to_string(shape));
  if (reinterpret_cast<std::uintptr_t>(data) % width != 0)
    base::fail<InvalidArgument>("wrap: the address is not a multiple of the element size (address {}, {}); copy to aligned memory first", data,
                                to_string(options.dtype));
  auto buffer = base::make_ref<local::Buffer>(data, bytes, options.device, options.owner, true);
  return Tensor(new local::Storage(std::move(buffer)), shape, strides, options.dtype);
}

Tensor Tensor::copy_of(const void* values, std::size_t count, const Shape& shape, Dtype dtype) {
  checked_bytes(shape, dtype, "of");
  if (static_cast<std::size_t>(shape.numel()) != count)
    base::fail<InvalidArgument>("of: number of values and shape differ ({} values, shape {} has {}); give one value per element", count,
                                to_string(shape), shape.numel());
  Tensor t = empty(shape, dtype);
  if (count != 0) std::memcpy(t.raw(), values, static_cast<std::size_t>(t.bytes()));
  return t;
}

Device Tensor::device() const noexcept { return storage_ == nullptr ? Device{} : storage_->buffer().device(); }

bool Tensor::is_contiguous() const noexcept {
  std::int64_t expected = 1;
  bool row_major = true;
  for (int d = shape_.ndim() - 1; d >= 0; --d) {
    if (shape_[d] == 0) return true;
    if (shape_[d] != 1) row_major = row_major && strides_[d] == expected;
    expected *= shape_[d];
  }
  return row_major;
}

const void* Tensor::checked(const void* data, const char* op) const {
  const local::Buffer& buffer = storage_->buffer();
  if (buffer.device().kind == DeviceKind::meta)
    base::fail<InvalidArgument>("tensor: {} of a tensor on meta ({}{}); it carries a shape only, make it on Device::cpu()", op, to_string(dtype_),
                                to_string(shape_));
  if (numel() == 0) return data;
  std::int64_t last = offset_;
  for (int d = 0; d < shape_.ndim(); ++d) last += (shape_[d] - 1) * strides_[d];
  const auto needed = static_cast<std::size_t>(last + 1) * static_cast<std::size_t>(info(dtype_).bytes);
  if (needed > buffer.bytes())
    base::fail<InvalidArgument>("tensor: {} of released storage ({}{} needs {} bytes, the storage has {}); call resize_storage and fill it first", op,
                                to_string(dtype_), to_string(shape_), needed, buffer.bytes());
  return data;
}

void* Tensor::data() const {
  if (storage_ == nullptr) base::fail<InvalidArgument>("tensor: data of an empty handle; assign a tensor to it first");
  storage_->before_write();
  return const_cast<void*>(checked(raw(), "data"));
}

const void* Tensor::read() const {
  if (storage_ == nullptr) base::fail<InvalidArgument>("tensor: read of an empty handle; assign a tensor to it first");
  storage_->before_read();
  return checked(raw(), "read");
}

void* Tensor::raw() const noexcept {
  auto* data = static_cast<std::byte*>(storage_->buffer().data());
  return data == nullptr ? nullptr : data + offset_ * info(dtype_).bytes;
}

void Tensor::check_values(Dtype dtype) const {
  if (device().kind == DeviceKind::cuda)
    base::fail<InvalidArgument>("values: the host cannot read memory of {} ({}{}); copy it with to(Device::cpu()) first", to_string(device()),
                                to_string(dtype_), to_string(shape_));
  if (dtype != dtype_)
    base::fail<InvalidArgument>("values: element types differ (asked {}, tensor is {}{}); ask for its own type or convert with to()",
                                to_string(dtype), to_string(dtype_), to_string(shape_));
  if (!is_contiguous())
    base::fail<InvalidArgument>("values: the tensor is not row-major (shape {}, strides {}); call contiguous() first", to_string(shape_),
                                to_string(strides_));
}

void Tensor::wait() const {
  if (storage_ != nullptr) storage_->before_read();
}

Tensor Tensor::to(Dtype dtype) const {
  Tensor result = empty(shape_, dtype, device());
  if (device().kind == DeviceKind::meta) return result;
  convert(result.raw(), dtype, result.strides_, read(), dtype_, strides_, shape_, device());
  return result;
}

bool Tensor::is_pinned() const noexcept { return storage_ != nullptr && storage_->buffer().pinned(); }

Tensor Tensor::to(Device target) const { return to(target, {}); }

Tensor Tensor::to(Device target, const CopyOptions& options) const {
  if (target == device()) return *this;
  const bool to_pinned = options.non_blocking && target.kind == DeviceKind::cpu && device().kind == DeviceKind::cuda;
  const Tensor from = contiguous();
  Tensor result = to_pinned ? pinned(shape_, dtype_) : empty(shape_, dtype_, target);
  if (target.kind == DeviceKind::meta || numel() == 0) return result;
  if (options.non_blocking && local::copy_async(result, from)) return result;
  const void* source = from.read();  // of a tensor on meta: an error
  local::require_cuda(target.kind == DeviceKind::cuda ? target : device(), "to")
      .copy(result.raw(), target, source, device(), static_cast<std::size_t>(bytes()));
  return result;
}

Tensor Tensor::clone() const { return to(dtype_); }

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

void Tensor::copy_(const Tensor& source) const { copy_(source, {}); }

void Tensor::copy_(const Tensor& source, const CopyOptions& options) const {
  if (!(shape_ == source.shape_))
    base::fail<InvalidArgument>("copy_: shapes differ (into {}{}, from {}{}); expand or view the source first", to_string(dtype_), to_string(shape_),
                                to_string(source.dtype_), to_string(source.shape_));
  refuse_expanded(*this, "copy_");
  if (device().kind == DeviceKind::meta) return bump_version();
  const bool same = storage_ == source.storage_ && offset_ == source.offset_ && strides_ == source.strides_ && dtype_ == source.dtype_;
  if (!same) {
    // Two views of one storage may overlap in any way.
    const bool goes_on = options.non_blocking && !(device() == source.device()) && source.device().kind != DeviceKind::meta;
    if (goes_on && local::copy_async(*this, source.dtype_ == dtype_ ? source.contiguous() : source.to(dtype_))) return bump_version();
    const Tensor from =
        storage_ == source.storage_ ? source.clone() : source.to(device(), {.non_blocking = goes_on && device().kind == DeviceKind::cuda});
    void* to = data();
    convert(to, dtype_, strides_, from.read(), from.dtype_, from.strides_, shape_, device());
  }
  bump_version();
}

void Tensor::fill_(const Scalar& value) const {
  refuse_expanded(*this, "fill_");
  if (device().kind == DeviceKind::cuda) local::require_cuda(device(), "fill_").fill_box(data(), dtype_, strides_, shape_, value, device());
  else if (device().kind == DeviceKind::cpu) local::fill_box(data(), dtype_, strides_, shape_, value);
  bump_version();
}

void Tensor::resize_storage(std::int64_t bytes) const {
  if (bytes < 0) base::fail<InvalidArgument>("resize_storage: bytes are 0 or more (got {}); 0 releases the memory", bytes);
  storage_->resize(static_cast<std::size_t>(bytes));
}

std::uint64_t Tensor::version() const noexcept { return storage_ == nullptr ? 0 : storage_->version; }
void Tensor::bump_version() const noexcept { ++storage_->version; }
void Tensor::set_version(std::uint64_t version) const noexcept { storage_->version = version; }

Tensor Tensor::shared_copy() const {
  if (storage_->buffer().wrapped() && device().kind != DeviceKind::meta) return clone();
  Tensor result(new local::Storage(storage_->buffer_ref()), shape_, strides_, dtype_);
  result.offset_ = offset_;
  return result;
}

}  // namespace dtensor
