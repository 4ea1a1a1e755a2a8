// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error_text.h"

namespace dtensor::checkpoints {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::array<std::pair<std::string_view, Dtype>, 8> kNames{{{"F64", Dtype::f64},
                                                                    {"F32", Dtype::f32},
                                                                    {"BF16", Dtype::bf16},
                                                                    {"F16", Dtype::f16},
                                                                    {"I64", Dtype::i64},
                                                                    {"I32", Dtype::i32},
                                                                    {"U8", Dtype::u8},
                                                                    {"BOOL", Dtype::boolean}}};

// Parses an object and refuses a key twice on the first level, which a JSON library would silently merge.
Json parse_object(const std::string& text, const std::string& file) {
  std::set<std::string> seen;
  std::string twice;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key && depth == 1 && !seen.insert(value.get<std::string>()).second) twice = value.get<std::string>();
    return true;
  };
  Json json;
  try {
    json = Json::parse(text, watch);
  } catch (const Json::exception& e) {
    base::fail<InvalidArgument>("checkpoint: {}: the header is no JSON ({}); the file is damaged, restore it", file, e.what());
  }
  if (!twice.empty()) base::fail<InvalidArgument>("checkpoint: {}: tensor '{}' is named twice", file, twice);
  if (!json.is_object()) base::fail<InvalidArgument>("checkpoint: {}: the header is no JSON object; the file is damaged, restore it", file);
  return json;
}

StoredTensor parse_entry(const std::string& file, const std::string& name, const Json& entry, std::int64_t data_begin, std::int64_t data_bytes) {
  const auto bad = [&](const std::string& what) { base::fail<InvalidArgument>("checkpoint: {}: tensor '{}': {}", file, name, what); };
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
    bad("dtype, shape or data_offsets is missing");
  StoredTensor t;
  t.name = name;
  t.file = file;
  const auto dtype = entry["dtype"].is_string() ? entry["dtype"].get<std::string>() : std::string();
  const auto* row = std::find_if(kNames.begin(), kNames.end(), [&](const auto& n) { return n.first == dtype; });
  if (row == kNames.end()) bad("unknown dtype '" + dtype + "'; F64 F32 BF16 F16 I64 I32 U8 BOOL are known");
  t.dtype = row->second;
  if (!entry["shape"].is_array() || entry["shape"].size() > static_cast<std::size_t>(kMaxDims)) bad("the shape is no list of at most 8 sizes");
  std::int64_t bytes = info(t.dtype).bytes;
  for (const Json& n : entry["shape"]) {
    if (!n.is_number_unsigned()) bad("a size is not a number that is not negative");
    const auto size = n.get<std::int64_t>();
    t.shape.push_back(size);
    if (size > 0 && bytes > (std::int64_t{1} << 60) / size) bad("the shape is larger than any file");
    bytes *= size;
  }
  const Json& o = entry["data_offsets"];
  if (!o.is_array() || o.size() != 2 || !o[0].is_number_unsigned() || !o[1].is_number_unsigned()) bad("data_offsets are no pair of numbers");
  const auto begin = o[0].get<std::int64_t>(), end = o[1].get<std::int64_t>();
  if (begin > end || end > data_bytes) bad(fmt::format("data_offsets [{}, {}] leave the data of {} bytes", begin, end, data_bytes));
  if (end - begin != bytes) bad(fmt::format("{} bytes are stored for {}{} of {} bytes", end - begin, info(t.dtype).name, to_string(t.shape), bytes));
  t.begin = data_begin + begin;
  t.end = data_begin + end;
  return t;
}

void check_cover(const std::string& file, std::vector<StoredTensor> tensors, std::int64_t begin, std::int64_t end) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  for (const StoredTensor& t : tensors) {
    if (t.begin < begin) base::fail<InvalidArgument>("checkpoint: {}: tensor '{}' overlaps the one before it", file, t.name);
    if (t.begin > begin)
      base::fail<InvalidArgument>("checkpoint: {}: {} bytes before tensor '{}' belong to no tensor", file, t.begin - begin, t.name);
    begin = t.end;
  }
  if (begin != end) base::fail<InvalidArgument>("checkpoint: {}: {} bytes at the end belong to no tensor", file, end - begin);
}

std::string read_all(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) base::fail<InvalidArgument>("checkpoint: cannot read {}; check the path", file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<StoredTensor> read_index(const fs::path& index) {
  const Json json = parse_object(read_all(index.string()), index.string());
  if (!json.contains("weight_map") || !json["weight_map"].is_object())
    base::fail<InvalidArgument>("checkpoint: {}: \"weight_map\" is missing", index.string());
  std::map<std::string, std::vector<StoredTensor>> files;
  std::vector<StoredTensor> list;
  for (const auto& entry : json["weight_map"].items()) {
    const std::string& name = entry.key();
    const Json& value = entry.value();
    const auto file_name = value.is_string() ? value.get<std::string>() : std::string();
    if (file_name.empty() || file_name.find('/') != std::string::npos)
      base::fail<InvalidArgument>("checkpoint: {}: tensor '{}' has no plain file name", index.string(), name);
    const std::string file = (index.parent_path() / file_name).string();
    if (!fs::exists(file)) base::fail<InvalidArgument>("checkpoint: {} is missing; {} says it holds tensor '{}'", file, index.string(), name);
    if (!files.contains(file)) files[file] = read_header(file);
    const auto& tensors = files[file];
    const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const StoredTensor& t) { return t.name == name; });
    if (it == tensors.end()) base::fail<InvalidArgument>("checkpoint: {} lacks tensor '{}', which {} says it holds", file, name, index.string());
    list.push_back(*it);
  }
  return list;
}

}  // namespace

std::vector<StoredTensor> read_header(const std::string& file) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in) base::fail<InvalidArgument>("checkpoint: cannot read {}; check the path", file);
  const auto size = static_cast<std::int64_t>(in.tellg());
  if (size < 8) base::fail<InvalidArgument>("checkpoint: {}: truncated ({} bytes, a header needs 8 and more)", file, size);
  in.seekg(0);
  std::uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), 8);
  if (length > static_cast<std::uint64_t>(size - 8))
    base::fail<InvalidArgument>("checkpoint: {}: the header of {} bytes is longer than the file of {}; the file is truncated or no safetensors", file,
                                length, size);
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  const Json json = parse_object(text, file);
  const std::int64_t data = 8 + static_cast<std::int64_t>(length);
  std::vector<StoredTensor> tensors;
  for (const auto& [name, entry] : json.items())
    if (name != "__metadata__") tensors.push_back(parse_entry(file, name, entry, data, size - data));
  check_cover(file, tensors, data, size);
  return tensors;
}

std::string make_header(std::vector<StoredTensor>& tensors) {
  nlohmann::ordered_json json = {{"__metadata__", {{"format", "pt"}}}};
  std::int64_t at = 0;
  for (StoredTensor& t : tensors) {
    const auto* row = std::find_if(kNames.begin(), kNames.end(), [&](const auto& n) { return n.second == t.dtype; });
    t.begin = at;
    at += t.shape.numel() * info(t.dtype).bytes;
    t.end = at;
    json[t.name] = {{"dtype", row->first}, {"shape", std::vector<std::int64_t>(t.shape.begin(), t.shape.end())}, {"data_offsets", {t.begin, t.end}}};
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string header(8, '\0');
  std::memcpy(header.data(), &length, 8);
  header += text;
  for (StoredTensor& t : tensors) {
    t.begin += static_cast<std::int64_t>(header.size());
    t.end += static_cast<std::int64_t>(header.size());
  }
  return header;
}

std::vector<StoredTensor> list_group(const std::string& path, const std::string& group) {
  if (fs::is_regular_file(path)) return read_header(path);
  const fs::path index = fs::path(path) / (group + ".safetensors.index.json"), single = fs::path(path) / (group + ".safetensors");
  if (fs::exists(index)) return read_index(index);
  if (fs::exists(single)) return read_header(single.string());
  base::fail<InvalidArgument>("checkpoint: {} has neither {} nor {}; give a checkpoint's folder or a .safetensors file", path,
                              index.filename().string(), single.filename().string());
}

std::string make_index(const std::vector<StoredTensor>& tensors) {
  nlohmann::ordered_json json;
  std::int64_t total = 0;
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const StoredTensor& t : tensors) {
    total += t.end - t.begin;
    map[t.name] = fs::path(t.file).filename().string();
  }
  json["metadata"] = {{"total_size", total}};
  json["weight_map"] = std::move(map);
  return json.dump(2) + "\n";
}

}  // namespace dtensor::checkpoints
