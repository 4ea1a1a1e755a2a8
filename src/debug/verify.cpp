// SPDX-License-Identifier: Apache-2.0
#include "dtensor/verify.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <tuple>

#include "base/error_text.h"
#include "base/rank.h"
#include "debug/verify_run.h"
#include "tensor/signature.h"

namespace dtensor {
namespace debug {
namespace {

// A result of few different values is right by luck more often.
constexpr std::uint64_t kConfirmations = 3, kConfirmationsOfBool = 40;

// Keeps the smallest example: fewest elements, ranks, placements that are not Replicate.
class Smallest {
 public:
  explicit Smallest(std::string& text) : text_(&text) {}
  void offer(std::int64_t elements, std::size_t ranks, const Case& placements, const std::string& text) {
    std::int64_t split = 0;
    for (const auto& list : placements) split += std::count_if(list.begin(), list.end(), [](const Placement& p) { return !p.is_replicate(); });
    const std::tuple key(elements, ranks, split);
    if (!text_->empty() && key >= key_) return;
    key_ = key;
    *text_ = text;
  }

 private:
  std::string* text_;
  std::tuple<std::int64_t, std::size_t, std::int64_t> key_{};
};

std::string mesh_text(const std::vector<int>& mesh) { return fmt::format("({})", fmt::join(mesh, ", ")); }

class Checker {
 public:
  Checker(const OpDef& op, const VerifyOptions& options) : op_(op), options_(options), signature_(tensor::parse_signature(op)) {
    report_.op = std::string(op.name);
    report_.reasons = std::string(op.reasons);
  }

  VerifyReport run() {
    if (op_.samples == nullptr || op_.shape == nullptr) return report_;
    const std::vector<Sample> samples = op_.samples();
    for (const Sample& sample : samples) {
      const bool fixed = !sample.dtypes.empty() && std::none_of(sample.dtypes.begin(), sample.dtypes.end(), [](Dtype d) { return d == Dtype::f32; });
      for (std::size_t k = 0; k < (fixed || sample.shapes.empty() ? 1 : options_.dtypes.size()); ++k)
        check(sample, options_.dtypes.empty() ? Dtype::f32 : options_.dtypes[k]);
    }
    return report_;
  }

 private:
  // The op on one rank; null after an error, which is reported.
  std::unique_ptr<Records> reference(Problem& problem, bool gradients) {
    const Case plain(std::max<std::size_t>(1, problem.types.size()), std::vector<Placement>{Replicate()});
    auto records = std::make_unique<Records>(run_cases(problem, {{1}, options_.device}, {plain}, gradients));
    if (gradients && !(*records)[0][0].error.empty()) {
      problem.first_only = true;
      *records = run_cases(problem, {{1}, options_.device}, {plain}, gradients);
    }
    const CaseRecord& r = (*records)[0][0];
    if (r.error.empty()) return records;
    ++report_.checked;
    wrong(problem, {1}, plain, "on one rank it throws \"" + r.error + "\"");
    return nullptr;
  }

  void check(const Sample& sample, Dtype dtype) {
    Problem problem(op_, signature_, sample, dtype, options_.seed + 1);
    const auto expected = reference(problem, options_.gradients);
    if (!expected) return;
    if (problem.types.empty() && problem.results.empty()) return;
    for (const auto& mesh : options_.meshes) {
      const auto cases = cases_of(problem, mesh);
      const Records records = run_cases(problem, {mesh, options_.device}, cases, options_.gradients);
      std::vector<Case> communicated;
      for (std::size_t c = 0; c < cases.size(); ++c) {
        ++report_.checked;
        const std::string fault = judge(problem, records, c, (*expected)[0][0]);
        if (!fault.empty()) wrong(problem, mesh, cases[c], fault);
        else if (records[0][c].communicated) communicated.push_back(cases[c]);
      }
      if (options_.missing) find_missing(sample, dtype, problem, mesh, communicated);
    }
  }

  std::vector<Case> cases_of(const Problem& p, const std::vector<int>& mesh) const {
    if (!p.types.empty()) return make_cases(p.types, p.present, mesh, options_.limit, options_.seed);
    std::vector<Case> cases = make_cases({p.results[0]}, {true}, mesh, options_.limit, options_.seed);
    std::erase_if(cases, [](const Case& c) { return std::any_of(c[0].begin(), c[0].end(), [](const Placement& x) { return x.is_partial(); }); });
    return cases;
  }

  // Empty when the case is right.
  std::string judge(const Problem& p, const Records& records, std::size_t c, const CaseRecord& expected) const {
    const std::string& error = records[0][c].error;
    for (const auto& rank : records)
      if (rank[c].error != error) return fmt::format("ranks disagree: one throws \"{}\", one \"{}\"", error, rank[c].error);
    if (!error.empty()) return p.writes() && !error.starts_with("the run ended") ? "" : fmt::format("it throws \"{}\"", error);
    for (const auto& rank : records)
      if (!rank[c].same_when_cached) return "the second, cached call gives another result or gradient than the first";
    for (std::size_t o = 0; o < expected.outputs.size(); ++o)
      if (auto fault = compare(records, c, o, false, expected.outputs[o]); !fault.empty()) return fmt::format("result {} {}", o, fault);
    for (std::size_t i = 0; i < expected.gradients.size(); ++i)
      if (auto fault = compare(records, c, i, true, expected.gradients[i]); !fault.empty())
        return fmt::format("gradient of floating input {} {}", i, fault);
    return {};
  }

  static std::string compare(const Records& records, std::size_t c, std::size_t o, bool gradient, const Seen& expected) {
    const auto& list = gradient ? records[0][c].gradients : records[0][c].outputs;
    if (!expected.layout) return {};
    std::string fault;
    const auto whole = whole_of(records, c, o, gradient, fault);
    if (whole) fault = difference(*whole, {expected.shape, expected.dtype, expected.part.values});
    if (fault.empty()) return {};
    return o < list.size() && list[o].layout
               ? fmt::format("{}: {}", placements::to_string(*list[o].layout, names(list[o].layout->mesh_ndim())), fault)
               : fault;
  }
  static std::vector<std::string> names(int n) {
    std::vector<std::string> list;
    for (int i = 0; i < n; ++i) list.push_back(std::to_string(i));
    return list;
  }

  void wrong(const Problem& p, const std::vector<int>& mesh, const Case& placements, const std::string& fault) {
    ++report_.wrong;
    smallest_wrong_.offer(p.numel(), mesh.size() * 8 + static_cast<std::size_t>(mesh[0]), placements,
                          fmt::format("{}({}) on mesh {}: {}", op_.name, p.text(&placements), mesh_text(mesh), fault));
  }

  // Parts in an order of their own meet parts in another by luck.
  static bool in_one_order(const Problem& p, const Case& placements, std::size_t axis) {
    std::string order;
    for (std::size_t i = 0; i < p.types.size(); ++i) {
      if (!p.present[i]) continue;
      const Placement& at = placements[i][axis];
      std::string own;
      if (at.is_shard()) own = "S";
      if (const auto* s = at.as<StridedShard>()) own = fmt::format("SS {} of {}", s->split_factor, p.types[i].shape[s->dim]);
      if (const auto* s = at.as<RaggedShard>()) own = fmt::format("{}", fmt::join(s->sizes, " "));
      if (own.empty()) continue;
      if (!order.empty() && own != order) return false;
      order = own;
    }
    return true;
  }
  // A split of a dimension of few indices, or of nothing, is right by luck: there are as many indices as ranks and pieces, more than those of a StridedShard.
  static bool telling(const Problem& p, const Case& placements, const std::vector<int>& mesh) {
    std::int64_t ranks = 1;
    for (std::size_t a = 0; a < mesh.size(); ++a) {
      ranks *= mesh[a];
      if (!in_one_order(p, placements, a)) return false;
    }
    for (std::size_t i = 0; i < p.types.size(); ++i) {
      if (!p.present[i]) continue;
      const Shape& shape = p.types[i].shape;
      if (shape.numel() < 2) return false;
      Shape pieces = Shape::filled(shape.ndim(), 1), more = Shape::filled(shape.ndim(), 0);
      for (std::size_t a = 0; a < mesh.size(); ++a) {
        const Placement& at = placements[i][a];
        if (const auto* s = at.as<Shard>()) pieces[s->dim] *= mesh[a];
        if (const auto* s = at.as<StridedShard>()) pieces[s->dim] *= mesh[a] * s->split_factor, more[s->dim] = 1;
        if (const auto* s = at.as<RaggedShard>()) pieces[s->dim] *= mesh[a];
      }
      for (int d = 0; d < shape.ndim(); ++d)
        if (pieces[d] > 1 && shape[d] < std::max(pieces[d] + more[d], ranks)) return false;
    }
    return true;
  }

  void find_missing(const Sample& sample, Dtype dtype, Problem& problem, const std::vector<int>& mesh, const std::vector<Case>& communicated) {
    if (problem.writes() || op_.random || tensor::is_composite(op_)) return;
    std::vector<Case> open;
    for (const Case& c : communicated)
      if (telling(problem, c, mesh)) open.push_back(c);
    std::vector<std::string> labels;
    bool varies = false;
    const bool boolean = std::any_of(problem.results.begin(), problem.results.end(), [](const TensorType& t) { return t.dtype == Dtype::boolean; });
    for (std::uint64_t k = 0; k < (boolean ? kConfirmationsOfBool : kConfirmations) && !open.empty(); ++k) {
      Problem again(op_, signature_, sample, dtype, options_.seed + 1 + 100 * k);
      const auto expected = reference(again, false);
      if (!expected) return;
      varies = varies || varied((*expected)[0][0]);
      const Records records = run_local(again, {mesh, options_.device}, open);
      std::vector<Case> left;
      labels.clear();
      for (std::size_t c = 0; c < open.size(); ++c) {
        std::string label = right_labels(records, c, (*expected)[0][0], mesh, open[c]);
        if (label.empty()) continue;
        left.push_back(open[c]);
        labels.push_back(std::move(label));
      }
      open = std::move(left);
    }
    if (varies) drop_lucky(problem, mesh, open, labels);
    for (std::size_t c = 0; varies && c < open.size(); ++c) {
      const bool explained = !op_.reasons.empty();
      ++(explained ? report_.explained : report_.missing);
      (explained ? smallest_explained_ : smallest_missing_)
          .offer(problem.numel(), mesh.size() * 8 + static_cast<std::size_t>(mesh[0]), open[c],
                 fmt::format("{}({}) on mesh {} communicates, but its parts give {}", op_.name, problem.text(&open[c]), mesh_text(mesh), labels[c]));
    }
  }

  // What is right in two pieces and not in three is so by luck.
  void drop_lucky(Problem& problem, const std::vector<int>& mesh, std::vector<Case>& open, std::vector<std::string>& labels) {
    std::vector<Case> others;
    std::vector<std::size_t> of;
    for (std::size_t c = 0; c < open.size(); ++c)
      for (std::size_t axis = 0; axis < mesh.size(); ++axis) {
        Case other = open[c];
        for (auto& list : other)
          if (axis < list.size())
            if (const auto* s = list[axis].as<StridedShard>()) list[axis] = StridedShard(s->dim, s->split_factor + 1);
        if (other == open[c] || !telling(problem, other, mesh)) continue;
        others.push_back(std::move(other));
        of.push_back(c);
      }
    if (others.empty()) return;
    const auto expected = reference(problem, false);
    const Records records = run_local(problem, {mesh, options_.device}, others);
    std::vector<bool> lucky(open.size());
    for (std::size_t k = 0; expected && k < others.size(); ++k)
      if (right_labels(records, k, (*expected)[0][0], mesh, others[k]).empty()) lucky[of[k]] = true;
    for (std::size_t c = open.size(); c-- > 0;) {
      if (!lucky[c]) continue;
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(c));
      labels.erase(labels.begin() + static_cast<std::ptrdiff_t>(c));
    }
  }

  // A result that is the same everywhere tells nothing.
  static bool varied(const CaseRecord& r) {
    return std::any_of(r.outputs.begin(), r.outputs.end(), [](const Seen& s) {
      return std::any_of(s.part.values.begin(), s.part.values.end(), [&](double v) { return v != s.part.values[0]; });
    });
  }

  // What a result may be on one mesh axis.
  struct Label {
    std::string text = "R";
    int dim = -1;
    bool partial = false;
    std::int64_t pieces = 1;
    std::vector<std::int64_t> sizes = {};
  };
  // StridedShard and RaggedShard where an input is so on this axis.
  static std::vector<Label> labels_on(const Case& inputs, std::size_t axis, const Seen& e) {
    std::vector<Label> list(1);
    if (e.dtype != Dtype::boolean) list.push_back({.text = "P(sum)", .partial = true});
    for (int d = 0; d < e.shape.ndim(); ++d) list.push_back({.text = fmt::format("S({})", d), .dim = d});
    std::vector<std::string> seen;
    for (const auto& of_input : inputs) {
      if (axis >= of_input.size()) continue;
      const Placement& at = of_input[axis];
      if (std::find(seen.begin(), seen.end(), dtensor::to_string(at)) != seen.end()) continue;
      seen.push_back(dtensor::to_string(at));
      for (int d = 0; d < e.shape.ndim(); ++d) {
        if (const auto* s = at.as<StridedShard>())
          list.push_back({.text = fmt::format("StridedShard({}, {})", d, s->split_factor), .dim = d, .pieces = s->split_factor});
        if (const auto* s = at.as<RaggedShard>(); s != nullptr && std::accumulate(s->sizes.begin(), s->sizes.end(), std::int64_t{0}) == e.shape[d])
          list.push_back({.text = fmt::format("Ragged({})", d), .dim = d, .sizes = s->sizes});
      }
    }
    return list;
  }
  // In both orders of the axes where they split one dim.
  static bool right_as(const Seen& e, const std::vector<Part>& parts, const std::vector<int>& mesh, const std::vector<Label>& labels) {
    const bool same_dim = labels.size() == 2 && labels[0].dim >= 0 && labels[0].dim == labels[1].dim;
    for (int order = 0; order < (same_dim ? 2 : 1); ++order) {
      placements::Layout layout{.mesh_sizes = mesh, .dims = std::vector<placements::Splits>(e.shape.size()), .partial = {}};
      layout.partial.resize(mesh.size());
      bool fits = true;
      for (std::size_t k = 0; k < mesh.size(); ++k) {
        const std::size_t a = order == 0 ? k : mesh.size() - 1 - k;
        if (labels[a].partial) layout.partial[a] = ReduceOp::sum;
        if (labels[a].dim < 0) continue;
        placements::Splits& splits = layout.dims[static_cast<std::size_t>(labels[a].dim)];
        fits = fits && (splits.empty() || labels[a].sizes.empty());
        splits.push_back({{static_cast<int>(a)}, labels[a].pieces, labels[a].sizes});
      }
      std::string fault;
      if (!fits) continue;
      const auto whole = assemble(e.shape, e.dtype, layout, parts, fault);
      if (whole && difference(*whole, {e.shape, e.dtype, e.part.values}).empty()) return true;
    }
    return false;
  }
  static std::string right_label(const Seen& e, const std::vector<Part>& parts, const std::vector<int>& mesh, const Case& inputs) {
    std::vector<std::vector<Label>> choices;
    std::size_t combinations = 1;
    for (std::size_t a = 0; a < mesh.size(); ++a) {
      choices.push_back(labels_on(inputs, a, e));
      combinations *= choices.back().size();
    }
    for (std::size_t n = 0; n < combinations; ++n) {
      std::vector<Label> labels;
      std::size_t left = n;
      for (const auto& list : choices) {
        labels.push_back(list[left % list.size()]);
        left /= list.size();
      }
      if (!right_as(e, parts, mesh, labels)) continue;
      if (labels.size() == 1) return labels[0].text;
      std::string text;
      for (const Label& l : labels) text += (text.empty() ? "{" : ", ") + l.text;
      return text + "}";
    }
    return {};
  }
  // "S(0)" or "S(0), R": under which labels the local results are right; empty when one has none.
  static std::string right_labels(const Records& records, std::size_t c, const CaseRecord& expected, const std::vector<int>& mesh,
                                  const Case& inputs) {
    std::string text;
    for (const auto& rank : records)
      if (!rank[c].error.empty() || rank[c].outputs.size() != expected.outputs.size()) return {};
    for (std::size_t o = 0; o < expected.outputs.size(); ++o) {
      const Seen& e = expected.outputs[o];
      if (e.shape.numel() == 0) return {};
      std::vector<Part> parts;
      for (const auto& rank : records) parts.push_back(rank[c].outputs[o].part);
      const std::string label = right_label(e, parts, mesh, inputs);
      if (label.empty()) return {};
      text += (o == 0 ? "" : ", ") + label;
    }
    return text;
  }

  const OpDef& op_;
  const VerifyOptions& options_;
  tensor::Signature signature_;
  VerifyReport report_;
  Smallest smallest_wrong_{report_.wrong_example}, smallest_missing_{report_.missing_example}, smallest_explained_{report_.explained_example};
};

}  // namespace
}  // namespace debug

VerifyReport verify(const OpDef& op, const VerifyOptions& options) {
  debug::check_start("verify", options.device);
  return debug::Checker(op, options).run();
}

std::string to_string(const VerifyReport& r) {
  std::string text = fmt::format("{}: {} checked, {} wrong, {} missing, {} explained", r.op, r.checked, r.wrong, r.missing, r.explained);
  if (!r.wrong_example.empty()) text += "\n  wrong: " + r.wrong_example;
  if (!r.missing_example.empty()) text += "\n  missing: " + r.missing_example;
  if (!r.explained_example.empty()) text += fmt::format("\n  explained: {} ({})", r.explained_example, r.reasons);
  return text;
}

}  // namespace dtensor
