// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/error_text.h"
#include "dtensor/checkpoint.h"

namespace dtensor {

void StateDict::number(std::string name, std::function<std::int64_t()> get, std::function<void(std::int64_t)> set) {
  for (const NumberEntry& n : numbers_)
    if (n.name == name) base::fail<InvalidArgument>("state: the name '{}' is given twice; choose another key", name);
  numbers_.push_back({.name = std::move(name), .get = {}, .set = {}, .integer = true, .get_integer = std::move(get), .set_integer = std::move(set)});
}

StateDict& StateDict::add(std::string_view key, nn::ModuleBase& module) {
  for (nn::NamedParameter& p : module.named_parameters()) {
    const nn::Parameter parameter = p.parameter;
    tensors_.push_back({std::string(key), p.name, [parameter] { return parameter.value(); }, [parameter](const DTensor& t) { parameter.set(t); }});
  }
  return *this;
}

StateDict& StateDict::add(std::string_view key, optim::Optimizer& optimizer) {
  for (optim::StateTensor& s : optimizer.state()) tensors_.push_back({std::string(key), s.name, s.get, s.set});
  number(
      std::string(key) + ".steps", [&optimizer] { return optimizer.steps(); }, [&optimizer](std::int64_t n) { optimizer.set_steps(n); });
  return *this;
}

StateDict& StateDict::add(std::string_view key, Generator& generator) {
  number(
      std::string(key) + ".seed", [&generator] { return static_cast<std::int64_t>(generator.seed()); },
      [&generator](std::int64_t n) { generator.set_state(static_cast<std::uint64_t>(n), generator.calls()); });
  number(
      std::string(key) + ".calls", [&generator] { return static_cast<std::int64_t>(generator.calls()); },
      [&generator](std::int64_t n) { generator.set_state(generator.seed(), static_cast<std::uint64_t>(n)); });
  return *this;
}

StateDict& StateDict::add(std::string_view key, std::int64_t& value) {
  number(
      std::string(key), [&value] { return value; }, [&value](std::int64_t n) { value = n; });
  return *this;
}

StateDict& StateDict::add(std::string_view key, double& value) {
  numbers_.push_back({.name = std::string(key),
                      .get = [&value] { return value; },
                      .set = [&value](double v) { value = v; },
                      .integer = false,
                      .get_integer = {},
                      .set_integer = {}});
  return *this;
}

StateDict& StateDict::add(std::string_view key, DTensor& tensor) {
  tensors_.push_back({"tensors", std::string(key), [&tensor] { return tensor; }, [&tensor](const DTensor& t) { tensor = t; }});
  return *this;
}

}  // namespace dtensor
