// SPDX-License-Identifier: Apache-2.0
#include "propagate/choose.h"

#include <algorithm>
#include <set>

#include "base/error_text.h"
#include "propagate/project.h"
#include "redistribute/plan/route.h"

namespace dtensor::propagate {
namespace {

using placements::Layout;
using placements::LayoutRef;

// What one mesh axis does in a candidate.
struct Option {
  enum class Kind : std::uint8_t { replicate, partial, factor } kind = Kind::replicate;
  ReduceOp op = ReduceOp::sum;  // of partial
  int operand = -1;             // of partial in a bilinear rule: the Partial one
  int factor = -1;
  int source = -1;  // index into Search::sources_
};

// Splits that an operand brings to a factor, in order.
struct SourceList {
  int factor;
  Splits splits;
};

// What parts of this kind cannot be summed up to (avg of integers, sum of bool), no operand is brought to and no result left as.
bool is_legal(const Layout& layout, Dtype dtype) {
  return std::all_of(layout.partial.begin(), layout.partial.end(), [&](const std::optional<ReduceOp>& op) {
    if (!op) return true;
    return *op == ReduceOp::avg ? info(dtype).floating : (*op != ReduceOp::sum && *op != ReduceOp::product) || dtype != Dtype::boolean;
  });
}

bool has_axis(const Split& s, int axis) { return std::find(s.axes.begin(), s.axes.end(), axis) != s.axes.end(); }

class Search {
 public:
  Search(const Strategy& strategy, std::span<const Operand> operands, const Outcome& results, std::span<const int> mesh_sizes, bool described)
      : s_(strategy),
        operands_(operands),
        results_(results.shapes),
        dtypes_(results.dtypes),
        mesh_(mesh_sizes),
        described_(described),
        windows_(std::any_of(s_.factors.begin(), s_.factors.end(), [](const Factor& f) { return f.of >= 0; })) {
    layout_.mesh_sizes.assign(mesh_.begin(), mesh_.end());
    options_.reserve(mesh_.size());
    for (std::size_t i = 0; i < operands_.size(); ++i)
      if (operands_[i].layout) collect_sources(static_cast<int>(i));
    for (int axis = 0; axis < static_cast<int>(mesh_.size()); ++axis) options_.push_back(axis_options(axis));
  }

  /// Until visit says no.
  template <class F>
  bool each(F&& visit) {
    std::vector<Option> chosen(mesh_.size());
    return recurse(0, chosen, visit);
  }

 private:
  template <class F>
  bool recurse(std::size_t axis, std::vector<Option>& chosen, F& visit) {
    if (axis == mesh_.size()) {
      auto choice = build(chosen);
      return !choice || visit(*std::move(choice));
    }
    for (const Option& o : options_[axis]) {
      chosen[axis] = o;
      if (!recurse(axis + 1, chosen, visit)) return false;
    }
    return true;
  }

  std::vector<std::int64_t> factor_sizes(const DimFactors& dim) const {
    std::vector<std::int64_t> sizes;
    for (int f : dim) sizes.push_back(s_.factors[static_cast<std::size_t>(f)].size);
    return sizes;
  }

  void add_source(int factor, Splits splits) {
    if (const Factor& f = s_.factors[static_cast<std::size_t>(factor)]; f.of >= 0) return add_source(f.of, chunks_over(splits));
    // What is read through a window is one run on every rank.
    const bool several = std::any_of(splits.begin(), splits.end(), [](const Split& s) { return s.pieces > 1; });
    if (several && is_read(factor)) splits = chunks_over(splits);
    if (splits.empty() || s_.factors[static_cast<std::size_t>(factor)].kind == FactorKind::whole) return;
    for (const SourceList& l : sources_)
      if (l.factor == factor && l.splits == splits) return;
    sources_.push_back({factor, std::move(splits)});
  }

  // Some window reads through it.
  bool is_read(int factor) const {
    return std::any_of(s_.factors.begin(), s_.factors.end(), [factor](const Factor& f) { return f.of == factor; });
  }

  void collect_sources(int i) {
    const Operand& operand = operands_[static_cast<std::size_t>(i)];
    const OperandDims& dims = s_.operands[static_cast<std::size_t>(i)];
    for (std::size_t d = 0; d < dims.size(); ++d) {
      const Splits& splits = operand.layout->dims[d];
      if (splits.empty() || dims[d].empty()) continue;
      const auto sizes = factor_sizes(dims[d]);
      if (auto factors = to_factors(splits, sizes, mesh_)) {
        for (std::size_t f = 0; f < sizes.size(); ++f) add_source(dims[d][f], (*factors)[f]);
      } else {
        fallback_sources(splits, dims[d]);
      }
    }
  }

  static Splits chunks_over(const Splits& splits) {
    Splits chunks;
    for (const Split& s : splits)
      for (int axis : s.axes) chunks.push_back({.axes = {axis}, .pieces = 1, .sizes = {}});
    return chunks;
  }

  // A bound falls inside an element of the major factor: offer ceil chunks of it over the same axes.
  void fallback_sources(const Splits& splits, const DimFactors& dim) {
    const Splits chunks = chunks_over(splits);
    for (int f : dim) {
      if (s_.factors[static_cast<std::size_t>(f)].size == 1) continue;
      add_source(f, chunks);
      return;
    }
  }

  std::vector<Option> axis_options(int axis) const {
    std::vector<Option> list;
    for (std::size_t k = 0; k < sources_.size(); ++k) {
      const bool splits = std::any_of(sources_[k].splits.begin(), sources_[k].splits.end(), [&](const Split& s) { return has_axis(s, axis); });
      if (splits) list.push_back({.kind = Option::Kind::factor, .factor = sources_[k].factor, .source = static_cast<int>(k)});
    }
    add_partial_options(axis, list);
    list.push_back({});
    return list;
  }

  std::optional<ReduceOp> partial_of(int operand, int axis) const {
    const Operand& o = operands_[static_cast<std::size_t>(operand)];
    return o.layout ? o.layout->partial[static_cast<std::size_t>(axis)] : std::nullopt;
  }
  bool replicate_on(int operand, int axis) const {
    const Operand& o = operands_[static_cast<std::size_t>(operand)];
    return !o.layout || (o.layout->dim_of(axis) < 0 && !o.layout->partial[static_cast<std::size_t>(axis)]);
  }
  static bool additive(std::optional<ReduceOp> op) { return op == ReduceOp::sum || op == ReduceOp::avg; }
  std::vector<int> linear_operands() const {
    if (!s_.linear_operands.empty()) return s_.linear_operands;
    std::vector<int> all;
    for (int i = 0; i < static_cast<int>(operands_.size()); ++i)
      if (operands_[static_cast<std::size_t>(i)].layout) all.push_back(i);
    return all;
  }

  void add_partial_options(int axis, std::vector<Option>& list) const {
    const auto partial = [axis](const Operand& o) { return o.layout && o.layout->partial[static_cast<std::size_t>(axis)]; };
    if (std::none_of(operands_.begin(), operands_.end(), partial)) return;
    if (s_.linear) {
      // Free only when the listed operands are Partial of one kind or Replicate here.
      std::optional<ReduceOp> op;
      bool usable = true;
      for (int i : linear_operands()) {
        const auto p = partial_of(i, axis);
        if (p ? !additive(p) || (op && *op != *p) : !replicate_on(i, axis)) usable = false;
        if (p) op = p;
      }
      if (usable && op) list.push_back({.kind = Option::Kind::partial, .op = *op});
    }
    if (s_.bilinear) {
      for (int i : {s_.bilinear_a, s_.bilinear_b})
        if (additive(partial_of(i, axis))) list.push_back({.kind = Option::Kind::partial, .op = *partial_of(i, axis), .operand = i});
    }
    if (s_.monotone) {
      for (int i = 0; i < static_cast<int>(operands_.size()); ++i) {
        const auto p = partial_of(i, axis);
        if (p == ReduceOp::max || p == ReduceOp::min) list.push_back({.kind = Option::Kind::partial, .op = *p, .operand = i});
      }
    }
  }

  // The split list of a factor: the source with most of its axes gives the order, the others follow in mesh order.
  std::optional<Splits> factor_splits(int factor, const std::vector<Option>& chosen) const {
    std::vector<int> axes;
    std::set<int> used;
    for (std::size_t a = 0; a < chosen.size(); ++a) {
      if (chosen[a].kind != Option::Kind::factor || chosen[a].factor != factor) continue;
      axes.push_back(static_cast<int>(a));
      used.insert(chosen[a].source);
    }
    Splits out;
    if (axes.empty()) return out;
    std::vector<int> sources(used.begin(), used.end());
    const auto covered = [&](int k) {
      return std::count_if(axes.begin(), axes.end(), [&](int a) { return chosen[static_cast<std::size_t>(a)].source == k; });
    };
    std::stable_sort(sources.begin(), sources.end(), [&](int a, int b) { return covered(a) > covered(b); });
    for (int k : sources) {
      for (const Split& s : sources_[static_cast<std::size_t>(k)].splits) {
        const auto mine = std::count_if(s.axes.begin(), s.axes.end(), [&](int a) {
          return chosen[static_cast<std::size_t>(a)].kind == Option::Kind::factor && chosen[static_cast<std::size_t>(a)].source == k;
        });
        if (mine == 0) continue;
        if (mine != static_cast<std::ptrdiff_t>(s.axes.size())) return std::nullopt;  // a joint split goes whole or not at all
        if (!s.sizes.empty() && !out.empty()) return std::nullopt;
        out.push_back(s);
      }
    }
    return out;
  }

  // The layout of operand i (i >= 0) or of result -1 - i; nothing where no layout says it.
  std::optional<LayoutRef> layout_of(int i, const OperandDims& dims, int ndim, const std::vector<Splits>& factors,
                                     const std::vector<Option>& chosen) {
    set_partial_states(i, dims, chosen);
    layout_.dims.resize(static_cast<std::size_t>(ndim));
    for (std::size_t d = 0; d < dims.size(); ++d) {
      if (const int of = window_of(dims[d]); of >= 0) {
        layout_.dims[d] = carrier(i, d, factors[static_cast<std::size_t>(of)], chosen);
      } else if (dims[d].size() == 1) {
        layout_.dims[d] = factors[static_cast<std::size_t>(dims[d][0])];
      } else {
        std::vector<Splits> parts;
        for (int f : dims[d]) parts.push_back(factors[static_cast<std::size_t>(f)]);
        auto splits = to_dimension(parts, factor_sizes(dims[d]), mesh_);
        if (!splits) return std::nullopt;
        layout_.dims[d] = *std::move(splits);
      }
    }
    // Mostly an operand has it already.
    for (const Operand& o : operands_)
      if (o.layout && *o.layout == layout_) return o.layout;
    return placements::intern(layout_);
  }

  int window_of(const DimFactors& dim) const { return dim.size() == 1 ? s_.factors[static_cast<std::size_t>(dim[0])].of : -1; }

  // How a dimension that is read through a window lies before the exchange: as it does now on the axes that split the reading factor or that nothing else uses,
  // and in chunks over axes of that factor on which the operand is neither split here nor Replicate.
  Splits carrier(int operand, std::size_t dim, const Splits& reading, const std::vector<Option>& chosen) const {
    const Layout& now = *operands_[static_cast<std::size_t>(operand)].layout;
    const auto reads = [&](int axis) { return std::any_of(reading.begin(), reading.end(), [&](const Split& s) { return has_axis(s, axis); }); };
    const auto stays = [&](int axis) { return reads(axis) || chosen[static_cast<std::size_t>(axis)].kind == Option::Kind::replicate; };
    Splits out;
    for (const Split& s : now.dims[dim])
      if (std::all_of(s.axes.begin(), s.axes.end(), stays)) out.push_back(s);
    for (const Split& s : reading)
      for (int axis : s.axes)
        if (!replicate_on(operand, axis) && std::none_of(out.begin(), out.end(), [&](const Split& o) { return has_axis(o, axis); }))
          out.push_back({.axes = {axis}, .pieces = 1, .sizes = {}});
    return out;
  }

  // What is left to fetch of an operand that lies as `layout` says.
  std::vector<redistribute::WindowDim> windows_of(std::size_t operand, const LayoutRef& layout, const std::vector<Splits>& factors,
                                                  Choice& choice) const {
    redistribute::Window window{layout, operands_[operand].shape, {}};
    const OperandDims& dims = s_.operands[operand];
    for (std::size_t d = 0; d < dims.size(); ++d) {
      const int of = window_of(dims[d]);
      const auto divides = [&](const Split& s) {
        return std::any_of(s.axes.begin(), s.axes.end(), [&](int a) { return mesh_[static_cast<std::size_t>(a)] > 1; });
      };
      if (of < 0 || std::none_of(layout->dims[d].begin(), layout->dims[d].end(), divides)) continue;
      const Factor& f = s_.factors[static_cast<std::size_t>(dims[d][0])];
      window.dims.push_back({static_cast<int>(d), f.map, factors[static_cast<std::size_t>(of)], s_.factors[static_cast<std::size_t>(of)].size});
    }
    if (window.dims.empty()) return {};
    const redistribute::WindowFigures figures = redistribute::figures_of(window);
    if (!figures.needed) return {};
    choice.nanoseconds += redistribute::nanoseconds_of(figures, info(operands_[operand].dtype).bytes);
    return std::move(window.dims);
  }

  bool has_factor(const OperandDims& dims, int factor) const {
    return std::any_of(dims.begin(), dims.end(), [&](const DimFactors& d) {
      return std::find(d.begin(), d.end(), factor) != d.end() || (factor >= 0 && window_of(d) == factor);
    });
  }

  void set_partial_states(int i, const OperandDims& dims, const std::vector<Option>& chosen) {
    auto& partial = layout_.partial;
    partial.assign(mesh_.size(), std::nullopt);
    for (std::size_t a = 0; a < chosen.size(); ++a) {
      const Option& o = chosen[a];
      if (o.kind == Option::Kind::partial) {
        bool is = i < 0 || o.operand == i;
        if (o.operand < 0 && i >= 0) {
          const auto linear = linear_operands();
          is = std::find(linear.begin(), linear.end(), i) != linear.end();
        }
        if (is) partial[a] = o.op;
      } else if (o.kind == Option::Kind::factor) {
        const Factor& f = s_.factors[static_cast<std::size_t>(o.factor)];
        if (f.kind != FactorKind::reduce || has_factor(dims, o.factor)) continue;
        if (i < 0 || std::find(f.addends.begin(), f.addends.end(), i) != f.addends.end()) partial[a] = f.op;
      }
    }
  }

  std::optional<Choice> build(const std::vector<Option>& chosen) {
    std::vector<Splits> factors(s_.factors.size());
    for (std::size_t f = 0; f < factors.size(); ++f) {
      auto splits = factor_splits(static_cast<int>(f), chosen);
      if (!splits) return std::nullopt;
      factors[f] = *std::move(splits);
    }
    Choice choice;
    choice.operands.reserve(operands_.size());
    choice.results.reserve(results_.size());
    choice.windows.resize(windows_ ? operands_.size() : 0);
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      const Operand& operand = operands_[i];
      if (!operand.layout) {
        choice.operands.push_back(nullptr);
        continue;
      }
      auto layout = layout_of(static_cast<int>(i), s_.operands[i], operand.shape.ndim(), factors, chosen);
      if (!layout) return std::nullopt;
      if (operand.fixed) {
        if (*layout != operand.layout && !placements::equivalent(**layout, *operand.layout, operand.shape)) return std::nullopt;
        layout = operand.layout;
      }
      if (!is_legal(**layout, operand.dtype)) return std::nullopt;
      if (*layout != operand.layout)
        choice.nanoseconds += redistribute::find_route(operand.layout, *layout, operand.shape, operand.dtype)->nanoseconds;
      if (windows_) choice.windows[i] = windows_of(i, *layout, factors, choice);
      choice.operands.push_back(*std::move(layout));
    }
    for (std::size_t i = 0; i < results_.size(); ++i) {
      auto layout = layout_of(-1 - static_cast<int>(i), s_.results[i], results_[i].ndim(), factors, chosen);
      if (!layout || (i < dtypes_.size() && !is_legal(**layout, dtypes_[i]))) return std::nullopt;
      choice.results.push_back(*std::move(layout));
    }
    if (described_) choice.text = describe(factors, chosen);
    return choice;
  }

  std::string describe(const std::vector<Splits>& factors, const std::vector<Option>& chosen) const {
    std::string text;
    for (std::size_t f = 0; f < factors.size(); ++f) {
      if (factors[f].empty()) continue;
      text += fmt::format("{}{}: [", text.empty() ? "" : ", ", s_.factors[f].name);
      for (std::size_t k = 0; k < factors[f].size(); ++k) text += fmt::format("{}{}", k == 0 ? "" : " ", fmt::join(factors[f][k].axes, "+"));
      text += "]";
    }
    for (std::size_t a = 0; a < chosen.size(); ++a)
      if (chosen[a].kind == Option::Kind::partial) text += fmt::format("{}partial({}): [{}]", text.empty() ? "" : ", ", to_string(chosen[a].op), a);
    return text.empty() ? "replicate" : text;
  }

  const Strategy& s_;
  std::span<const Operand> operands_;
  std::span<const Shape> results_;
  std::span<const Dtype> dtypes_;
  std::span<const int> mesh_;
  bool described_, windows_;
  Layout layout_;  // what is being made
  std::vector<SourceList> sources_;
  std::vector<std::vector<Option>> options_;
};

template <class F>
void each_candidate(const std::vector<Strategy>& strategies, std::span<const Operand> operands, const Outcome& results,
                    std::span<const int> mesh_sizes, bool described, F&& f) {
  for (std::size_t k = 0; k < strategies.size(); ++k) {
    const bool on = Search(strategies[k], operands, results, mesh_sizes, described).each([&](Choice choice) {
      choice.strategy = static_cast<int>(k);
      return f(std::move(choice));
    });
    if (!on) return;
  }
}

}  // namespace

Choice choose(std::string_view op, const std::vector<Strategy>& strategies, std::span<const Operand> operands, const Outcome& results,
              std::span<const int> mesh_sizes) {
  std::optional<Choice> best;
  each_candidate(strategies, operands, results, mesh_sizes, false, [&](Choice choice) {
    if (!best || choice.nanoseconds < best->nanoseconds) best = std::move(choice);
    return best->nanoseconds > 0;  // none costs less than nothing, and the first of equals wins
  });
  if (!best)
    base::fail<InvalidArgument>(
        "{}: the tensor written in place cannot keep its placements under the rule \"{}\"; redistribute it first, or use the form that returns a "
        "result",
        op, strategies.empty() ? "" : strategies[0].text);
  return *std::move(best);
}

std::vector<Choice> candidates(std::string_view op, const std::vector<Strategy>& strategies, std::span<const Operand> operands,
                               const Outcome& results, std::span<const int> mesh_sizes) {
  (void)op;
  std::vector<Choice> all;
  each_candidate(strategies, operands, results, mesh_sizes, true, [&](Choice choice) {
    all.push_back(std::move(choice));
    return true;
  });
  std::stable_sort(all.begin(), all.end(), [](const Choice& a, const Choice& b) { return a.nanoseconds < b.nanoseconds; });
  return all;
}

bool splits_whole(const std::vector<Strategy>& strategies, std::span<const Operand> operands, std::span<const int> mesh_sizes) {
  const auto in_strategy = [&](const Strategy& s) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (!operands[i].layout) continue;
      for (std::size_t d = 0; d < s.operands[i].size(); ++d) {
        const bool whole = std::any_of(s.operands[i][d].begin(), s.operands[i][d].end(),
                                       [&](int f) { return s.factors[static_cast<std::size_t>(f)].kind == FactorKind::whole; });
        if (!whole) continue;
        for (const Split& split : operands[i].layout->dims[d])
          for (int axis : split.axes)
            if (mesh_sizes[static_cast<std::size_t>(axis)] > 1) return true;
      }
    }
    return false;
  };
  return !strategies.empty() && std::all_of(strategies.begin(), strategies.end(), in_strategy);
}

}  // namespace dtensor::propagate
