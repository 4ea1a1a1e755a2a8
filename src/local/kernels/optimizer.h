// SPDX-License-Identifier: Apache-2.0
// The functions of local/cpu/optimizer.h on the device of their tensors, and lists of steps that run together there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "local/cpu/optimizer.h"
#include "local/kernel.h"

namespace dtensor::local {

namespace cpu {
inline Side side_of(std::span<const AdamCall> calls) noexcept { return calls.empty() ? Side::unknown : local::side_of(calls[0].param); }
inline Side side_of(std::span<const SgdCall> calls) noexcept { return calls.empty() ? Side::unknown : local::side_of(calls[0].param); }
}  // namespace cpu

namespace kernels {

inline Kernel adam_steps{"adam_steps", cpu::adam_steps};
inline Kernel sgd_steps{"sgd_steps", cpu::sgd_steps};

/// While an object lives that collects, steps on CUDA tensors that its thread asks for by step() are kept, with what they read, and run together at
/// finish(), in as few launches as there are; those on the CPU run at once. Nothing else may touch their tensors in between. They run before finish() when
/// a parameter comes again, and when kGradients bytes of gradients are kept. One ends before those that began before it.
class StepList {
 public:
  static constexpr std::int64_t kGradients = std::int64_t{1} << 30;
  explicit StepList(bool collects = true) noexcept : outer_(current_) { current_ = collects ? this : nullptr; }
  StepList(const StepList&) = delete;
  /// Steps that were asked for before an exception are made.
  ~StepList() {
    try {
      run();
    } catch (...) {}  // there is an exception under way that says more
    current_ = outer_;
  }
  void finish() {
    run();
    current_ = outer_;
  }
  static void step(cpu::AdamCall call) { add_or_run(std::move(call)); }
  static void step(cpu::SgdCall call) { add_or_run(std::move(call)); }

 private:
  struct Written {
    std::uintptr_t begin, end;
  };
  struct OnDevice {
    Device device;
    std::vector<cpu::AdamCall> adam = {};
    std::vector<cpu::SgdCall> sgd = {};
    std::vector<Written> parameters = {};  // by address
    std::int64_t gradients = 0;            // bytes
    void run() {
      const auto adam_calls = std::exchange(adam, {});
      const auto sgd_calls = std::exchange(sgd, {});
      parameters.clear();
      gradients = 0;
      if (!adam_calls.empty()) adam_steps(adam_calls);
      if (!sgd_calls.empty()) sgd_steps(sgd_calls);
    }
  };

  static void call_all(std::span<const cpu::AdamCall> calls) { adam_steps(calls); }
  static void call_all(std::span<const cpu::SgdCall> calls) { sgd_steps(calls); }
  static std::vector<cpu::AdamCall>& list_of(OnDevice& d, const cpu::AdamCall& /*like*/) { return d.adam; }
  static std::vector<cpu::SgdCall>& list_of(OnDevice& d, const cpu::SgdCall& /*like*/) { return d.sgd; }

  template <class Call>
  static void add_or_run(Call&& call) {
    if (current_ == nullptr || local::side_of(call.param) != Side::cuda) return call_all(std::span<const Call>(&call, 1));
    OnDevice& d = current_->on(call.param.device());
    if (!d.parameters.empty() && (d.gradients >= kGradients || !is_new(d, call.param))) d.run();
    remember(d, call.param);
    d.gradients += call.grad.bytes();
    list_of(d, call).push_back(std::move(call));
  }
  OnDevice& on(Device device) {
    const auto found = std::find_if(devices_.begin(), devices_.end(), [&](const OnDevice& d) { return d.device == device; });
    return found != devices_.end() ? *found : devices_.emplace_back(OnDevice{.device = device});
  }
  // From the first element to behind the last one.
  static Written range(const Tensor& t) noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(t.raw());
    std::int64_t elements = t.numel() == 0 ? 0 : 1;
    for (int d = 0; elements > 0 && d < t.ndim(); ++d) elements += (t.shape()[d] - 1) * t.strides()[d];
    return {begin, begin + static_cast<std::uintptr_t>(elements * info(t.dtype()).bytes)};
  }
  static std::vector<Written>::iterator behind(OnDevice& d, const Written& w) {
    return std::lower_bound(d.parameters.begin(), d.parameters.end(), w.begin, [](const Written& a, std::uintptr_t begin) { return a.end <= begin; });
  }
  static bool is_new(OnDevice& d, const Tensor& parameter) {
    const Written w = range(parameter);
    const auto next = behind(d, w);
    return next == d.parameters.end() || w.begin == w.end || next->begin >= w.end;
  }
  static void remember(OnDevice& d, const Tensor& parameter) {
    if (const Written w = range(parameter); w.begin != w.end) d.parameters.insert(behind(d, w), w);
  }
  void run() {
    for (OnDevice& d : devices_) d.run();
  }

  static inline thread_local StepList* current_ = nullptr;
  StepList* outer_;
  std::vector<OnDevice> devices_;
};

}  // namespace kernels
}  // namespace dtensor::local
