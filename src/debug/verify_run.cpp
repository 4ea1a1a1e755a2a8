// SPDX-License-Identifier: Apache-2.0
#include "debug/verify_run.h"

#include <algorithm>
#include <bit>

#include "base/error_text.h"
#include "base/rank.h"
#include "dtensor/autograd.h"
#include "dtensor/debug.h"
#include "dtensor/error.h"
#include "dtensor/generator.h"
#include "dtensor/world.h"
#include "mesh/mesh_data.h"
#include "propagate/rule.h"
#include "tensor/impl.h"
#include "tensor/signature.h"

namespace dtensor::debug {
namespace {

constexpr int kMaxRestarts = 4;
constexpr double kTimeLimit = 60;

DeviceMesh make(const std::vector<int>& sizes) {
  std::vector<MeshAxis> axes;
  for (int n : sizes) axes.push_back({"", n});
  const base::RankContext& rank = base::require_rank("verify");
  return mesh::make_mesh(rank.world_id, rank.world_size, axes, {});
}

bool same(const std::vector<Seen>& a, const std::vector<Seen>& b) {
  const auto equal_bits = [](double x, double y) { return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y) || (x != x && y != y); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const Seen& s, const Seen& t) {
    return s.layout == t.layout && s.part.shape == t.part.shape &&
           std::equal(s.part.values.begin(), s.part.values.end(), t.part.values.begin(), t.part.values.end(), equal_bits);
  });
}

// One case on the calling rank.
class CaseRun {
 public:
  CaseRun(const Problem& problem, const DeviceMesh& mesh, const Case& placements) : p_(problem), mesh_(mesh), placements_(placements) {}

  CaseRecord run(bool gradients) {
    CaseRecord record;
    try {
      const CommCounter counter;
      const Results first = call_once(false);
      record.communicated = counter.implicit_launches() > 0;
      for (const DTensor& t : first) record.outputs.push_back(see(t));
      std::vector<Seen> again;
      for (const DTensor& t : call_once(false)) again.push_back(see(t));
      record.same_when_cached = same(record.outputs, again);
      if (gradients && (p_.op.gradient != nullptr || tensor::is_composite(p_.op)) && !p_.writes()) {
        record.gradients = differentiate();
        record.same_when_cached = record.same_when_cached && same(record.gradients, differentiate());
      }
    } catch (const InvalidArgument& e) { record.error = e.what(); } catch (const Unsupported& e) {
      record.error = e.what();
    }
    return record;
  }

 private:
  Results call_once(bool with_gradient) {
    manual_seed(p_.seed);
    if (p_.types.empty()) return {call_on(p_.op, mesh_, Placements(std::span<const Placement>(placements_[0])), {}, p_.attributes)};
    inputs_.clear();
    bool asked = false;
    for (std::size_t i = 0; i < p_.inputs.size(); ++i) {
      inputs_.push_back(p_.present[i] ? place(p_.inputs[i], mesh_, placements_[i], p_.seed + i) : DTensor());
      if (!with_gradient || !p_.present[i] || !info(p_.types[i].dtype).floating || (asked && p_.first_only)) continue;
      inputs_.back().set_requires_grad();
      asked = true;
    }
    std::vector<Input> borrowed;
    for (const DTensor& t : inputs_) borrowed.emplace_back(t);
    return call_all(p_.op, borrowed, p_.attributes);
  }

  // Gradients of a weighted sum of the results that are public: all of a list, else the first.
  std::vector<Seen> differentiate() {
    const Results results = call_once(true);
    const std::size_t used = p_.op.signature.ends_with("[]") ? results.size() : 1;
    std::vector<DTensor> outputs, weights, wanted;
    for (std::size_t o = 0; o < std::min(used, results.size()); ++o) {
      if (!results[o] || !results[o].requires_grad()) continue;
      outputs.push_back(results[o]);
      const Whole w = random_whole(results[o].shape(), results[o].dtype(), -2, 2, 0, p_.seed + 1000 + o);
      weights.push_back(place(w, mesh_, weight_placements(w.shape, o), p_.seed));
    }
    for (const DTensor& t : inputs_)
      if (t && t.requires_grad()) wanted.push_back(t);
    std::vector<Seen> gradients;
    if (outputs.empty() || wanted.empty()) return gradients;
    for (const DTensor& g : grad(outputs, wanted, weights, {.retain_graph = false, .create_graph = false, .allow_unused = true}))
      gradients.push_back(see(g));
    return gradients;
  }

  // Replicate or Shard on each axis, by turns over the cases.
  std::vector<Placement> weight_placements(const Shape& shape, std::size_t output) const {
    std::vector<Placement> list;
    std::uint64_t state = p_.seed + output;
    for (const auto& of_input : placements_)
      for (const Placement& p : of_input) state = state * 31 + static_cast<std::uint64_t>(p.kind()) + 1;
    for (int a = 0; a < mesh_.ndim(); ++a) {
      const auto pick = static_cast<int>(random_bits(state, static_cast<std::uint64_t>(a)) % static_cast<std::uint64_t>(shape.ndim() + 1));
      list.emplace_back(pick == shape.ndim() ? Placement(Replicate()) : Placement(Shard(pick)));
    }
    return list;
  }

  const Problem& p_;
  const DeviceMesh& mesh_;
  const Case& placements_;
  std::vector<DTensor> inputs_;
};

// The dims of every operand as the rule names them, the same for the parts as for the whole: else the kernel is no kernel of such parts.
bool parts_fit(const Problem& p, const std::vector<DTensor>& parts) {
  std::vector<Shape> whole, local, whole_results, local_results;
  std::vector<TensorType> types;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    whole.push_back(p.types[i].shape);
    local.push_back(p.present[i] ? parts[i].shape() : Shape());
    types.push_back({local.back(), p.types[i].dtype});
  }
  ShapeCall at_whole(p.op, p.types, p.present, p.attributes), at_parts(p.op, types, p.present, p.attributes);
  p.op.shape(at_whole);
  p.op.shape(at_parts);
  for (const TensorType& t : at_whole.outputs()) whole_results.push_back(t.shape);
  for (const TensorType& t : at_parts.outputs()) local_results.push_back(t.shape);
  const auto text = [&](const ShapeCall& call) { return p.op.rule_for != nullptr ? p.op.rule_for(call) : std::string(p.op.rule); };
  const auto a = propagate::parse_rule(p.op.name, text(at_whole), whole, p.present, whole_results);
  const auto b = propagate::parse_rule(p.op.name, text(at_parts), local, p.present, local_results);
  const auto size = [](const propagate::Strategy& s, const propagate::DimFactors& dim) {
    std::int64_t n = 1;
    for (int f : dim) n *= s.factors[static_cast<std::size_t>(f)].size;
    return n;
  };
  for (std::size_t k = 0; k < b.size() && k < a.size(); ++k) {
    bool fits = a[k].operands == b[k].operands;
    for (std::size_t i = 0; fits && i < local.size(); ++i)
      for (std::size_t d = 0; d < b[k].operands[i].size(); ++d)
        if (!b[k].operands[i][d].empty() && size(b[k], b[k].operands[i][d]) != local[i][d]) fits = false;
    if (fits) return true;
  }
  return false;
}

CaseRecord run_local_case(const Problem& p, const DeviceMesh& mesh, const Case& placements) {
  CaseRecord record;
  try {
    const DeviceMesh self = DeviceMesh::self();
    std::vector<DTensor> inputs;
    std::vector<Input> borrowed;
    for (std::size_t i = 0; i < p.inputs.size(); ++i) {
      if (!p.present[i]) {
        inputs.emplace_back();
        continue;
      }
      const Tensor part = place(p.inputs[i], mesh, placements[i], p.seed + i).local();
      inputs.push_back(tensor::make_dtensor(
          tensor::intern_spec(self, placements::replicated(self.sizes(), part.ndim()), part.shape(), part.dtype(), part.device()), part));
    }
    for (const DTensor& t : inputs) borrowed.emplace_back(t);
    if (!parts_fit(p, inputs)) {
      record.error = "the parts do not fit each other";
      return record;
    }
    Shape coordinates;
    mesh::coordinates_of(mesh.data(), base::require_rank("verify").rank, coordinates);
    for (const DTensor& t : call_all(p.op, borrowed, p.attributes)) {
      record.outputs.push_back(see(t));
      record.outputs.back().part.coordinates = coordinates;
    }
  } catch (const Error& e) { record.error = e.what(); }
  return record;
}

}  // namespace

void check_start(std::string_view what, Device device) {
  if (base::current_rank() != nullptr)
    base::fail<InvalidArgument>("{}: called on rank {}; it starts ranks of its own, so call it outside run()", what, base::current_rank()->rank);
  run_ranks({.ranks = 1, .device = device}, [](World&) {});  // once, or every case would say it
}

Device device_here() { return base::require_rank("verify").device; }

DTensor place(const Whole& whole, const DeviceMesh& mesh, const std::vector<Placement>& placements, std::uint64_t seed) {
  const auto layout = placements::make_layout(mesh, whole.shape, whole.dtype, Placements(std::span<const Placement>(placements)), "verify");
  const auto spec = tensor::intern_spec(mesh, layout, whole.shape, whole.dtype, device_here());
  return tensor::make_dtensor(spec, make_part(whole, *layout, spec->coordinates, seed).to(spec->device));
}

Seen see(const DTensor& t) {
  if (!t) return {};
  const tensor::Spec& spec = *t.impl()->spec;
  const Tensor local = t.local();
  return {spec.layout, spec.shape, spec.dtype, {spec.coordinates, local.shape(), numbers(local.to(Device::cpu()))}};
}

Records run_all(const Ranks& ranks, std::size_t cases, const std::function<CaseRecord(const DeviceMesh&, std::size_t)>& f) {
  int count = 1;
  for (int n : ranks.sizes) count *= n;
  Records records(static_cast<std::size_t>(count), std::vector<CaseRecord>(cases));
  std::size_t next = 0;
  for (int restart = 0; next < cases && restart <= kMaxRestarts; ++restart) {
    try {
      run_ranks({.ranks = count, .device = ranks.device, .time_limit_s = kTimeLimit, .threads_per_rank = 1}, [&, next](World& world) {
        const DeviceMesh mesh = make(ranks.sizes);
        auto& mine = records[static_cast<std::size_t>(world.rank())];
        for (std::size_t c = next; c < cases; ++c) {
          mine[c] = f(mesh, c);
          mine[c].finished = true;
        }
      });
      return records;
    } catch (const std::exception& e) {
      const auto finished = [&](std::size_t c) { return std::all_of(records.begin(), records.end(), [&](const auto& r) { return r[c].finished; }); };
      while (next < cases && finished(next)) ++next;
      if (next == cases) return records;
      for (auto& r : records) r[next].error = fmt::format("the run ended: {}", e.what());
      ++next;
    }
  }
  return records;
}

Problem::Problem(const OpDef& o, const tensor::Signature& s, const Sample& given, Dtype dtype, std::uint64_t random_seed)
    : op(o), signature(s), sample(given), seed(random_seed) {
  for (std::size_t i = 0; i < sample.shapes.size(); ++i) {
    if (signature.inputs.empty())
      base::fail<InvalidArgument>("verify: a sample of {} gives {} inputs; the signature is \"{}\"", op.name, sample.shapes.size(), op.signature);
    const bool here = !(signature.inputs[std::min(i, signature.inputs.size() - 1)].optional && sample.shapes[i].empty());
    const Dtype d = i < sample.dtypes.size() && (sample.dtypes[i] != Dtype::f32 || !info(dtype).floating) ? sample.dtypes[i] : dtype;
    present.push_back(here);
    types.push_back(here ? TensorType{sample.shapes[i], d} : TensorType{});
    inputs.push_back(here ? random_whole(sample.shapes[i], d, sample.low, sample.high, sample.index_limit, seed + 7 * i) : Whole{});
  }
  for (const auto& a : signature.attributes) attributes.push_back(a.fallback);
  for (const auto& [name, value] : sample.attributes) {
    const auto it =
        std::find_if(signature.attributes.begin(), signature.attributes.end(), [&wanted = name](const auto& a) { return a.name == wanted; });
    if (it == signature.attributes.end())
      base::fail<InvalidArgument>("verify: a sample of {} gives '{}'; the signature is \"{}\"", op.name, name, op.signature);
    attributes[static_cast<std::size_t>(it - signature.attributes.begin())] = tensor::parse_attribute(op.name, *it, value, lists_, texts_);
  }
  ShapeCall call(op, types, present, attributes);
  op.shape(call);
  results = call.outputs();
}

std::string Problem::text(const Case* placements) const {
  std::string out;
  for (std::size_t i = 0; i < types.size(); ++i) {
    out += i == 0 ? "" : ", ";
    out += present[i] ? fmt::format("{}{}{}", dtensor::to_string(types[i].dtype), dtensor::to_string(types[i].shape),
                                    placements != nullptr ? to_string((*placements)[i]) : "")
                      : "none";
  }
  if (types.empty() && placements != nullptr) out += to_string((*placements)[0]);
  for (std::size_t i = 0; i < sample.attributes.size(); ++i)
    out += fmt::format("{}{}={}", i == 0 ? "; " : ", ", sample.attributes[i].first, sample.attributes[i].second);
  return out;
}

std::int64_t Problem::numel() const noexcept {
  std::int64_t n = 0;
  for (const Whole& w : inputs) n += w.shape.numel();
  return n;
}

Records run_cases(const Problem& problem, const Ranks& ranks, const std::vector<Case>& cases, bool gradients) {
  return run_all(ranks, cases.size(), [&](const DeviceMesh& m, std::size_t c) { return CaseRun(problem, m, cases[c]).run(gradients); });
}

Records run_local(const Problem& problem, const Ranks& ranks, const std::vector<Case>& cases) {
  return run_all(ranks, cases.size(), [&](const DeviceMesh& m, std::size_t c) { return run_local_case(problem, m, cases[c]); });
}

std::optional<Whole> whole_of(const Records& records, std::size_t at, std::size_t output, bool gradient, std::string& fault) {
  std::vector<Part> parts;
  const Seen* first = nullptr;
  for (const auto& rank : records) {
    const auto& list = gradient ? rank[at].gradients : rank[at].outputs;
    if (output >= list.size() || !list[output].layout) {
      fault = "a rank has no such tensor";
      return std::nullopt;
    }
    const Seen& seen = list[output];
    if (first == nullptr) first = &seen;
    if (seen.layout != first->layout || seen.shape != first->shape || seen.dtype != first->dtype) {
      fault = "ranks disagree on shape, dtype or placements";
      return std::nullopt;
    }
    parts.push_back(seen.part);
  }
  return assemble(first->shape, first->dtype, *first->layout, parts, fault);
}

}  // namespace dtensor::debug
