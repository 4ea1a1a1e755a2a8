// SPDX-License-Identifier: Apache-2.0
#include "debug/case_file.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <set>

#include "base/error_text.h"
#include "dtensor/checkpoint.h"

namespace dtensor::debug {
namespace {

using Json = nlohmann::json;

Json read_json(const std::string& file) {
  std::ifstream in(file);
  if (!in) base::fail<InvalidArgument>("cases: cannot read \"{}\"; give a folder with cases.json, ops.json and tensors.safetensors", file);
  try {
    return Json::parse(in);
  } catch (const Json::exception& e) { base::fail<InvalidArgument>("cases: \"{}\" is no JSON ({})", file, e.what()); }
}

double special_value(const std::string& name) {
  if (name == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (name == "inf") return std::numeric_limits<double>::infinity();
  if (name == "-inf") return -std::numeric_limits<double>::infinity();
  base::fail<InvalidArgument>("special '{}' is none of nan, inf, -inf", name);
}

class Reader {
 public:
  explicit Reader(const std::string& directory) : ops_(read_json(directory + "/ops.json")) {
    for (StoredTensor& t : list_checkpoint(directory + "/tensors.safetensors")) stored_.emplace(t.name, t);
  }

  RecordedCase read(const Json& json) {
    RecordedCase c;
    try {
      c.id = json.at("id");
      c.op = json.at("op");
      c.family = json.value("family", "");
      fill(c, json);
    } catch (const Json::exception& e) { c.fault = fmt::format("cannot be read: {}", e.what()); } catch (const Error& e) {
      c.fault = fmt::format("cannot be read: {}", e.what());
    }
    return c;
  }

 private:
  void fill(RecordedCase& c, const Json& json) {
    bools_.clear();
    for (const Json& key : json.value("bool", Json::array())) bools_.insert(key.get<std::string>());
    if (!ops_.contains(c.op)) base::fail<InvalidArgument>("ops.json has no op '{}'", c.op);
    const Json& declared = ops_.at(c.op).at("inputs");
    const Json& inputs = json.at("inputs");
    if (inputs.size() != declared.size()) base::fail<InvalidArgument>("{} inputs; ops.json has {}", inputs.size(), declared.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      CaseInput input{declared[i].at("name"), declared[i].value("list", false), {}};
      if (!input.list) input.tensors.push_back(tensor(inputs[i]));
      else if (!inputs[i].is_null())
        for (const Json& entry : inputs[i]) input.tensors.push_back(tensor(entry));
      c.inputs.push_back(std::move(input));
    }
    c.attributes = json.value("attrs", Json::object());
    for (const Json& key : json.at("outputs")) c.outputs.push_back(stored(key));
    for (const Json& key : json.value("grad_outputs", Json::array())) c.grad_outputs.push_back(optional(key));
    flatten(json.value("grad_inputs", Json::array()), c.grad_inputs);
    c.rtol = json.value("rtol", 0.0), c.atol = json.value("atol", 0.0);
    c.grad_rtol = json.value("grad_rtol", 0.0), c.grad_atol = json.value("grad_atol", 0.0);
    if (!c.grad_outputs.empty() && c.grad_outputs.size() != c.outputs.size())
      base::fail<InvalidArgument>("{} grad_outputs for {} outputs", c.grad_outputs.size(), c.outputs.size());
    if (!c.grad_inputs.empty() && c.grad_inputs.size() != c.tensors().size())
      base::fail<InvalidArgument>("{} grad_inputs for {} tensors", c.grad_inputs.size(), c.tensors().size());
  }

  void flatten(const Json& json, std::vector<std::optional<Whole>>& list) {
    for (const Json& entry : json) {
      if (entry.is_array()) flatten(entry, list);
      else list.push_back(optional(entry));
    }
  }

  Whole stored(const std::string& key) const {
    const auto it = stored_.find(key);
    if (it == stored_.end()) base::fail<InvalidArgument>("tensors.safetensors has no '{}'", key);
    const Tensor t = read_tensor(it->second);
    const bool boolean = t.dtype() == Dtype::u8 || bools_.count(key) > 0;  // no tensor is an unsigned integer
    return {t.shape(), boolean ? Dtype::boolean : t.dtype(), numbers(t)};
  }
  std::optional<Whole> optional(const Json& key) const { return key.is_null() ? std::nullopt : std::optional(stored(key)); }

  CaseTensor tensor(const Json& entry) const {
    CaseTensor t;
    if (entry.is_null()) return t;
    t.present = true;
    if (entry.is_string()) {
      t.value = stored(entry);
      return t;
    }
    t.value = stored(entry.at("key"));
    const Json special = entry.value("special", Json::object());
    for (const auto& [name, positions] : special.items())
      for (const std::size_t at : positions.get<std::vector<std::size_t>>()) t.value.values.at(at) = special_value(name);
    if (!entry.contains("strides")) return t;
    t.is_view = true;
    t.buffer = std::move(t.value.values);
    t.offset = entry.value("offset", std::int64_t{0});
    t.strides = Shape(std::span<const std::int64_t>(entry.at("strides").get<std::vector<std::int64_t>>()));
    const Shape shape(std::span<const std::int64_t>(entry.at("shape").get<std::vector<std::int64_t>>()));
    if (shape.ndim() != t.strides.ndim()) base::fail<InvalidArgument>("{} strides for shape {}", t.strides.ndim(), to_string(shape));
    t.value.shape = shape;
    t.value.values.assign(static_cast<std::size_t>(shape.numel()), 0);
    const Shape rows = contiguous_strides(shape);
    for (std::int64_t i = 0; i < shape.numel(); ++i) {
      std::int64_t at = t.offset;
      for (int d = 0; d < shape.ndim(); ++d) at += i / rows[d] % shape[d] * t.strides[d];
      t.value.values[static_cast<std::size_t>(i)] = t.buffer.at(static_cast<std::size_t>(at));
    }
    return t;
  }

  Json ops_;
  std::map<std::string, StoredTensor> stored_;
  std::set<std::string> bools_;
};

}  // namespace

bool RecordedCase::is_finite() const {
  const auto finite = [](const Whole& w) { return std::all_of(w.values.begin(), w.values.end(), [](double v) { return std::isfinite(v); }); };
  const auto finite_or_absent = [&](const std::optional<Whole>& w) { return !w || finite(*w); };
  const auto given = tensors();
  return std::all_of(given.begin(), given.end(), [&](const CaseTensor* t) { return finite(t->value); }) &&
         std::all_of(outputs.begin(), outputs.end(), finite) && std::all_of(grad_outputs.begin(), grad_outputs.end(), finite_or_absent) &&
         std::all_of(grad_inputs.begin(), grad_inputs.end(), finite_or_absent);
}

std::vector<const CaseTensor*> RecordedCase::tensors() const {
  std::vector<const CaseTensor*> list;
  for (const CaseInput& input : inputs)
    for (const CaseTensor& t : input.tensors) list.push_back(&t);
  return list;
}

std::vector<RecordedCase> read_cases(const std::string& directory) {
  const Json json = read_json(directory + "/cases.json");
  if (!json.is_array()) base::fail<InvalidArgument>("cases: \"{}/cases.json\" is no list", directory);
  Reader reader(directory);
  std::vector<RecordedCase> cases;
  for (const Json& entry : json) {
    try {
      cases.push_back(reader.read(entry));
    } catch (const std::out_of_range&) {
      cases.emplace_back();
      cases.back().id = entry.value("id", "");
      cases.back().op = entry.value("op", "");
      cases.back().family = entry.value("family", "");
      cases.back().fault = "cannot be read: a position outside the stored tensor";
    }
  }
  return cases;
}

}  // namespace dtensor::debug
