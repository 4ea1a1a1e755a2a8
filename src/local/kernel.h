// SPDX-License-Identifier: Apache-2.0
// Kernel: a local function with a form per kind of device, called like the function. The form is that of the first tensor among the arguments that is
// there. Pointers and options at the end may be left out: null and T{}, never a number, whose default only the function knows.
#pragma once

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "dtensor/error.h"
#include "dtensor/tensor.h"

namespace dtensor::local {

enum class Side : signed char { unknown, host, cuda };

/// Of an argument; types that hold tensors have overloads beside them.
inline Side side_of(const Tensor& t) noexcept { return !t ? Side::unknown : t.device().kind == DeviceKind::cuda ? Side::cuda : Side::host; }
inline Side side_of(const Tensor* t) noexcept { return t == nullptr ? Side::unknown : side_of(*t); }
template <class T>
requires(!std::is_convertible_v<const T&, const Tensor&> && !std::is_convertible_v<const T&, const Tensor*>) constexpr Side
    side_of(const T& /*value*/) noexcept {
  return Side::unknown;
}

template <class Signature>
class Kernel;

template <class R, class... A>
class Kernel<R(A...)> {
  template <class T>
  static constexpr bool kHasDefault = std::is_pointer_v<T> || (std::is_class_v<T> && !std::is_same_v<T, Scalar>);
  // All arguments from number `given` on.
  template <std::size_t given, std::size_t... I>
  static constexpr bool may_leave_out(std::index_sequence<I...> /*all*/) {
    return ((I < given || kHasDefault<std::remove_cvref_t<std::tuple_element_t<I, std::tuple<A...>>>>)&&...);
  }

 public:
  using Form = R (*)(A...);
  constexpr Kernel(const char* name, Form host) noexcept : name_(name), host_(host) {}
  Kernel(const Kernel&) = delete;

  /// @throws Unsupported for tensors of a device without a form.
  R operator()(A... arguments) const {
    Side side = Side::unknown;
    ((side == Side::unknown ? void(side = side_of(arguments)) : void()), ...);
    if (side != Side::cuda) return host_(std::forward<A>(arguments)...);
    if (cuda == nullptr) throw Unsupported(std::string(name_) + ": this build has no form of it for CUDA tensors; move them to the CPU with to()");
    return cuda(std::forward<A>(arguments)...);
  }
  template <class... B>
  requires(sizeof...(B) < sizeof...(A) && may_leave_out<sizeof...(B)>(std::index_sequence_for<A...>())) R operator()(B&&... arguments) const {
    return with_rest(std::make_index_sequence<sizeof...(A) - sizeof...(B)>(), std::forward<B>(arguments)...);
  }
  const char* name() const noexcept { return name_; }

  Form cuda = nullptr;  ///< set once, before there is a CUDA tensor

 private:
  template <std::size_t I>
  using Argument = std::tuple_element_t<I, std::tuple<A...>>;
  template <std::size_t... I, class... B>
  R with_rest(std::index_sequence<I...> /*rest*/, B&&... arguments) const {
    return (*this)(std::forward<B>(arguments)..., static_cast<Argument<sizeof...(B) + I>>(std::remove_cvref_t<Argument<sizeof...(B) + I>>{})...);
  }
  const char* name_;
  Form host_;
};
template <class R, class... A>
Kernel(const char*, R (*)(A...)) -> Kernel<R(A...)>;

}  // namespace dtensor::local
