// SPDX-License-Identifier: Apache-2.0
#include "debug/case_calls.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>

#include "base/error_text.h"
#include "tensor/signature.h"

namespace dtensor::debug {
namespace {

using Json = nlohmann::json;
using tensor::AttributeInfo;
using tensor::AttributeType;
using tensor::Signature;

std::string_view dtype_name(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {{"float64", "f64"},   {"double", "f64"},  {"float32", "f32"}, {"float", "f32"},
                                                                      {"bfloat16", "bf16"}, {"float16", "f16"}, {"half", "f16"},    {"int64", "i64"},
                                                                      {"long", "i64"},      {"int32", "i32"},   {"int", "i32"},     {"uint8", "u8"}};
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const auto& [theirs, ours] : kNames)
    if (name == theirs) return ours;
  return name;
}

// As parse_attribute reads it.
std::string attribute_text(const Json& json, AttributeType type) {
  if (json.is_null()) return "none";
  if (json.is_string() && type == AttributeType::dtype) return std::string(dtype_name(json.get<std::string>()));
  if (json.is_string()) return json.get<std::string>();
  if (json.is_array() && json.size() == 1 && type != AttributeType::list) return attribute_text(json[0], type);
  if (json.is_number() && type == AttributeType::list) return "[" + json.dump() + "]";
  return json.dump();
}

// Attribute `name` of the case, under the op's own name for it; null when the op has none.
const AttributeInfo* find_attribute(const Signature& s, const std::string& name) {
  for (const AttributeInfo& a : s.attributes)
    if (a.name == name || a.name == name + "_value") return &a;
  return nullptr;
}

const tensor::InputInfo* find_input(const Signature& s, const CaseInput& input) {
  for (const tensor::InputInfo& i : s.inputs)
    if (i.name == input.name && i.variadic == input.list) return &i;
  return nullptr;
}

bool is_present(const CaseInput& input) {
  return input.list || std::any_of(input.tensors.begin(), input.tensors.end(), [](const CaseTensor& t) { return t.present; });
}

// Why the op does not take the case; empty when it does.
std::string misfit(const OpDef& op, const Signature& s, const RecordedCase& c) {
  for (const CaseInput& input : c.inputs)
    if (is_present(input) && find_input(s, input) == nullptr)
      return fmt::format("{} has no input '{}'; the signature is \"{}\"", op.name, input.name, op.signature);
  for (const auto& [name, value] : c.attributes.items())
    if (find_attribute(s, name) == nullptr) return fmt::format("{} has no attribute '{}'; the signature is \"{}\"", op.name, name, op.signature);
  for (const tensor::InputInfo& declared : s.inputs) {
    const bool given = std::any_of(c.inputs.begin(), c.inputs.end(), [&](const CaseInput& i) { return i.name == declared.name && is_present(i); });
    if (!given && !declared.optional) return fmt::format("{} needs input '{}'; the signature is \"{}\"", op.name, declared.name, op.signature);
    if (declared.written) return fmt::format("{} writes in place; the signature is \"{}\"", op.name, op.signature);
  }
  return {};
}

// A call of an op: which tensors go where, and the attributes.
struct OpCall {
  const OpDef* op;
  std::vector<std::size_t> order;  ///< of the flattened tensors; npos for absent
  std::vector<Attribute> attributes;
  std::deque<std::vector<std::int64_t>> lists;
  std::deque<std::string> texts;
};
constexpr std::size_t kAbsent = ~std::size_t{0};

std::shared_ptr<OpCall> prepare(const OpDef& op, const Signature& s, const RecordedCase& c) {
  auto call = std::make_shared<OpCall>();
  call->op = &op;
  for (const tensor::InputInfo& declared : s.inputs) {
    std::size_t at = 0;
    bool found = false;
    for (const CaseInput& input : c.inputs) {
      if (input.name == declared.name)
        for (std::size_t k = 0; k < input.tensors.size(); ++k) call->order.push_back(input.tensors[k].present ? at + k : kAbsent), found = true;
      at += input.tensors.size();
    }
    if (!found && !declared.variadic) call->order.push_back(kAbsent);
  }
  std::vector<bool> given(s.attributes.size());
  for (const AttributeInfo& a : s.attributes) {
    const bool list_default = a.type == AttributeType::list && a.has_default;
    if (!list_default) {
      call->attributes.push_back(a.fallback.kind() == Attribute::Kind::text ? Attribute(call->texts.emplace_back(a.fallback.as_text())) : a.fallback);
      continue;
    }
    const auto fallback = a.fallback.as_list();
    call->attributes.emplace_back(
        a.fallback.is_none() ? Attribute() : Attribute(std::span<const std::int64_t>(call->lists.emplace_back(fallback.begin(), fallback.end()))));
  }
  for (const auto& [name, value] : c.attributes.items()) {
    const AttributeInfo& a = *find_attribute(s, name);
    const auto at = static_cast<std::size_t>(&a - s.attributes.data());
    given[at] = true;
    if (value.is_null() && !a.optional && a.has_default) continue;
    call->attributes[at] = tensor::parse_attribute(op.name, a, attribute_text(value, a.type), call->lists, call->texts);
  }
  for (std::size_t i = 0; i < given.size(); ++i)
    if (!given[i] && !s.attributes[i].has_default && !s.attributes[i].optional)
      base::fail<InvalidArgument>("{}: attribute '{}' is missing; the signature is \"{}\"", op.name, s.attributes[i].name, op.signature);
  return call;
}

CaseCall call_of(std::shared_ptr<OpCall> call) {
  return [call = std::move(call)](std::span<const DTensor> tensors) {
    std::vector<Input> inputs;
    for (const std::size_t at : call->order) inputs.push_back(at == kAbsent ? Input() : Input(tensors[at]));
    return call_all(*call->op, inputs, call->attributes);
  };
}

// Null and the reason when no op of this name takes the case.
CaseCall call_of_op(const RecordedCase& c, std::string& reason) {
  for (const bool overload : {false, true}) {
    for (const OpDef* op : all_ops()) {
      if (overload ? !op->name.starts_with(c.op + ".") : op->name != c.op) continue;
      const Signature s = tensor::parse_signature(*op);
      const std::string why = misfit(*op, s, c);
      if (why.empty()) return call_of(prepare(*op, s, c));
      if (reason.empty()) reason = why;
    }
  }
  return nullptr;
}

// The dtype that a tensor without dimensions must have to leave the result's dtype to the case's tensors.
Dtype number_dtype(const RecordedCase& c, bool integral, Dtype otherwise) {
  Dtype dtype = otherwise;
  for (const CaseTensor* t : c.tensors()) {
    if (!t->present || (integral ? !info(t->value.dtype).integral : !info(t->value.dtype).floating)) continue;
    if (t->value.shape.ndim() > 0) return otherwise;
    dtype = t->value.dtype;
  }
  return dtype;
}

// A number takes no part in the dtype of a result beyond its kind, as a tensor without dimensions does.
Whole as_tensor(const Json& number, const RecordedCase& c) {
  if (number.is_boolean()) return {{}, Dtype::boolean, {number.get<bool>() ? 1.0 : 0.0}};
  if (number.is_number_integer()) return {{}, number_dtype(c, true, Dtype::i64), {number.get<double>()}};
  bool wide = false;
  for (const CaseTensor* t : c.tensors()) wide = wide || (t->present && t->value.dtype == Dtype::f64);
  double value = 0;
  if (number.is_string()) {
    AttributeInfo info;
    info.name = "number";
    info.type = AttributeType::floating;
    std::deque<std::vector<std::int64_t>> lists;
    std::deque<std::string> texts;
    value = tensor::parse_attribute(c.op, info, number.get<std::string>(), lists, texts).as_double();
  } else {
    value = number.get<double>();
  }
  return {{}, number_dtype(c, false, wide ? Dtype::f64 : Dtype::f32), {value}};
}

}  // namespace

CallArguments::CallArguments(const RecordedCase& recorded, std::span<const DTensor> tensors) : case_(recorded), tensors_(tensors) {}

DTensor CallArguments::optional(std::string_view name) {
  seen(name);
  std::size_t at = 0;
  for (const CaseInput& input : case_.inputs) {
    if (input.name == name && !input.list) return tensors_[at];
    at += input.tensors.size();
  }
  return {};
}

const DTensor& CallArguments::tensor(std::string_view name) {
  seen(name);
  std::size_t at = 0;
  for (const CaseInput& input : case_.inputs) {
    if (input.name == name && !input.list && tensors_[at]) return tensors_[at];
    at += input.tensors.size();
  }
  base::fail<InvalidArgument>("{}: input '{}' is missing", case_.op, name);
}

std::vector<DTensor> CallArguments::list(std::string_view name) {
  seen(name);
  std::size_t at = 0;
  for (const CaseInput& input : case_.inputs) {
    if (input.name == name && input.list) {
      const auto part = tensors_.subspan(at, input.tensors.size());
      return {part.begin(), part.end()};
    }
    at += input.tensors.size();
  }
  base::fail<InvalidArgument>("{}: input '{}' is missing", case_.op, name);
}

bool CallArguments::has(std::string_view name) const {
  const auto it = case_.attributes.find(std::string(name));
  return it != case_.attributes.end() && !it->is_null();
}

const Json& CallArguments::value(std::string_view name) {
  seen(name);
  if (!has(name)) base::fail<InvalidArgument>("{}: attribute '{}' is missing", case_.op, name);
  return case_.attributes.at(std::string(name));
}

std::int64_t CallArguments::integer(std::string_view name) {
  const Json& json = value(name);
  if (json.is_array() && json.size() == 1 && json[0].is_number_integer()) return json[0].get<std::int64_t>();
  if (!json.is_number_integer()) base::fail<InvalidArgument>("{}: {} must be an integer ({} given)", case_.op, name, json.dump());
  return json.get<std::int64_t>();
}

double CallArguments::number(std::string_view name) {
  const Json& json = value(name);
  if (json == "inf") return HUGE_VAL;
  if (json == "-inf") return -HUGE_VAL;
  if (json == "nan") return std::nan("");
  if (!json.is_number()) base::fail<InvalidArgument>("{}: {} must be a number ({} given)", case_.op, name, json.dump());
  return json.get<double>();
}

bool CallArguments::flag(std::string_view name, bool fallback) {
  seen(name);
  if (!has(name)) return fallback;
  if (!value(name).is_boolean()) base::fail<InvalidArgument>("{}: {} must be true or false ({} given)", case_.op, name, value(name).dump());
  return value(name).get<bool>();
}

std::string CallArguments::text(std::string_view name, std::string fallback) {
  seen(name);
  if (!has(name)) return fallback;
  if (!value(name).is_string()) base::fail<InvalidArgument>("{}: {} must be a text ({} given)", case_.op, name, value(name).dump());
  return value(name).get<std::string>();
}

bool CallArguments::is_list(std::string_view name) const { return has(name) && case_.attributes.at(std::string(name)).is_array(); }

Shape CallArguments::shape(std::string_view name) {
  const Json& json = value(name);
  Shape list;
  const auto add = [&](const Json& n) {
    if (!n.is_number_integer()) base::fail<InvalidArgument>("{}: {} must be a list of integers ({} given)", case_.op, name, json.dump());
    list.push_back(n.get<std::int64_t>());
  };
  if (!json.is_array()) add(json);
  else
    for (const Json& n : json) add(n);
  return list;
}

std::vector<double> CallArguments::numbers(std::string_view name, std::vector<double> fallback) {
  seen(name);
  if (!has(name)) return fallback;
  try {
    return value(name).get<std::vector<double>>();
  } catch (const Json::exception&) { base::fail<InvalidArgument>("{}: {} must be a list of numbers ({} given)", case_.op, name, value(name).dump()); }
}

void CallArguments::done() const {
  const auto unseen = [&](const std::string& name) { return std::find(seen_.begin(), seen_.end(), name) == seen_.end(); };
  for (const auto& [name, value] : case_.attributes.items())
    if (unseen(name)) base::fail<InvalidArgument>("{}: there is no attribute '{}'", case_.op, name);
  for (const CaseInput& input : case_.inputs)
    if (is_present(input) && unseen(input.name)) base::fail<InvalidArgument>("{}: there is no input '{}'", case_.op, input.name);
}

CaseCall find_call(RecordedCase& recorded) {
  std::string reason;
  if (const Expression expression = find_expression(recorded.op)) {
    return [expression, &recorded](std::span<const DTensor> tensors) {
      CallArguments arguments(recorded, tensors);
      Results results = expression(arguments);
      arguments.done();
      return results;
    };
  }
  if (CaseCall call = call_of_op(recorded, reason)) return call;
  bool changed = false;
  for (CaseInput& input : recorded.inputs) {
    const auto it = recorded.attributes.find(input.name);
    if (input.list || input.tensors[0].present || it == recorded.attributes.end() || it->is_array() || it->is_null()) continue;
    input.tensors[0].present = true;
    input.tensors[0].value = as_tensor(*it, recorded);
    recorded.attributes.erase(it);
    changed = true;
  }
  if (changed)
    if (CaseCall call = call_of_op(recorded, reason)) return call;
  if (reason.empty()) find_op(recorded.op);  // names similar ops
  base::fail<InvalidArgument>("{}", reason);
}

}  // namespace dtensor::debug
