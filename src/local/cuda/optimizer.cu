// SPDX-License-Identifier: Apache-2.0
// Many steps in one launch. Tensors that do not lie as one run of memory go through map, one launch each.
#include "local/kernels/optimizer.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "local/cuda/table.h"
#include "local/cuda/tensor_lists.h"
#include "local/formulas/optimizer.h"

namespace dtensor::local::cuda {
namespace {

using cpu::AdamCall;
using cpu::ScaleCall;
using cpu::SgdCall;

// What a formula does with a step's tensors: the parameter, its gradient, state. All but the gradient are written.
template <bool keeps_top>
struct AdamForm {
  using Formula = formulas::Adam;
  using Options = cpu::AdamStep;
  static constexpr const char *kName = "adam_step", *kNumbersName = "adam_numbers";
  static constexpr int kTensors = keeps_top ? 5 : 4;
  template <class T>
  DTENSOR_DEVICE_INLINE static void run(T (&x)[kTensors], const T* k) {
    T none = T(0);
    if constexpr (keeps_top) Formula::of<true>(x[0], x[1], x[2], x[3], x[4], k);
    else Formula::of<false>(x[0], x[1], x[2], x[3], none, k);
  }
};
struct SgdForm {
  using Formula = formulas::Sgd;
  using Options = cpu::SgdStep;
  static constexpr const char *kName = "sgd_step", *kNumbersName = "sgd_numbers";
  static constexpr int kTensors = 3;
  template <class T>
  DTENSOR_DEVICE_INLINE static void run(T (&x)[kTensors], const T* k) {
    Formula::of(x[0], x[1], x[2], k);
  }
};
struct DescentForm {
  using Formula = formulas::Descent;
  using Options = cpu::SgdStep;
  static constexpr const char *kName = "sgd_step", *kNumbersName = "sgd_numbers";
  static constexpr int kTensors = 2;
  template <class T>
  DTENSOR_DEVICE_INLINE static void run(T (&x)[kTensors], const T* k) {
    x[0] = Formula::of(x[0], x[1], k);
  }
};
struct ScaleForm {
  using Formula = formulas::Scale;
  using Options = formulas::ScaleStep;
  static constexpr const char *kName = "scale", *kNumbersName = "scale_numbers";
  static constexpr int kTensors = 1;
  template <class T>
  DTENSOR_DEVICE_INLINE static void run(T (&x)[kTensors], const T* k) {
    x[0] = Formula::of(x[0], k);
  }
};
constexpr int kMostTensors = 5;
constexpr bool is_written(int tensor) { return tensor != 1; }
template <class Form>
constexpr int kCount = Form::Formula::numbers;

// A list is as long as a kernel's argument allows; a short one costs less to launch.
struct Room {
  int steps, rows;
};
constexpr Room kShort{8, 4}, kLong{464, 32};
struct Part {
  std::byte* data[kMostTensors];
  std::int64_t count;
  std::uint32_t first;  // block
  std::uint16_t row;    // of numbers
  Dtype dtype[kMostTensors];
  bool aligned;
};

template <class Form, class T, Room room>
struct StepKernel {
  static constexpr int kMostThreads = kElementThreads;
  const double* made = nullptr;  // rows that the device has made
  int parts = 0;
  double rows[room.rows * kCount<Form>];
  Part part[room.steps];

  DTENSOR_DEVICE void operator()(const Block& block) const {
    const Part& p = part_of(part, parts, block.index);
    T k[kCount<Form>];
    DTENSOR_UNROLL
    for (int i = 0; i < kCount<Form>; ++i) {
      const int at = p.row * kCount<Form> + i;
      k[i] = static_cast<T>(made != nullptr ? made[at] : rows[at]);
    }
    const std::int64_t begin = (block.index - p.first) * kChunk;
    const int count = static_cast<int>(p.count - begin < kChunk ? p.count - begin : kChunk);
    for (int done = 0; done < count; done += block.threads * kLanes<T>) step(p, begin + done, count - done, block, k);
  }

 private:
  DTENSOR_DEVICE_INLINE void step(const Part& p, std::int64_t from, int count, const Block& block, const T* k) const {
    constexpr int width = kLanes<T>;
    const Lanes<width> lanes(p.aligned, p.aligned, count, block);
    if (!lanes.any) return;
    Words words[Form::kTensors];
    DTENSOR_UNROLL
    for (int t = 0; t < Form::kTensors; ++t) read_floating<T>(p.dtype[t], p.data[t], from, lanes.whole, lanes.at, words[t]);
    T x[Form::kTensors][width];
    DTENSOR_UNROLL
    for (int t = 0; t < Form::kTensors; ++t) convert_floating(p.dtype[t], words[t], x[t]);
    DTENSOR_UNROLL
    for (int n = 0; n < width; ++n) {
      T one[Form::kTensors];
      DTENSOR_UNROLL
      for (int t = 0; t < Form::kTensors; ++t) one[t] = x[t][n];
      Form::run(one, k);
      DTENSOR_UNROLL
      for (int t = 0; t < Form::kTensors; ++t) x[t][n] = one[t];
    }
    DTENSOR_UNROLL
    for (int t = 0; t < Form::kTensors; ++t)
      if (is_written(t)) store_floating<width>(p.dtype[t], p.data[t], from, lanes.whole, lanes.at, lanes.there, x[t]);
  }
};

// A number of a step on the device; no memory: there is none.
struct DeviceNumber {
  std::byte* data = nullptr;
  bool wide = false;
  DeviceNumber() = default;
  explicit DeviceNumber(const Tensor* t) {
    if (t == nullptr || !*t) return;
    data = static_cast<std::byte*>(t->raw());
    wide = t->dtype() == Dtype::f64;
  }
  DTENSOR_DEVICE double get() const { return wide ? *reinterpret_cast<const double*>(data) : double{*reinterpret_cast<const float*>(data)}; }
  DTENSOR_DEVICE void set(double value) const {
    if (wide) *reinterpret_cast<double*>(data) = value;
    else *reinterpret_cast<float*>(data) = static_cast<float>(value);
  }
};
struct Numbers {
  DeviceNumber lr, step;
};
struct Source {
  Numbers given;
  std::uint16_t options = 0;
};
template <class Form, Room room>
struct NumbersKernel {
  double* rows = nullptr;
  typename Form::Options options[room.rows];
  Source source[room.steps];

  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const Numbers& n = source[i].given;
    typename Form::Options o = options[source[i].options];
    if (n.lr.data != nullptr) formulas::set_rate(o, n.lr.get());
    if (n.step.data != nullptr) {
      const double step = n.step.get() + 1;
      n.step.set(step);
      formulas::set_step(o, step);
    }
    Form::Formula::derive(o, rows + i * kCount<Form>);
  }
};

// The same of one element, for tensors that map walks.
template <class Form, class T>
struct StepElement {
  T k[kCount<Form>];
  const double* made;
  StepElement(const double* row, const double* device_row) : made(device_row) {
    for (int i = 0; i < kCount<Form>; ++i) k[i] = static_cast<T>(row[i]);
  }
  template <class... A>
  DTENSOR_DEVICE auto operator()(A... a) const {
    T x[] = {a...}, numbers[kCount<Form>];
    DTENSOR_UNROLL
    for (int i = 0; i < kCount<Form>; ++i) numbers[i] = made != nullptr ? static_cast<T>(made[i]) : k[i];
    Form::run(x, numbers);
    if constexpr (Form::kTensors <= 2) {
      return x[0];
    } else {
      Several<T, Form::kTensors - 1> written;
      DTENSOR_UNROLL
      for (int t = 0; t < Form::kTensors; ++t)
        if (is_written(t)) written.at[t == 0 ? 0 : t - 1] = x[t];
      return written;
    }
  }
};

using Tensors = std::array<const Tensor*, kMostTensors>;

// Steps by one formula, computed in T, whose numbers all come from the host or all from the device.
template <class Form, class T>
class Batch {
 public:
  using Options = typename Form::Options;
  Batch(RankDevice& device, bool from_device) : device_(device), from_device_(from_device) {}

  void add(const Tensors& all, const Options& o, const Numbers& numbers) {
    const std::span<const Tensor* const> tensors(all.data(), Form::kTensors);
    const bool empty = all[0]->numel() == 0;
    if (empty && !from_device_) return;
    auto options = static_cast<std::size_t>(std::find(options_.begin(), options_.end(), o) - options_.begin());
    if (steps_ == kLong.steps || options == static_cast<std::size_t>(kLong.rows)) {
      launch();
      options = 0;
    }
    if (options == options_.size()) options_.push_back(o);
    if (from_device_) sources_.push_back({numbers, static_cast<std::uint16_t>(options)});
    const auto row = static_cast<std::uint16_t>(from_device_ ? steps_ : static_cast<int>(options));
    ++steps_;
    if (empty) return;
    if (is_flat(tensors)) add_part(tensors, row);
    else strided_.push_back({all, row});
  }
  void launch() {
    if (steps_ == 0) return;
    if (steps_ <= kShort.steps && options_.size() <= static_cast<std::size_t>(kShort.rows)) launch_in<kShort>();
    else launch_in<kLong>();
    options_.clear(), sources_.clear(), parts_.clear(), strided_.clear();
    steps_ = 0, blocks_ = 0;
  }

 private:
  struct Strided {
    Tensors tensors;
    std::uint16_t row;
  };
  void add_part(std::span<const Tensor* const> tensors, std::uint16_t row) {
    Part& p = parts_.emplace_back();
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      p.data[t] = static_cast<std::byte*>(tensors[t]->raw());
      p.dtype[t] = tensors[t]->dtype();
    }
    p.count = tensors[0]->numel();
    p.first = static_cast<std::uint32_t>(blocks_);
    p.row = row;
    p.aligned = is_aligned(tensors);
    blocks_ += chunks_of(p.count);
  }
  template <Room room>
  void launch_in() {
    std::optional<Scratch> made;
    std::array<double, static_cast<std::size_t>(kLong.rows * kCount<Form>)> rows{};
    if (from_device_) {
      made.emplace(device_, static_cast<std::size_t>(steps_ * kCount<Form>) * sizeof(double));
      static_assert(sizeof(NumbersKernel<Form, room>) <= kMostArgument);
      NumbersKernel<Form, room> kernel{.rows = made->as<double>(), .options = {}, .source = {}};
      std::copy(options_.begin(), options_.end(), kernel.options);
      std::copy(sources_.begin(), sources_.end(), kernel.source);
      launch_elements(Form::kNumbersName, steps_, device_.current, kernel);
    } else {
      for (std::size_t i = 0; i < options_.size(); ++i) Form::Formula::derive(options_[i], rows.data() + i * static_cast<std::size_t>(kCount<Form>));
    }
    const double* const made_rows = made ? made->as<double>() : nullptr;
    if (!parts_.empty()) {
      static_assert(sizeof(StepKernel<Form, T, room>) <= kMostArgument);
      StepKernel<Form, T, room> kernel;
      kernel.made = made_rows;
      kernel.parts = static_cast<int>(parts_.size());
      std::copy_n(rows.begin(), room.rows * kCount<Form>, kernel.rows);
      std::copy(parts_.begin(), parts_.end(), kernel.part);
      launch_blocks(Form::kName, blocks_, kElementThreads, 0, device_.current, kernel);
    }
    for (const Strided& s : strided_) {
      const int row = s.row * kCount<Form>;
      run_strided(s.tensors, StepElement<Form, T>(from_device_ ? rows.data() : rows.data() + row, made_rows == nullptr ? nullptr : made_rows + row),
                  std::make_index_sequence<Form::kTensors>());
    }
  }
  template <std::size_t... I>
  static void run_strided(const Tensors& all, const StepElement<Form, T>& element, std::index_sequence<I...> /*tensors*/) {
    const MapArgument inputs[] = {*all[I]...};
    std::vector<MapArgument> results;
    for (int t = 0; t < Form::kTensors; ++t)
      if (is_written(t)) results.push_back(inputs[t]);
    map<std::max(1, Form::kTensors - 1), T, detail::Always<T, I>...>(Form::kName, element, results.data(), inputs);
  }

  RankDevice& device_;
  bool from_device_;
  int steps_ = 0;
  std::int64_t blocks_ = 0;
  std::vector<Options> options_;  // that differ
  std::vector<Source> sources_;   // of every step, with from_device_
  std::vector<Part> parts_;
  std::vector<Strided> strided_;
};

Tensors tensors_of(const AdamCall& c) { return {&c.param, &c.grad, &c.exp_avg, &c.exp_avg_sq, &c.max_exp_avg_sq}; }
Tensors tensors_of(const SgdCall& c) { return {&c.param, &c.grad, &c.momentum_buffer}; }
Tensors tensors_of(const ScaleCall& c) { return {&c.tensor}; }
bool has_more(const AdamCall& c) { return static_cast<bool>(c.max_exp_avg_sq); }
bool has_more(const SgdCall& c) { return static_cast<bool>(c.momentum_buffer); }
bool has_more(const ScaleCall& /*c*/) { return false; }
Numbers numbers_of(const AdamCall& c) { return {DeviceNumber(&c.numbers.lr), DeviceNumber(&c.numbers.step)}; }
Numbers numbers_of(const SgdCall& c) { return {DeviceNumber(&c.numbers.lr), DeviceNumber(&c.numbers.step)}; }
Numbers numbers_of(const ScaleCall& c) { return {DeviceNumber(&c.factor), {}}; }
const cpu::AdamStep& options_of(const AdamCall& c) { return c.step; }
const cpu::SgdStep& options_of(const SgdCall& c) { return c.step; }
formulas::ScaleStep options_of(const ScaleCall& /*c*/) { return {}; }

// The calls by `Form` (those that have its last tensor, or not) in one batch per type and source of the numbers.
template <class Form, class T, class Call>
void run_in(std::span<const Call> calls, bool more) {
  for (const bool from_device : {false, true}) {
    std::optional<Batch<Form, T>> batch;
    for (const Call& c : calls) {
      const Tensors tensors = tensors_of(c);
      const Numbers numbers = numbers_of(c);
      const bool is_wide = tensors[0]->dtype() == Dtype::f64, is_from_device = numbers.lr.data != nullptr || numbers.step.data != nullptr;
      if (has_more(c) != more || is_wide != std::is_same_v<T, double> || is_from_device != from_device) continue;
      if (!batch) batch.emplace(rank_device(*tensors[0]), from_device);
      batch->add(tensors, options_of(c), numbers);
    }
    if (batch) batch->launch();
  }
}

void adam_steps(std::span<const AdamCall> calls) {
  run_in<AdamForm<false>, float>(calls, false);
  run_in<AdamForm<false>, double>(calls, false);
  run_in<AdamForm<true>, float>(calls, true);
  run_in<AdamForm<true>, double>(calls, true);
}
void sgd_steps(std::span<const SgdCall> calls) {
  run_in<DescentForm, float>(calls, false);
  run_in<DescentForm, double>(calls, false);
  run_in<SgdForm, float>(calls, true);
  run_in<SgdForm, double>(calls, true);
}
void scales(std::span<const ScaleCall> calls) {
  run_in<ScaleForm, float>(calls, false);
  run_in<ScaleForm, double>(calls, false);
}

}  // namespace

void install_optimizer() {
  kernels::adam_steps.cuda = adam_steps;
  kernels::sgd_steps.cuda = sgd_steps;
  kernels::scales.cuda = scales;
}

}  // namespace dtensor::local::cuda
