// SPDX-License-Identifier: Apache-2.0
#include <fnmatch.h>

#include <algorithm>

#include "dtensor/parallel.h"

#include "dtensor/error.h"
#include "parallel/placing.h"

namespace dtensor::parallel {
namespace {

// Brings a tensor to `placement` on the axis; one that lies there keeps its place on the tape, so that several users' Partial gradients add before one move.
DTensor bring(const DTensor& t, const std::string& axis, const std::optional<Placement>& placement) {
  if (!placement || !t) return t;
  const Placements target = with_axis(t.mesh(), t.placements(), axis, *placement);
  const Placement now = t.placements()[axis], then = target[axis];
  const auto* from = now.as<Shard>();
  const auto* to = then.as<Shard>();
  const bool same_dim = from != nullptr && to != nullptr && normalize_dim(from->dim, t.ndim(), "style") == normalize_dim(to->dim, t.ndim(), "style");
  if (same_dim || (from == nullptr && to == nullptr && now == then)) return t;
  return t.redistribute(target);
}

void add_moves(nn::ModuleBase& module, const std::string& axis, const std::optional<Placement>& input, const std::optional<Placement>& output) {
  module.add_hooks({.input = [axis, input](nn::ModuleBase&, const DTensor& t) { return bring(t, axis, input); },
                    .output = [axis, output](nn::ModuleBase&, const DTensor& t) { return bring(t, axis, output); }});
}

[[noreturn]] void wrong_module(const std::string& name, std::string_view style) {
  throw InvalidArgument("parallelize_module: module '" + name + "' is no Linear or Embedding; " + std::string(style) +
                        " places their parameters, use prepare or sequence_parallel for others");
}

StyleOptions or_default(StyleOptions options, Placement input, Placement output) {
  if (!options.input) options.input = std::move(input);
  if (!options.output) options.output = std::move(output);
  return options;
}

std::string module_names(nn::ModuleBase& module) {
  std::string text;
  int count = 0;
  for (const nn::NamedModule& m : module.named_modules()) {
    if (m.name.empty()) continue;
    if (++count > 12) return text + ", ...";
    text += (text.empty() ? "" : ", ") + m.name;
  }
  return text;
}

}  // namespace

Style colwise(const StyleOptions& options) {
  return {[o = or_default(options, Replicate(), Shard(-1))](nn::ModuleBase& module, const std::string& name, const std::string& axis) {
    if (auto* linear = dynamic_cast<nn::Linear*>(&module)) {
      place(linear->weight, axis, Shard(0));
      place(linear->bias, axis, Shard(0));
    } else if (auto* embedding = dynamic_cast<nn::Embedding*>(&module)) {
      place(embedding->weight, axis, Shard(1));
    } else {
      wrong_module(name, "colwise");
    }
    add_moves(module, axis, o.input, o.output);
  }};
}

Style rowwise(const StyleOptions& options) {
  return {[options](nn::ModuleBase& module, const std::string& name, const std::string& axis) {
    StyleOptions o = options;
    if (auto* linear = dynamic_cast<nn::Linear*>(&module)) {
      o = or_default(options, Shard(-1), Replicate());
      place(linear->weight, axis, Shard(1));
    } else if (auto* embedding = dynamic_cast<nn::Embedding*>(&module)) {
      o = or_default(options, Replicate(), Replicate());
      place(embedding->weight, axis, Shard(0));
    } else {
      wrong_module(name, "rowwise");
    }
    add_moves(module, axis, o.input, o.output);
  }};
}

Style sequence_parallel(const StyleOptions& options) {
  return {[o = or_default(options, Shard(1), Shard(1))](nn::ModuleBase& module, const std::string&, const std::string& axis) {
    add_moves(module, axis, o.input, o.output);
  }};
}

Style prepare(const StyleOptions& options) {
  return {[options](nn::ModuleBase& module, const std::string&, const std::string& axis) { add_moves(module, axis, options.input, options.output); }};
}

void place(const nn::Parameter& p, const AxisNames& axis, const Placement& placement) {
  if (p) p.place(with_axis(p.mesh(), p.placements(), axis.list().at(0), placement));
}

void parallelize_module(nn::ModuleBase& module, const AxisNames& axis, std::span<const PlanEntry> plan) {
  if (axis.list().size() != 1)
    throw InvalidArgument("parallelize_module: " + std::to_string(axis.list().size()) +
                          " axes given; a style works on one axis, flatten the mesh first");
  for (const nn::NamedParameter& p : module.named_parameters()) p.parameter.mesh().axis(axis.list()[0]);
  const auto modules = module.named_modules();
  const auto matches = [](const PlanEntry& entry, const nn::NamedModule& m) { return fnmatch(entry.pattern.c_str(), m.name.c_str(), 0) == 0; };
  for (const PlanEntry& entry : plan)
    if (std::none_of(modules.begin(), modules.end(), [&](const nn::NamedModule& m) { return matches(entry, m); }))
      throw InvalidArgument("parallelize_module: pattern '" + entry.pattern + "' matches no module; the modules are " + module_names(module));
  for (const PlanEntry& entry : plan)
    for (const nn::NamedModule& m : modules)
      if (matches(entry, m)) entry.style.apply(*m.module, m.name, axis.list()[0]);
}

}  // namespace dtensor::parallel
