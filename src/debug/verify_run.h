// SPDX-License-Identifier: Apache-2.0
// One sample of an op as a problem with known inputs, and what every rank gets when it is run sharded.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "debug/verify_cases.h"
#include "debug/verify_values.h"
#include "dtensor/op.h"
#include "tensor/signature.h"

namespace dtensor::debug {

/// An op with attributes and inputs. Not copied: the attributes refer to its storage.
struct Problem {
  Problem(const OpDef& op, const tensor::Signature& signature, const Sample& sample, Dtype dtype, std::uint64_t seed);
  Problem(const Problem&) = delete;
  /// Inputs and attributes as text: "f32[5, 7], i64[5]; dim=1".
  std::string text(const Case* placements = nullptr) const;
  bool writes() const noexcept { return !signature.written.empty(); }
  std::int64_t numel() const noexcept;

  const OpDef& op;
  const tensor::Signature& signature;
  const Sample& sample;
  std::uint64_t seed;
  bool first_only = false;  ///< only the first floating input takes a gradient: the op refuses one for the others
  std::vector<TensorType> types;
  std::vector<bool> present;
  std::vector<Whole> inputs;
  std::vector<Attribute> attributes;
  std::vector<TensorType> results;  ///< by the shape rule

 private:
  std::deque<std::vector<std::int64_t>> lists_;
  std::deque<std::string> texts_;
};

/// A tensor as one rank sees it.
struct Seen {
  placements::LayoutRef layout;  ///< null: no tensor
  Shape shape;
  Dtype dtype = Dtype::f32;
  Part part;
};
/// One case on one rank.
struct CaseRecord {
  bool finished = false;
  std::string error;          ///< what the call threw
  bool communicated = false;  ///< the rule inserted communication
  bool same_when_cached = true;
  std::vector<Seen> outputs, gradients;
};
using Records = std::vector<std::vector<CaseRecord>>;  // by rank, by case

/// Of the calling rank's world.
Device device_here();
/// @throws InvalidArgument on a thread that is a rank: `what` starts ranks of its own; what run_ranks throws for the device.
void check_start(std::string_view what, Device device);
/// `whole` on the mesh; contributions of Partial axes are random.
DTensor place(const Whole& whole, const DeviceMesh& mesh, const std::vector<Placement>& placements, std::uint64_t seed);
/// The calling rank's view.
Seen see(const DTensor& tensor);
/// Where and as what ranks are arranged.
struct Ranks {
  std::vector<int> sizes;  ///< of the mesh
  Device device = {};
};
/// Runs f(mesh, case) for every rank and case on threads arranged so. A case that ends the run has the error in all its records; the rest is run afresh.
Records run_all(const Ranks& ranks, std::size_t cases, const std::function<CaseRecord(const DeviceMesh&, std::size_t)>& f);
/// Runs all cases. A case that ends the run has the error in all its records; the rest is run afresh.
Records run_cases(const Problem& problem, const Ranks& ranks, const std::vector<Case>& cases, bool gradients);
/// The local kernel alone on the parts of every rank: what it gives, without any label.
Records run_local(const Problem& problem, const Ranks& ranks, const std::vector<Case>& cases);
/// Result `output` of a case as a global value.
std::optional<Whole> whole_of(const Records& records, std::size_t at, std::size_t output, bool gradient, std::string& fault);

}  // namespace dtensor::debug
