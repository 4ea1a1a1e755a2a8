// SPDX-License-Identifier: Apache-2.0
#include "tensor/signature.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error_text.h"

namespace dtensor::tensor {
namespace {

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

// Splits at commas outside brackets.
std::vector<std::string_view> split(std::string_view s) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t from = 0;
  for (std::size_t i = 0; i <= s.size(); ++i) {
    if (i < s.size() && (s[i] == '[' || s[i] == '(')) ++depth;
    if (i < s.size() && (s[i] == ']' || s[i] == ')')) --depth;
    if (i == s.size() || (s[i] == ',' && depth == 0)) {
      if (const auto part = trim(s.substr(from, i - from)); !part.empty()) parts.push_back(part);
      from = i + 1;
    }
  }
  return parts;
}

AttributeType parse_type(const OpDef& op, std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, AttributeType>, 8> kTypes{{{"int", AttributeType::integer},
                                                                                     {"bool", AttributeType::boolean},
                                                                                     {"int[]", AttributeType::list},
                                                                                     {"dtype", AttributeType::dtype},
                                                                                     {"text", AttributeType::text},
                                                                                     {"object", AttributeType::object},
                                                                                     {"float", AttributeType::floating},
                                                                                     {"number", AttributeType::number}}};
  for (const auto& [name, type] : kTypes)
    if (name == text) return type;
  base::fail<InvalidArgument>("{}: signature: unknown type '{}' (in \"{}\"); use int, bool, int[], dtype, text, object, float or number", op.name,
                              text, op.signature);
}

AttributeInfo parse_attribute_info(const OpDef& op, std::string_view text, Signature& s) {
  AttributeInfo info;
  const std::size_t colon = text.find(':');
  info.name = trim(text.substr(0, colon));
  std::string_view rest = trim(text.substr(colon + 1));
  const std::size_t equals = rest.find('=');
  std::string_view type = trim(rest.substr(0, equals));
  if (type.ends_with('?')) {
    info.optional = true;
    type.remove_suffix(1);
  }
  info.type = parse_type(op, type);
  if (equals != std::string_view::npos) {
    info.has_default = true;
    info.fallback = parse_attribute(op.name, info, trim(rest.substr(equals + 1)), s.lists, s.texts);
  }
  return info;
}

InputInfo parse_input(const OpDef& op, std::string_view text) {
  InputInfo input;
  while (!text.empty()) {
    if (text.ends_with('?')) input.optional = true, text.remove_suffix(1);
    else if (text.ends_with('!')) input.written = true, text.remove_suffix(1);
    else if (text.ends_with("[]")) input.variadic = true, text.remove_suffix(2);
    else break;
  }
  if (text.empty() || text.find(' ') != std::string_view::npos)
    base::fail<InvalidArgument>("{}: signature: bad input '{}' (in \"{}\")", op.name, text, op.signature);
  input.name = text;
  return input;
}

void mark_saved(const OpDef& op, Signature& s) {
  s.saved_inputs.resize(s.inputs.size());
  s.saved_outputs.resize(s.outputs.size());
  for (std::string_view name : split(op.saves)) {
    bool found = false;
    for (std::size_t i = 0; i < s.inputs.size(); ++i)
      if (s.inputs[i].name == name) s.saved_inputs[i] = found = true;
    for (std::size_t i = 0; i < s.outputs.size(); ++i)
      if (s.outputs[i] == name) s.saved_outputs[i] = found = true;
    if (!found) base::fail<InvalidArgument>("{}: saves '{}' which is no input or result (in \"{}\")", op.name, name, op.signature);
  }
}

double parse_number(std::string_view text, bool& ok) {
  if (text == "inf") return HUGE_VAL;
  if (text == "-inf") return -HUGE_VAL;
  if (text == "nan") return std::nan("");
  double value = 0;
  const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
  ok = r.ec == std::errc() && r.ptr == text.data() + text.size();
  return value;
}

bool parse_int(std::string_view text, std::int64_t& value) {
  const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
  return r.ec == std::errc() && r.ptr == text.data() + text.size();
}

}  // namespace

int Signature::output_written(int output) const noexcept {
  if (output >= static_cast<int>(outputs.size())) return -1;
  for (int i : written)
    if (inputs[static_cast<std::size_t>(i)].name == outputs[static_cast<std::size_t>(output)]) return i;
  return -1;
}

Attribute parse_attribute(std::string_view op, const AttributeInfo& info, std::string_view text, std::deque<std::vector<std::int64_t>>& lists,
                          std::deque<std::string>& texts) {
  const auto bad = [&](std::string_view wanted) { base::fail<InvalidArgument>("{}: {} must be {} ('{}' given)", op, info.name, wanted, text); };
  if (text == "none") return {};
  std::int64_t integer = 0;
  bool ok = true;
  switch (info.type) {
    case AttributeType::integer:
      if (!parse_int(text, integer)) bad("an integer");
      return integer;
    case AttributeType::boolean:
      if (text != "true" && text != "false") bad("true or false");
      return text == "true";
    case AttributeType::dtype:
      return parse_dtype(text);
    case AttributeType::text:
      return std::string_view(texts.emplace_back(text));
    case AttributeType::floating: {
      if (text == "true" || text == "false") return text == "true" ? 1.0 : 0.0;
      const double value = parse_number(text, ok);
      if (!ok) bad("a number");
      return value;
    }
    case AttributeType::number: {
      if (text == "true" || text == "false") return text == "true";
      if (parse_int(text, integer)) return integer;
      const double value = parse_number(text, ok);
      if (!ok) bad("a number");
      return value;
    }
    case AttributeType::list: {
      if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
      auto& list = lists.emplace_back();
      for (std::string_view part : split(text)) {
        if (!parse_int(part, integer)) bad("a list of integers");
        list.push_back(integer);
      }
      return std::span<const std::int64_t>(list);
    }
    case AttributeType::object:
      break;
  }
  bad("given by a program");
  return {};
}

Signature parse_signature(const OpDef& op) {
  Signature s;
  const std::size_t arrow = op.signature.find("->");
  if (arrow == std::string_view::npos) base::fail<InvalidArgument>("{}: signature: '->' is missing (in \"{}\")", op.name, op.signature);
  for (std::string_view part : split(op.signature.substr(0, arrow))) {
    if (part == "*") continue;
    if (part.find(':') != std::string_view::npos) {
      s.attributes.push_back(parse_attribute_info(op, part, s));
    } else {
      s.inputs.push_back(parse_input(op, part));
    }
  }
  for (std::size_t i = 0; i < s.inputs.size(); ++i)
    if (s.inputs[i].written) s.written.push_back(static_cast<int>(i));
  for (std::string_view part : split(op.signature.substr(arrow + 2))) {
    if (part.starts_with("view(") && part.ends_with(')')) {
      const std::string_view of = part.substr(5, part.size() - 6);
      for (std::size_t i = 0; i < s.inputs.size(); ++i)
        if (s.inputs[i].name == of) s.view_of = static_cast<int>(i);
      if (s.view_of < 0) base::fail<InvalidArgument>("{}: signature: view of '{}' which is no input (in \"{}\")", op.name, of, op.signature);
      s.outputs.emplace_back("out");
      continue;
    }
    if (part.ends_with("[]")) part.remove_suffix(2);
    s.outputs.emplace_back(part);
  }
  mark_saved(op, s);
  return s;
}

}  // namespace dtensor::tensor
