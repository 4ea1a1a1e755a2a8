// SPDX-License-Identifier: Apache-2.0
// An array whose length is known when it is made: on the stack while it is short. Costs nothing per element that it does not have.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

namespace dtensor::base {

template <class T, std::size_t N>
class InlineArray {
 public:
  /// `size` elements: default-constructed, numbers and pointers zero.
  explicit InlineArray(std::size_t size) : data_(size <= N ? reinterpret_cast<T*>(few_) : std::allocator<T>().allocate(size)), size_(size) {
    // Value-initialising a class whose constructor is defaulted would fill it with zeros before its constructor does the same.
    if constexpr (std::is_class_v<T>) std::uninitialized_default_construct_n(data_, size_);
    else std::uninitialized_value_construct_n(data_, size_);
  }
  InlineArray(const InlineArray&) = delete;
  ~InlineArray() {
    std::destroy_n(data_, size_);
    if (size_ > N) std::allocator<T>().deallocate(data_, size_);
  }
  std::size_t size() const noexcept { return size_; }
  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  T& operator[](std::size_t i) noexcept { return data_[i]; }
  const T& operator[](std::size_t i) const noexcept { return data_[i]; }
  operator std::span<T>() noexcept { return {data_, size_}; }  // NOLINT(google-explicit-constructor)

 private:
  T* data_;
  std::size_t size_;
  alignas(T) std::byte few_[N * sizeof(T)];  // NOLINT: filled as far as size_
};

}  // namespace dtensor::base
