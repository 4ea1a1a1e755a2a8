// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <deque>

#include "base/error_text.h"
#include "dtensor/debug.h"
#include "placements/layout.h"
#include "propagate/choose.h"
#include "tensor/signature.h"

namespace dtensor {
namespace {

using placements::LayoutRef;

// Attribute values in the order of the signature, with the texts and lists that they borrow.
struct AttributeValues {
  std::vector<Attribute> list;
  std::deque<std::vector<std::int64_t>> lists;
  std::deque<std::string> texts;
};

void read_attributes(const OpDef& op, const tensor::Signature& signature, std::span<const std::pair<std::string, std::string>> given,
                     AttributeValues& values) {
  for (const auto& pair : given) {
    const std::string& name = pair.first;
    const bool known = std::any_of(signature.attributes.begin(), signature.attributes.end(), [&](const auto& a) { return a.name == name; });
    if (!known) base::fail<InvalidArgument>("{}: there is no attribute '{}'; the signature is \"{}\"", op.name, name, op.signature);
  }
  for (const tensor::AttributeInfo& a : signature.attributes) {
    const auto it = std::find_if(given.begin(), given.end(), [&](const auto& pair) { return pair.first == a.name; });
    if (it != given.end()) {
      values.list.push_back(tensor::parse_attribute(op.name, a, it->second, values.lists, values.texts));
    } else if (a.has_default || a.optional) {
      values.list.push_back(a.fallback);
    } else {
      base::fail<InvalidArgument>("{}: attribute '{}' is missing; the signature is \"{}\"", op.name, a.name, op.signature);
    }
  }
}

void check_count(const OpDef& op, const tensor::Signature& signature, std::size_t count) {
  const auto& inputs = signature.inputs;
  const bool variadic = !inputs.empty() && inputs.back().variadic;
  const auto needed = static_cast<std::size_t>(std::count_if(inputs.begin(), inputs.end(), [](const auto& i) { return !i.optional && !i.variadic; }));
  if (count < needed || (count > inputs.size() && !variadic))
    base::fail<InvalidArgument>("{}: {} inputs given for {}; the signature is \"{}\"", op.name, count, inputs.size(), op.signature);
}

// The call as the rules see it.
struct Case {
  std::vector<TensorType> types, results;
  std::vector<bool> present;
  std::vector<Shape> shapes, result_shapes;
  std::vector<Dtype> result_dtypes;
  std::vector<propagate::Operand> operands;
  std::string rule;
};

Case make_case(const OpDef& op, const tensor::Signature& signature, const DeviceMesh& mesh, std::span<const DescribedTensor> inputs,
               const AttributeValues& attributes) {
  Case c;
  const std::size_t declared = signature.inputs.empty() || signature.inputs.back().variadic ? inputs.size() : signature.inputs.size();
  for (std::size_t i = 0; i < declared; ++i) {
    const bool here = i < inputs.size();
    c.present.push_back(here);
    c.types.push_back(here ? TensorType{inputs[i].shape, inputs[i].dtype} : TensorType{});
    c.shapes.push_back(c.types.back().shape);
    if (!here) {
      c.operands.emplace_back();
      continue;
    }
    const LayoutRef layout = placements::make_layout(mesh, inputs[i].shape, inputs[i].dtype, inputs[i].placements, op.name);
    const bool written = signature.inputs[std::min(i, signature.inputs.size() - 1)].written;
    c.operands.push_back({inputs[i].shape, inputs[i].dtype, layout, written});
  }
  ShapeCall call(op, c.types, c.present, attributes.list);
  op.shape(call);
  c.results = call.outputs();
  for (const TensorType& t : c.results) {
    c.result_shapes.push_back(t.shape);
    c.result_dtypes.push_back(t.dtype);
  }
  c.rule = op.rule_for != nullptr ? op.rule_for(call) : std::string(op.rule);
  return c;
}

std::string layouts_text(const Case& c, const propagate::Choice& choice, const DeviceMesh& mesh) {
  std::string text;
  for (std::size_t i = 0; i < choice.operands.size(); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", choice.operands[i] ? placements::to_string(*choice.operands[i], mesh.names()) : "absent");
  text += " -> ";
  for (std::size_t i = 0; i < choice.results.size(); ++i)
    text += (i == 0 ? "" : ", ") + placements::to_string(c.results[i].dtype, c.results[i].shape, *choice.results[i], mesh.names());
  return text;
}

// A rule that is built for each call, as it is for the op's first sample.
std::string sample_rule(const OpDef& op) {
  const std::vector<Sample> samples = op.samples != nullptr ? op.samples() : std::vector<Sample>();
  if (samples.empty() || op.shape == nullptr || op.rule_for == nullptr) return "rule      depends on shapes and attributes\n";
  const Sample& sample = samples[0];
  const tensor::Signature signature = tensor::parse_signature(op);
  AttributeValues values;
  read_attributes(op, signature, sample.attributes, values);
  std::vector<TensorType> types;
  std::vector<bool> present;
  std::string call_text;
  for (std::size_t i = 0; i < sample.shapes.size(); ++i) {
    present.push_back(!(signature.inputs[std::min(i, signature.inputs.size() - 1)].optional && sample.shapes[i].empty()));
    types.push_back({sample.shapes[i], i < sample.dtypes.size() ? sample.dtypes[i] : Dtype::f32});
    call_text +=
        fmt::format("{}{}{}", i == 0 ? "" : ", ", present[i] ? to_string(types[i].dtype) : "none", present[i] ? to_string(types[i].shape) : "");
  }
  for (const auto& [name, value] : sample.attributes) call_text += fmt::format("{}{}={}", call_text.empty() ? "" : ", ", name, value);
  ShapeCall call(op, types, present, values.list);
  op.shape(call);
  return fmt::format("rule      {}\n          (depends on shapes and attributes; this one is of {}({}))\n", op.rule_for(call), op.name, call_text);
}

}  // namespace

std::string explain_op(const OpDef& op) {
  std::string text = fmt::format("{}({})\n", op.name, op.signature);
  if (op.plan != nullptr) text += "rule      the op is its own plan\n";
  else if (tensor::is_composite(op)) text += "rule      those of the ops that it is made of\n";
  else if (!op.rule.empty()) text += fmt::format("rule      {}\n", op.rule);
  else text += sample_rule(op);
  text += fmt::format("dtypes    {}\n", op.dtypes.empty() ? "any" : op.dtypes);
  text += fmt::format("gradient  {}{}\n",
                      op.gradient != nullptr     ? "yes"
                      : tensor::is_composite(op) ? "that of the ops that it is made of"
                                                 : "no",
                      op.saves.empty() || op.gradient == nullptr ? std::string() : fmt::format(", keeps {}", op.saves));
  if (op.decompose != nullptr && tensor::has_kernel(op)) text += "split     a dimension that must be whole takes the distributed form\n";
  if (op.random) text += "random    adds one to the generator\n";
  if (!op.reasons.empty()) text += fmt::format("reasons   {}\n", op.reasons);
  return text;
}

std::string explain_op(const OpDef& op, const DeviceMesh& mesh, std::span<const DescribedTensor> inputs,
                       std::span<const std::pair<std::string, std::string>> attributes, int limit) {
  if (op.shape == nullptr || op.plan != nullptr)
    base::fail<Unsupported>("{}: the op is its own plan and has no rule; dtensor plan and explain() show moves", op.name);
  if (tensor::is_composite(op)) base::fail<Unsupported>("{}: the op is made of other ops and has no rule of its own; ask for theirs", op.name);
  const tensor::Signature signature = tensor::parse_signature(op);
  check_count(op, signature, inputs.size());
  AttributeValues values;
  read_attributes(op, signature, attributes, values);
  const Case c = make_case(op, signature, mesh, inputs, values);
  if (inputs.empty())
    base::fail<InvalidArgument>("{}: the op has no inputs, its placements are given by the caller; there is nothing to choose", op.name);
  std::string text = fmt::format("rule      {}\n", c.rule);
  const auto strategies = propagate::parse_rule(op.name, c.rule, c.shapes, c.present, c.result_shapes);
  if (op.decompose != nullptr && propagate::splits_whole(strategies, c.operands, mesh.sizes())) {
    return text + "a dimension that the kernel needs whole is split: the call becomes other ops, and the input stays where it is\n";
  }
  auto all = propagate::candidates(op.name, strategies, c.operands, {c.result_shapes, c.result_dtypes}, mesh.sizes());
  if (all.empty()) base::fail<InvalidArgument>("{}: the tensor written in place cannot keep its placements under the rule \"{}\"", op.name, c.rule);
  const std::size_t shown = limit > 0 ? std::min(all.size(), static_cast<std::size_t>(limit)) : all.size();
  for (std::size_t i = 0; i < shown; ++i)
    text += fmt::format("{} {:>10.1f} us  {}\n", i == 0 ? "taken" : "     ", static_cast<double>(all[i].nanoseconds) / 1000,
                        layouts_text(c, all[i], mesh));
  if (all.size() > shown) text += fmt::format("      and {} more\n", all.size() - shown);
  return text;
}

}  // namespace dtensor
