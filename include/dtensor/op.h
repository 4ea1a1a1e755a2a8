// SPDX-License-Identifier: Apache-2.0
// An op is data: name, signature, shape rule, sharding rule, kernels, gradient, samples. call() runs it on DTensors: it derives placements,
// inserts the moves that the rule needs, runs the local kernel and records the gradient.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

/// A value handed to an op besides its inputs: number, list of integers, text, dtype, an interned object, or none. Lists and texts are borrowed:
/// they live until call() returns (the library keeps its own copies).
class Attribute {
 public:
  enum class Kind : std::uint8_t { none, number, list, text, dtype, object };
  constexpr Attribute() noexcept = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr Attribute(T value) noexcept : kind_(Kind::number), number_(value) {}                                // NOLINT(google-explicit-constructor)
  constexpr Attribute(const Scalar& value) noexcept : kind_(Kind::number), number_(value) {}                    // NOLINT(google-explicit-constructor)
  constexpr Attribute(Dtype value) noexcept : kind_(Kind::dtype), number_(static_cast<std::int64_t>(value)) {}  // NOLINT(google-explicit-constructor)
  constexpr Attribute(std::string_view text) noexcept                                                           // NOLINT(google-explicit-constructor)
      : kind_(Kind::text), data_(text.data()), size_(text.size()) {}
  constexpr Attribute(const char* text) noexcept : Attribute(std::string_view(text)) {}                  // NOLINT(google-explicit-constructor)
  Attribute(const Shape& list) noexcept : kind_(Kind::list), data_(list.begin()), size_(list.size()) {}  // NOLINT(google-explicit-constructor)
  constexpr Attribute(std::span<const std::int64_t> list) noexcept                                       // NOLINT(google-explicit-constructor)
      : kind_(Kind::list), data_(list.data()), size_(list.size()) {}
  template <class T>
  constexpr Attribute(const std::optional<T>& value) noexcept  // NOLINT(google-explicit-constructor)
      : Attribute(value ? Attribute(*value) : Attribute()) {}
  /// An interned object (a layout, a mesh): compared by address.
  static constexpr Attribute object(const void* pointer) noexcept {
    Attribute a;
    a.kind_ = Kind::object;
    a.data_ = pointer;
    return a;
  }
  constexpr Kind kind() const noexcept { return kind_; }
  constexpr bool is_none() const noexcept { return kind_ == Kind::none; }
  constexpr const Scalar& scalar() const noexcept { return number_; }
  constexpr double as_double() const noexcept { return number_.as_double(); }
  constexpr std::int64_t as_int() const noexcept { return number_.as_int(); }
  constexpr bool as_bool() const noexcept { return number_.as_bool(); }
  constexpr Dtype as_dtype() const noexcept { return static_cast<Dtype>(number_.as_int()); }
  std::span<const std::int64_t> as_list() const noexcept { return {static_cast<const std::int64_t*>(data_), size_}; }
  Shape as_shape() const { return Shape(as_list()); }
  std::string_view as_text() const noexcept { return {static_cast<const char*>(data_), size_}; }
  const void* as_object() const noexcept { return data_; }

 private:
  Kind kind_ = Kind::none;
  Scalar number_{};
  const void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Shape and dtype of one operand or result, global.
struct TensorType {
  Shape shape;
  Dtype dtype = Dtype::f32;
};

/// What a shape rule and a rule builder see: global metadata and attributes, and where they put the results' types.
class DTENSOR_EXPORT ShapeCall {
 public:
  int num_inputs() const noexcept { return static_cast<int>(inputs_.size()); }
  /// False for an optional input that is absent.
  bool has_input(int i) const noexcept { return i < num_inputs() && present_[static_cast<std::size_t>(i)]; }
  const TensorType& input(int i) const { return inputs_[static_cast<std::size_t>(i)]; }
  TensorType& output(int i);  ///< grows the list of results
  int num_outputs() const noexcept { return static_cast<int>(outputs_.size()); }
  const Attribute& attribute(int i) const;
  /// A result without inputs or with its own dtype reads it here.
  /// @throws InvalidArgument "<op>: <text>". Text: "what (values); way out".
  [[noreturn]] void fail(const std::string& text) const;
  /// "a f32[4, 6]" of input i, for error texts.
  std::string describe(int i) const;

  ShapeCall(const struct OpDef& op, std::vector<TensorType> inputs, std::vector<bool> present, std::span<const Attribute> attributes)
      : op_(&op), inputs_(std::move(inputs)), present_(std::move(present)), attributes_(attributes) {}
  const std::vector<TensorType>& outputs() const noexcept { return outputs_; }

 private:
  const struct OpDef* op_;
  std::vector<TensorType> inputs_;
  std::vector<bool> present_;
  std::span<const Attribute> attributes_;
  std::vector<TensorType> outputs_;
};

/// Consecutive global indices.
struct IndexRun {
  std::int64_t begin = 0, length = 0;
};
/// Where a local operand lies in the global tensor: per dimension the runs of global indices that the local tensor holds, in local order.
struct Place {
  Shape global;
  std::vector<std::vector<IndexRun>> runs;
  /// First global index of a dimension that is one run (the size when empty).
  std::int64_t begin(int dim) const {
    const auto& r = runs[static_cast<std::size_t>(dim)];
    return r.empty() ? global[dim] : r.front().begin;
  }
  /// Local index -> global index.
  std::int64_t to_global(int dim, std::int64_t index) const {
    for (const IndexRun& r : runs[static_cast<std::size_t>(dim)]) {
      if (index < r.length) return r.begin + index;
      index -= r.length;
    }
    return global[dim];
  }
  /// Global index -> local index, -1 when it is not here.
  std::int64_t to_local(int dim, std::int64_t index) const {
    std::int64_t at = 0;
    for (const IndexRun& r : runs[static_cast<std::size_t>(dim)]) {
      if (index >= r.begin && index < r.begin + r.length) return at + index - r.begin;
      at += r.length;
    }
    return -1;
  }
};

/// What a kernel sees. Outputs are allocated from the shape rule on the rank's box (row-major, uninitialised); inputs may be strided unless the op says
/// `contiguous`; sizes may be 0; no communication. A kernel of a view op sets its output instead of filling it.
class DTENSOR_EXPORT KernelCall {
 public:
  int num_inputs() const noexcept { return num_inputs_; }
  bool has_input(int i) const noexcept { return i < num_inputs_ && inputs_[i] != nullptr; }
  const Tensor& input(int i) const noexcept { return *inputs_[i]; }
  const Tensor& output(int i) const noexcept { return outputs_[i]; }
  int num_outputs() const noexcept { return num_outputs_; }
  void set_output(int i, Tensor view) const noexcept { outputs_[i] = std::move(view); }
  const Attribute& attribute(int i) const noexcept { return attributes_[static_cast<std::size_t>(i)]; }
  /// Local shape that output i must have.
  const Shape& output_shape(int i) const noexcept { return output_shapes_[i]; }
  /// Where input or output i lies in the global tensor.
  const Place& input_place(int i) const noexcept { return places_[i]; }
  const Place& output_place(int i) const noexcept { return places_[num_inputs_ + i]; }
  /// Random ops: seed and call number of the generator.
  std::uint64_t seed() const noexcept { return seed_; }
  std::uint64_t random_call() const noexcept { return random_call_; }
  /// What only one rank can see (an index out of range) ends the run on all ranks.
  [[noreturn]] void fail(const std::string& text) const;

  std::string_view op_name;
  const Tensor* const* inputs_ = nullptr;
  Tensor* outputs_ = nullptr;
  const Shape* output_shapes_ = nullptr;
  const Place* places_ = nullptr;
  std::span<const Attribute> attributes_;
  int num_inputs_ = 0, num_outputs_ = 0;
  std::uint64_t seed_ = 0, random_call_ = 0;
};

/// What a gradient sees. Only inputs and outputs listed in `.saves` may be read. Runs under NoGrad unless create_graph.
class DTENSOR_EXPORT GradientCall {
 public:
  /// Gradient of result i (zeros are never made: an empty DTensor when nothing depends on it).
  const DTensor& grad_output(int i) const { return grads_[static_cast<std::size_t>(i)]; }
  const DTensor& input(int i) const;
  const DTensor& output(int i) const;
  const Attribute& attribute(int i) const { return attributes_[static_cast<std::size_t>(i)]; }
  /// True when input i asks for a gradient; return an empty DTensor for the others.
  bool needs(int i) const noexcept { return i < static_cast<int>(needs_.size()) && needs_[static_cast<std::size_t>(i)]; }
  /// Shape and dtype of input i (always known, saved or not).
  const TensorType& input_type(int i) const { return input_types_[static_cast<std::size_t>(i)]; }
  int num_inputs() const noexcept { return static_cast<int>(needs_.size()); }

  const struct OpDef* op = nullptr;
  std::span<const DTensor> grads_, inputs_, outputs_;
  std::span<const Attribute> attributes_;
  std::span<const TensorType> input_types_;
  std::vector<bool> needs_;
  std::uint64_t seed = 0, random_call = 0;  ///< of a random op's forward
};

/// What a decomposition sees: the op as an expression of other ops, taken when a `whole` factor is split, and on devices for which it has no kernel.
struct DecomposeCall {
  std::span<const DTensor* const> inputs;  ///< null for an absent one
  std::span<const Attribute> attributes;
  const DTensor& input(int i) const { return *inputs[static_cast<std::size_t>(i)]; }
  bool has_input(int i) const {
    return i < static_cast<int>(inputs.size()) && inputs[static_cast<std::size_t>(i)] != nullptr && *inputs[static_cast<std::size_t>(i)];
  }
  const Attribute& attribute(int i) const { return attributes[static_cast<std::size_t>(i)]; }
};

/// A call for the tests and the checker: shapes of the inputs (an empty optional one is absent), attributes by name as text, dtypes, value ranges.
struct Sample {
  std::vector<Shape> shapes;
  std::vector<std::pair<std::string, std::string>> attributes = {};  ///< {"dim", "1"}, {"shape", "[2, 3]"}, {"scale", "0.5"}, {"dtype", "f32"}
  std::vector<Dtype> dtypes = {};                                    ///< one per input; default f32
  double low = -2, high = 2;                                         ///< values of floating inputs
  std::int64_t index_limit = 0;                                      ///< integer inputs are drawn from [0, index_limit); 0: [-3, 3]
};

/// Signature grammar: "a, b?, tensors[], self!, *, dim: int, scale: float = 1.0, dims: int[] = [], dtype: dtype? = none -> out, hidden"
///  * inputs: `name`, `name?` may be absent, `name[]` takes all remaining inputs, `name!` is written in place (and is the result `-> name`);
///  * `-> view(input)`: the result is a view of that input;
///  * attributes: `int`, `bool`, `int[]`, `dtype`, `text`, `object` are static (part of the key); `float` and `number` are scalars (handed to the kernel,
///    the value is never in the key; of `number` the kind is). `?` allows none.
/// Rule grammar (DESIGN of sharding rules, docs/rules.md): "m k, k n -> m n    k: reduce(sum); bilinear"; alternatives separated by " | ".
struct OpDef {
  std::string_view name;
  std::string_view signature;
  std::string_view rule = {};    ///< fixed text, or rule_for for rules that depend on shapes and attributes
  std::string_view saves = {};   ///< inputs and outputs that gradient may read: "a, b, out"
  std::string_view dtypes = {};  ///< of the inputs: "floating", "any", "f32 f64", "number" (all but bool); checked, with the list in the text
  bool contiguous = false;       ///< inputs are made row-major before the kernel
  bool random = false;           ///< adds one to the generator
  bool data_dependent = false;   ///< result shape depends on data
  void (*shape)(ShapeCall&) = nullptr;
  std::string (*rule_for)(const ShapeCall&) = nullptr;
  void (*kernel)(const KernelCall&) = nullptr;  ///< on any device
  void (*cpu)(const KernelCall&) = nullptr;     ///< in the place of `kernel` on the CPU
  void (*cuda)(const KernelCall&) = nullptr;    ///< in the place of `kernel` on CUDA devices
  std::vector<DTensor> (*gradient)(const GradientCall&) = nullptr;
  std::vector<DTensor> (*decompose)(const DecomposeCall&) = nullptr;
  std::vector<Sample> (*samples)() = nullptr;
  std::string_view reasons = {};  ///< why placements that would be right are not offered, for the checker
  /// Ops that are their own plan (redistribute, from_local, collectives): set by the tensor layer.
  void (*plan)(class PlanBuilder&) = nullptr;
};

/// A borrowed input: {a, b} without touching reference counts.
struct Input {
  const DTensor* tensor = nullptr;
  Input() = default;
  Input(const DTensor& t) noexcept : tensor(&t) {}                                // NOLINT(google-explicit-constructor)
  Input(const DTensor* t) noexcept : tensor(t) {}                                 // NOLINT(google-explicit-constructor)
  Input(const std::optional<DTensor>& t) noexcept : tensor(t ? &*t : nullptr) {}  // NOLINT(google-explicit-constructor)
};

using Results = std::vector<DTensor>;
/// Collective over the mesh of the inputs. One result; attributes by position, missing ones take the signature's defaults.
DTENSOR_EXPORT DTensor call(const OpDef& op, std::initializer_list<Input> inputs, std::initializer_list<Attribute> attributes = {});
/// Several results, run-time lists, absent inputs.
DTENSOR_EXPORT Results call_all(const OpDef& op, std::span<const Input> inputs, std::span<const Attribute> attributes = {});
/// Ops without tensor inputs (factories): mesh, placements and device are given.
DTENSOR_EXPORT DTensor call_on(const OpDef& op, const DeviceMesh& mesh, const Placements& placements, Device device,
                               std::span<const Attribute> attributes);
/// By name with named attributes ({"dim", 1}), for tests, files and the command line. @throws InvalidArgument for an unknown op or attribute, listing near ones.
DTENSOR_EXPORT Results call_named(const OpDef& op, std::span<const Input> inputs,
                                  std::span<const std::pair<std::string_view, Attribute>> attributes = {});

/// "softmax" or "app::row_dot". @throws InvalidArgument naming similar ops.
DTENSOR_EXPORT const OpDef& find_op(std::string_view name);
/// All ops of the library and those registered, by name.
DTENSOR_EXPORT std::vector<const OpDef*> all_ops();
/// Makes an op findable by name; before run(). @throws InvalidArgument when the name is taken.
DTENSOR_EXPORT void register_op(const OpDef& op);

}  // namespace dtensor
