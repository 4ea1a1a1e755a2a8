// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/error_text.h"
#include "dtensor/topology.h"
#include "redistribute/plan/links.h"

namespace dtensor {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Link& link) { return {{"latency_us", link.latency_us}, {"bandwidth_gb_s", link.bandwidth_gb_s}, {"shared", link.shared}}; }

// An object of the file with its path, for errors that name the key.
class Reader {
 public:
  Reader(const Json& json, std::string path, std::initializer_list<const char*> known) : json_(json), path_(std::move(path)) {
    if (!json.is_object())
      base::fail<InvalidArgument>("topology: {} is not an object ({}); write {{...}}", path_.empty() ? "the text" : path_, json.dump());
    if (known.size() == 0) return;
    for (const auto& [key, value] : json.items())
      if (std::find_if(known.begin(), known.end(), [&k = key](const char* name) { return k == name; }) == known.end())
        base::fail<InvalidArgument>("topology: {} is no key of a topology ({}); there are {}", key_of(key), value.dump(), fmt::join(known, ", "));
  }
  std::string key_of(std::string_view key) const { return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key); }
  const Json* find(const char* key) const {
    const auto at = json_.find(key);
    return at == json_.end() ? nullptr : &*at;
  }
  void read(const char* key, double& to) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_number())
      base::fail<InvalidArgument>("topology: {} is not a number ({}); write a figure such as 12.5", key_of(key), value->dump());
    to = value->get<double>();
  }
  void read(const char* key, bool& to) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) base::fail<InvalidArgument>("topology: {} is not true or false ({}); write one of them", key_of(key), value->dump());
    to = value->get<bool>();
  }
  void read(const char* key, int& to) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_number_integer() || *value > std::numeric_limits<int>::max() || *value < std::numeric_limits<int>::min())
      base::fail<InvalidArgument>("topology: {} is not a whole number ({}); write one such as 8", key_of(key), value->dump());
    to = value->get<int>();
  }
  void read(const char* key, Link& to) const {
    if (const Json* value = find(key)) to = link(*value, key_of(key));
  }
  static Link link(const Json& json, const std::string& path) {
    const Reader reader(json, path, {"latency_us", "bandwidth_gb_s", "shared"});
    Link link;
    reader.read("latency_us", link.latency_us);
    reader.read("bandwidth_gb_s", link.bandwidth_gb_s);
    reader.read("shared", link.shared);
    return link;
  }

 private:
  const Json& json_;
  std::string path_;
};

Json parsed(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    std::string what = e.what();
    if (const std::size_t bracket = what.find("] "); bracket != std::string::npos) what.erase(0, bracket + 2);
    base::fail<InvalidArgument>("topology: the text is no JSON ({}); see dtensor measure for one that is", what);
  }
}

}  // namespace

std::string Topology::json() const {
  Json all{{"link", json_of(link)}};
  for (const AxisTopology& a : axes) all["axes"][a.axis] = json_of(a.link);
  if (hosts) all["hosts"] = Json{{"ranks", hosts->ranks}, {"count", hosts->count}, {"link", json_of(hosts->link)}};
  all["copy_gb_s"] = copy_gb_s;
  all["launch_us"] = launch_us;
  return all.dump(2, ' ', false, Json::error_handler_t::replace);
}

Topology Topology::parse(std::string_view json) {
  const Json all = parsed(json);
  const Reader reader(all, "", {"link", "axes", "hosts", "copy_gb_s", "launch_us"});
  Topology topology;
  reader.read("link", topology.link);
  if (const Json* list = reader.find("axes")) {
    const Reader axes(*list, "axes", {});
    for (const auto& [name, link] : list->items()) topology.axes.push_back({name, Reader::link(link, axes.key_of(name))});
  }
  if (const Json* value = reader.find("hosts")) {
    const Reader hosts(*value, "hosts", {"ranks", "count", "link"});
    topology.hosts.emplace();
    hosts.read("ranks", topology.hosts->ranks);
    hosts.read("count", topology.hosts->count);
    hosts.read("link", topology.hosts->link);
  }
  reader.read("copy_gb_s", topology.copy_gb_s);
  reader.read("launch_us", topology.launch_us);
  redistribute::check_figures(topology);
  return topology;
}

Topology Topology::read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in.good() && !in.eof()) base::fail<InvalidArgument>("topology: cannot read {}; give a file that dtensor measure has written", path);
  try {
    return parse(text);
  } catch (const InvalidArgument& e) {
    constexpr std::string_view front = "topology: ";
    base::fail<InvalidArgument>("topology: {}: {}", path, std::string_view(e.what()).substr(front.size()));
  }
}

void Topology::write(const std::string& path) const {
  std::ofstream out(path, std::ios::binary);
  out << json() << '\n';
  if (!out.flush()) base::fail<Error>("topology: cannot write {}; give a file in a folder that exists", path);
}

}  // namespace dtensor
