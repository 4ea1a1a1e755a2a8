// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/optimizer.h on the device of their tensors, and calls that are collected to run together there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "local/cpu/optimizer.h"
#include "local/kernel.h"

namespace dtensor::local {

namespace cpu {
inline Side side_of(std::span<const AdamCall> calls) noexcept { return calls.empty() ? Side::unknown : local::side_of(calls[0].param); }
inline Side side_of(std::span<const SgdCall> calls) noexcept { return calls.empty() ? Side::unknown : local::side_of(calls[0].param); }
inline Side side_of(std::span<const ScaleCall> calls) noexcept { return calls.empty() ? Side::unknown : local::side_of(calls[0].tensor); }
inline Side side_of(std::span<const SquareSumCall> calls) noexcept { return calls.empty() ? Side::unknown : local::side_of(calls[0].output); }
}  // namespace cpu

namespace kernels {

inline Kernel adam_steps{"adam_steps", cpu::adam_steps};
inline Kernel sgd_steps{"sgd_steps", cpu::sgd_steps};
inline Kernel scales{"scales", cpu::scales};
inline Kernel square_sums{"square_sums", cpu::square_sums};
inline Kernel sum_numbers{"sum_numbers", cpu::sum_numbers};

/// While an object lives that collects, calls on CUDA tensors that its thread hands to add() are kept, with what they read, and run together at finish(),
/// in as few launches as there are; those on the CPU run at once. Nothing else may touch their tensors in between. They run before finish() when a tensor
/// is to be written again, and when kBytes of what they read alone are kept. One ends before those that began before it.
class Together {
 public:
  static constexpr std::int64_t kBytes = std::int64_t{1} << 30;
  explicit Together(bool collects = true) noexcept : outer_(current_) { current_ = collects ? this : nullptr; }
  Together(const Together&) = delete;
  /// Calls from before an exception are made.
  ~Together() {
    try {
      run();
    } catch (...) {}  // there is an exception under way that says more
    current_ = outer_;
  }
  void finish() {
    run();
    current_ = outer_;
  }
  template <class Call>
  static void add(Call call) {
    const Tensor& written = written_by(call);
    if (current_ == nullptr || side_of(written) != Side::cuda) return run_all(std::span<const Call>(&call, 1));
    OnDevice& d = current_->on(written.device());
    if (!d.written.empty() && (d.bytes >= kBytes || !is_new(d, written))) d.run();
    remember(d, written);
    d.bytes += read_by(call).bytes();
    std::get<std::vector<Call>>(d.lists).push_back(std::move(call));
  }

 private:
  struct Range {
    std::uintptr_t begin, end;
  };
  struct OnDevice {
    Device device;
    std::tuple<std::vector<cpu::AdamCall>, std::vector<cpu::SgdCall>, std::vector<cpu::ScaleCall>, std::vector<cpu::SquareSumCall>> lists = {};
    std::vector<Range> written = {};  // by address
    std::int64_t bytes = 0;
    void run() {
      const auto calls = std::exchange(lists, {});
      written.clear();
      bytes = 0;
      std::apply([](const auto&... list) { (run_all(list), ...); }, calls);
    }
  };
  template <class Call>
  static void run_all(const std::vector<Call>& calls) {
    if (!calls.empty()) run_all(std::span<const Call>(calls));
  }
  static void run_all(std::span<const cpu::AdamCall> calls) { adam_steps(calls); }
  static void run_all(std::span<const cpu::SgdCall> calls) { sgd_steps(calls); }
  static void run_all(std::span<const cpu::ScaleCall> calls) { scales(calls); }
  static void run_all(std::span<const cpu::SquareSumCall> calls) { square_sums(calls); }
  static const Tensor& written_by(const cpu::AdamCall& c) noexcept { return c.param; }
  static const Tensor& written_by(const cpu::SgdCall& c) noexcept { return c.param; }
  static const Tensor& written_by(const cpu::ScaleCall& c) noexcept { return c.tensor; }
  static const Tensor& written_by(const cpu::SquareSumCall& c) noexcept { return c.output; }
  static const Tensor& read_by(const cpu::AdamCall& c) noexcept { return c.grad; }
  static const Tensor& read_by(const cpu::SgdCall& c) noexcept { return c.grad; }
  static const Tensor& read_by(const cpu::ScaleCall& c) noexcept { return c.factor; }
  static const Tensor& read_by(const cpu::SquareSumCall& c) noexcept { return c.input; }

  OnDevice& on(Device device) {
    const auto found = std::find_if(devices_.begin(), devices_.end(), [&](const OnDevice& d) { return d.device == device; });
    return found != devices_.end() ? *found : devices_.emplace_back(OnDevice{.device = device});
  }
  // From the first element to behind the last one.
  static Range range(const Tensor& t) noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(t.raw());
    std::int64_t elements = t.numel() == 0 ? 0 : 1;
    for (int d = 0; elements > 0 && d < t.ndim(); ++d) elements += (t.shape()[d] - 1) * t.strides()[d];
    return {begin, begin + static_cast<std::uintptr_t>(elements * info(t.dtype()).bytes)};
  }
  static std::vector<Range>::iterator behind(OnDevice& d, const Range& w) {
    return std::lower_bound(d.written.begin(), d.written.end(), w.begin, [](const Range& a, std::uintptr_t begin) { return a.end <= begin; });
  }
  static bool is_new(OnDevice& d, const Tensor& tensor) {
    const Range w = range(tensor);
    const auto next = behind(d, w);
    return next == d.written.end() || w.begin == w.end || next->begin >= w.end;
  }
  static void remember(OnDevice& d, const Tensor& tensor) {
    if (const Range w = range(tensor); w.begin != w.end) d.written.insert(behind(d, w), w);
  }
  void run() {
    for (OnDevice& d : devices_) d.run();
  }

  static inline thread_local Together* current_ = nullptr;
  Together* outer_;
  std::vector<OnDevice> devices_;
};

}  // namespace kernels
}  // namespace dtensor::local
