// SPDX-License-Identifier: Apache-2.0
// Seeing what runs: counting and tracing steps, policing implicit communication, explaining and drawing. Scopes are locals of a rank's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/op.h"
#include "dtensor/plan.h"

namespace dtensor {

namespace debug {
class Observer;
}

/// What one kind of move did on this rank.
struct CommCount {
  std::string kind;  ///< "all_gather"
  std::int64_t launches = 0;
  std::int64_t bytes_received = 0;  ///< by this rank, from others
  std::int64_t implicit = 0;        ///< launches that a sharding rule inserted
};
/// Counts the communicating steps of this rank while it lives.
class DTENSOR_EXPORT CommCounter {
 public:
  [[nodiscard]] CommCounter();
  ~CommCounter();
  CommCounter(const CommCounter&) = delete;
  /// In order of first use.
  const std::vector<CommCount>& counts() const;
  std::int64_t launches() const;
  std::int64_t launches(std::string_view kind) const;
  std::int64_t implicit_launches() const;
  std::int64_t bytes_received() const;
  void reset();

 private:
  std::unique_ptr<debug::Observer> observer_;
};
/// "all_gather 2 (1.5 KiB), reduce_scatter 1 (512 B)"; "no communication".
DTENSOR_EXPORT std::string to_string(const CommCounter& counter);

/// Records each step of this rank as one line: op, kind, layouts, bytes.
class DTENSOR_EXPORT Trace {
 public:
  [[nodiscard]] Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  const std::vector<std::string>& lines() const;

 private:
  std::unique_ptr<debug::Observer> observer_;
};
DTENSOR_EXPORT std::string to_string(const Trace& trace);

/// Moves that a sharding rule would insert are an InvalidArgument; explicit ones (redistribute, styles, FSDP, item) pass.
class DTENSOR_EXPORT RefuseImplicit {
 public:
  [[nodiscard]] RefuseImplicit();
  ~RefuseImplicit();
  RefuseImplicit(const RefuseImplicit&) = delete;

 private:
  int was_;
};
/// Moves that a sharding rule inserts are reported on stderr.
class DTENSOR_EXPORT WarnImplicit {
 public:
  [[nodiscard]] WarnImplicit();
  ~WarnImplicit();
  WarnImplicit(const WarnImplicit&) = delete;

 private:
  int was_;
};

/// How `tensor` would go to `target`: moves, bytes, time. Local; moves nothing.
DTENSOR_EXPORT Plan explain(const DTensor& tensor, const Placements& target);
/// The same to another mesh of the same world.
DTENSOR_EXPORT Plan explain(const DTensor& tensor, const DeviceMesh& mesh, const Placements& target);
/// What redistribute_all does with a list: the plan of each tensor, and the launches in which their moves go.
struct ListPlan {
  struct Launch {
    std::string kind;                 ///< "all_gather"
    std::vector<std::string> axes;    ///< of the first tensor's mesh
    std::vector<int> tensors;         ///< by index in the list, ascending
    std::int64_t bytes_received = 0;  ///< by all ranks together, in the whole meshes of the tensors
  };
  std::vector<Plan> plans;
  std::vector<Launch> launches;  ///< in order, of this rank (of the first rank of a mesh that it is not in)
};
/// "3 tensors, 2 launches", a line per launch "all_gather[dp] of tensors 0 2: 1.5 KiB on all ranks", then the plan of each tensor.
DTENSOR_EXPORT std::string to_string(const ListPlan& plan);
/// How redistribute_all(tensors, targets) would go. Local; moves nothing. @throws InvalidArgument as it does.
DTENSOR_EXPORT ListPlan explain(std::span<const DTensor> tensors, std::span<const Placements> targets);
/// Who owns what, as text and as SVG. Local.
DTENSOR_EXPORT std::string visualize(const DTensor& tensor);
DTENSOR_EXPORT std::string visualize_svg(const DTensor& tensor);

/// A tensor that is described, not made: what the text "f32[8, 16]{dp: S(0)}" says.
struct DescribedTensor {
  Dtype dtype = Dtype::f32;
  Shape shape = {};
  Placements placements = {};
};
/// @throws InvalidArgument with the column of the first error.
DTENSOR_EXPORT DescribedTensor parse_tensor(std::string_view text);
/// "dp=2,tp=4", "2x4" or "8": a mesh to plan and draw with, outside any world. Its ranks run nothing. @throws InvalidArgument showing the text.
DTENSOR_EXPORT DeviceMesh planning_mesh(std::string_view text);
/// The drawings of a described tensor. Local; needs no world.
DTENSOR_EXPORT std::string visualize(const DeviceMesh& mesh, const DescribedTensor& tensor);
DTENSOR_EXPORT std::string visualize_svg(const DeviceMesh& mesh, const DescribedTensor& tensor);

/// Signature, sharding rule, dtypes, whether there is a gradient. Local.
DTENSOR_EXPORT std::string explain_op(const OpDef& op);
/// What a call with these inputs would do on `mesh`: the rule for their shapes and the candidate placements, cheapest first, with the predicted time of bringing the
/// inputs there; the first one is taken. At most `limit` candidates. Attributes by name as text ({"dim", "1"}). Local; needs no world.
/// @throws InvalidArgument as the call would.
DTENSOR_EXPORT std::string explain_op(const OpDef& op, const DeviceMesh& mesh, std::span<const DescribedTensor> inputs,
                                      std::span<const std::pair<std::string, std::string>> attributes = {}, int limit = 10);

/// Figures of this rank's plan cache.
struct PlanCacheStats {
  std::uint64_t hits = 0, misses = 0;
  std::size_t plans = 0, specs = 0;
};
DTENSOR_EXPORT PlanCacheStats plan_cache_stats();

}  // namespace dtensor
