// SPDX-License-Identifier: Apache-2.0
// What a rank keeps for calls: plan cache, modes, observers of steps, and the hook through which autograd records.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "dtensor/generator.h"
#include "propagate/rule.h"
#include "tensor/plan.h"

namespace dtensor::tensor {

/// A step as observers see it: what ran, on behalf of which op.
struct StepEvent {
  StepKind kind;
  const OpDef& op;
  std::span<const redistribute::PreparedMove* const> moves;  ///< of one step that moves: one, or several of one launch
  const Plan& plan;
  bool implicit = false;  ///< inserted by a rule
};
/// Sees the steps of this rank. A per-rank stack; costs one load when empty.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void on_step(const StepEvent& event) = 0;
  /// Before the steps of a call; `inputs` are live handles.
  virtual void on_call(const OpDef& /*op*/, std::span<const Input> /*inputs*/, std::span<const Attribute> /*attributes*/) {}
};

/// What autograd needs to record a call.
struct CallRecord {
  const OpDef& op;
  const Signature& signature;
  std::span<const Input> inputs;
  std::span<const Attribute> attributes;
  std::span<const DTensor> outputs;
  std::size_t kept;  ///< the first results go to the caller; of the others lives what gradient reads
  std::uint64_t seed, random_call;
  const PlanRef& plan;  ///< keeps specs and objects of the call alive
};
/// Set by autograd when the first gradient is asked for.
using Recorder = void (*)(const CallRecord&);
void set_recorder(Recorder recorder) noexcept;

enum class ImplicitPolicy : std::uint8_t { allow, warn, refuse };

struct OpInfo {
  const OpDef* op = nullptr;
  Signature signature;
  mutable propagate::RuleCache rules;
  std::shared_ptr<OpInfo> next;  ///< another op of the same place in the table
};

/// Plans by key; bounded: when full, all are dropped (they are cheap to make again).
class PlanCache {
 public:
  Plan* find(std::uint64_t hash, std::span<const std::uint64_t> key) noexcept;
  void insert(std::uint64_t hash, PlanRef plan);
  void clear();
  std::size_t size() const noexcept { return count_; }
  std::uint64_t hits = 0, misses = 0;

 private:
  static constexpr std::size_t kLimit = 8192;
  struct Entry {
    std::uint64_t hash = 0;
    PlanRef plan;
  };
  std::vector<Entry> table_ = std::vector<Entry>(1024);
  std::size_t count_ = 0;
};

struct CallState {
  bool grad_enabled = true;
  bool recording = true;      ///< off inside a decomposition
  std::string_view inserted;  ///< not empty: the op on whose behalf moves count as inserted by a rule, whoever asks for them
  ImplicitPolicy implicit = ImplicitPolicy::allow;
  Generator* generator = nullptr;  ///< overrides default_generator() in a scope
  std::vector<StepObserver*> observers;
  PlanCache plans;
  std::array<std::shared_ptr<OpInfo>, 1024> ops{};  ///< by address
  const OpInfo& info(const OpDef& op);              ///< stays valid: a call holds it while its decomposition calls other ops
};
CallState& call_state();
CallState& call_state(base::RankContext& rank);
/// Within its life moves count as implicit ones of `op` (a name that lives on): its decomposition moves an operand, although the caller asked for no move.
class Inserted {
 public:
  explicit Inserted(std::string_view op) : state_(call_state()), was_(state_.inserted) { state_.inserted = op; }
  ~Inserted() { state_.inserted = was_; }
  Inserted(const Inserted&) = delete;

 private:
  CallState& state_;
  std::string_view was_;
};

/// The plan for a call (cached). `factory` gives mesh, layout and device of ops without inputs.
struct Factory {
  DeviceMesh mesh;
  placements::LayoutRef layout;
  Device device;
};
PlanRef build_plan(const OpInfo& info, std::span<const Input> inputs, std::span<const Attribute> attributes, const Placements* placements,
                   const DeviceMesh* mesh, Device device);
/// Runs a plan that is neither decomposed nor outside; fills `results`, which may be fewer than those of the plan.
void execute(const Plan& plan, std::span<const Input> inputs, std::span<const Attribute> attributes, std::uint64_t seed, std::uint64_t random_call,
             CallState& state, std::span<DTensor> results);

}  // namespace dtensor::tensor
