// SPDX-License-Identifier: Apache-2.0
// Modules: objects with members. fields() names members once; operator() runs hooks around a forward of any signature; tensor parallelism and FSDP are hooks
// plus Parameter::use. Parameters start on the meta device with an initialiser; materialize() or load_checkpoint() allocates each rank's part only.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor::nn {

/// How a parameter is filled. Element i depends on (seed of the default generator, hash of the full name, global index i) only.
struct Init {
  enum class Kind : std::uint8_t { constant, uniform, normal } kind = Kind::constant;
  double a = 0, b = 0;  ///< the constant; bounds of uniform; mean and standard deviation of normal
  static constexpr Init constant(double value) { return {Kind::constant, value, 0}; }
  static constexpr Init uniform(double low, double high) { return {Kind::uniform, low, high}; }
  static constexpr Init normal(double mean, double deviation) { return {Kind::normal, mean, deviation}; }
};

/// A handle with a leaf (`value`: optimiser, checkpoint, gradient) and what forward reads (`use`: for example FSDP's gathered copy).
class DTENSOR_EXPORT Parameter {
 public:
  Parameter() = default;
  Parameter(const Shape& shape, const DeviceMesh& mesh, const Init& init = {}, Dtype dtype = Dtype::f32);
  explicit operator bool() const noexcept { return state_ != nullptr; }
  /// What forward reads. @throws InvalidArgument before materialize().
  operator const DTensor&() const { return get(); }  // NOLINT(google-explicit-constructor)
  const DTensor& get() const;
  /// The leaf; on the meta device before materialize().
  const DTensor& value() const;
  DTensor grad() const { return value().grad(); }
  /// Replaces the leaf (same shape).
  void set(const DTensor& value) const;
  /// Lends forward another value; an empty DTensor takes it back.
  void use(const DTensor& value) const;
  /// Placements of the leaf; before materialize() they may be changed.
  const Placements& placements() const;
  void place(const Placements& placements) const;
  const Shape& shape() const;
  const DeviceMesh& mesh() const;
  Dtype dtype() const;
  const Init& init() const;
  void set_init(const Init& init) const;
  bool is_materialized() const;
  /// Allocates and fills this rank's part; `full_name` decides the random numbers.
  void materialize(std::string_view full_name) const;
  /// Data of whoever manages the parameter (FSDP); empty at first.
  std::shared_ptr<void>& attachment() const;
  /// Equal handles refer to one parameter (tied weights).
  friend bool operator==(const Parameter& a, const Parameter& b) noexcept { return a.state_ == b.state_; }

 private:
  struct State;
  std::shared_ptr<State> state_;
};

struct NamedParameter {
  std::string name;
  Parameter parameter;
};

class ModuleBase;
struct NamedModule {
  std::string name;  ///< "" for the root
  ModuleBase* module;
};

/// What fields() fills: names of members.
class DTENSOR_EXPORT Fields {
 public:
  virtual ~Fields() = default;
  Fields& operator()(std::string_view name, Parameter& parameter) {
    if (parameter) on_parameter(name, parameter);
    return *this;
  }
  Fields& operator()(std::string_view name, ModuleBase& module) {
    on_module(name, module);
    return *this;
  }

 protected:
  virtual void on_parameter(std::string_view name, Parameter& parameter) = 0;
  virtual void on_module(std::string_view name, ModuleBase& module) = 0;
};

/// Called around a module's forward and backward, on the thread that calls; in the order in which they were added (output hooks too).
struct Hooks {
  std::function<void(ModuleBase&)> before_forward = {};
  std::function<DTensor(ModuleBase&, const DTensor&)> input = {};   ///< each DTensor argument; returns what forward sees
  std::function<DTensor(ModuleBase&, const DTensor&)> output = {};  ///< returns what the caller sees
  std::function<void(ModuleBase&)> after_forward = {};
  std::function<void(ModuleBase&)> before_backward = {};  ///< before any backward of the module
  std::function<void(ModuleBase&)> after_backward = {};   ///< when the gradients of its inputs are ready
};

template <class T>
concept IsTensor = std::is_same_v<std::remove_cvref_t<T>, DTensor>;

class DTENSOR_EXPORT ModuleBase {
 public:
  ModuleBase() = default;
  ModuleBase(const ModuleBase&) = delete;
  ModuleBase& operator=(const ModuleBase&) = delete;
  virtual ~ModuleBase();
  /// Names the members, each once: f("weight", weight)("bias", bias).
  virtual void fields(Fields& f) = 0;

  /// Allocates and fills every parameter that is still on meta. Local.
  void materialize();
  /// Each parameter once, in the order of fields(); a tied one under its first name.
  std::vector<Parameter> parameters();
  std::vector<NamedParameter> named_parameters();
  /// This module ("") and all below it, outer first.
  std::vector<NamedModule> named_modules();
  void add_hooks(Hooks hooks) { hooks_.push_back(std::move(hooks)); }
  /// Training mode of this module and all below (Dropout).
  void train(bool on = true);
  void eval() { train(false); }
  bool is_training() const noexcept { return training_; }
  void zero_grad();

 protected:
  void enter();
  DTensor input(const DTensor& t);
  DTensor leave(DTensor t);
  template <class T>
  requires(!IsTensor<T>) T && input(T&& other) { return static_cast<T&&>(other); }

 private:
  std::shared_ptr<ModuleBase*> self();
  std::vector<Hooks> hooks_;
  std::shared_ptr<ModuleBase*> self_;  // what gradient hooks refer to; null in it once the module is gone
  bool training_ = true;
};

/// struct Mlp : nn::Module<Mlp> { ... DTensor forward(const DTensor& x); };
template <class Self>
struct Module : ModuleBase {
  template <class... A>
  DTensor operator()(A&&... args) {
    enter();
    return leave(static_cast<Self*>(this)->forward(input(static_cast<A&&>(args))...));
  }
};

/// Modules of one type, named "0", "1", ...
template <class M>
class ModuleList final : public ModuleBase {
 public:
  template <class... A>
  M& emplace_back(A&&... args) {
    return *modules_.emplace_back(std::make_unique<M>(std::forward<A>(args)...));
  }
  void fields(Fields& f) override {
    for (std::size_t i = 0; i < modules_.size(); ++i) f(std::to_string(i), *modules_[i]);
  }
  std::size_t size() const noexcept { return modules_.size(); }
  M& operator[](std::size_t i) noexcept { return *modules_[i]; }

 private:
  std::vector<std::unique_ptr<M>> modules_;
};

struct LinearOptions {
  bool bias = false;
  Dtype dtype = Dtype::f32;
};
/// y = x W^T (+ b). Weight [out, in]; filled uniform in +-1/sqrt(in).
class DTENSOR_EXPORT Linear : public Module<Linear> {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features, const DeviceMesh& mesh, const LinearOptions& options = {});
  void fields(Fields& f) override { f("weight", weight)("bias", bias); }
  DTensor forward(const DTensor& x);
  Parameter weight, bias;
};

struct EmbeddingOptions {
  Dtype dtype = Dtype::f32;
};
/// Rows of weight [num_embeddings, dim] by i64 index; filled normal(0, 1).
class DTENSOR_EXPORT Embedding : public Module<Embedding> {
 public:
  Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim, const DeviceMesh& mesh, const EmbeddingOptions& options = {});
  void fields(Fields& f) override { f("weight", weight); }
  DTensor forward(const DTensor& index);
  Parameter weight;
};

struct NormOptions {
  double eps = 1e-5;
  bool bias = true;  ///< LayerNorm only
  Dtype dtype = Dtype::f32;
};
/// Over the last dimension, with weight (ones) and bias (zeros).
class DTENSOR_EXPORT LayerNorm : public Module<LayerNorm> {
 public:
  LayerNorm(std::int64_t features, const DeviceMesh& mesh, const NormOptions& options = {});
  void fields(Fields& f) override { f("weight", weight)("bias", bias); }
  DTensor forward(const DTensor& x);
  Parameter weight, bias;
  double eps;
};
/// x / sqrt(mean(x^2) + eps) * weight over the last dimension.
class DTENSOR_EXPORT RMSNorm : public Module<RMSNorm> {
 public:
  RMSNorm(std::int64_t features, const DeviceMesh& mesh, const NormOptions& options = {});
  void fields(Fields& f) override { f("weight", weight); }
  DTensor forward(const DTensor& x);
  Parameter weight;
  double eps;
};
/// Zeroes elements with probability p in training and scales the rest by 1 / (1 - p).
class DTENSOR_EXPORT Dropout : public Module<Dropout> {
 public:
  explicit Dropout(double probability = 0.5) : p(probability) {}
  void fields(Fields&) override {}
  DTensor forward(const DTensor& x);
  double p;
};

}  // namespace dtensor::nn
