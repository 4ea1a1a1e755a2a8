// SPDX-License-Identifier: Apache-2.0
// The rows of layouts.csv and shard_orders.csv, which another program computed. The folder comes from DTENSOR_GOLDEN when set.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "dtensor/placement.h"
#include "dtensor/values.h"

namespace golden {

using dtensor::Placement;
using dtensor::Placements;
using dtensor::Shape;

using Row = std::map<std::string, std::string>;

inline std::filesystem::path folder() {
  const char* given = std::getenv("DTENSOR_GOLDEN");
  if (given != nullptr && *given != '\0') return std::filesystem::path(given) / "layouts";
  return std::filesystem::path(DTENSOR_SOURCE_DIR) / "tests/golden/layouts";
}

// RFC 4180: fields in quotes may hold commas, line ends and doubled quotes.
inline std::vector<std::vector<std::string>> read_records(std::istream& in) {
  std::vector<std::vector<std::string>> records;
  std::vector<std::string> record{""};
  bool quoted = false, any = false;
  for (char c = 0; in.get(c);) {
    any = true;
    if (quoted) {
      if (c != '"') record.back() += c;
      else if (in.peek() == '"') record.back() += static_cast<char>(in.get());
      else quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      record.emplace_back();
    } else if (c == '\n') {
      records.push_back(std::move(record));
      record = {""};
      any = false;
    } else if (c != '\r') {
      record.back() += c;
    }
  }
  if (any) records.push_back(std::move(record));
  return records;
}

inline std::vector<Row> read_rows(const std::string& name) {
  std::ifstream file(folder() / name);
  REQUIRE_MESSAGE(file.good(), "cannot read ", (folder() / name).string());
  const auto records = read_records(file);
  REQUIRE(records.size() > 1);
  std::vector<Row> rows;
  for (std::size_t i = 1; i < records.size(); ++i) {
    REQUIRE(records[i].size() == records[0].size());
    Row& row = rows.emplace_back();
    for (std::size_t k = 0; k < records[0].size(); ++k) row[records[0][k]] = records[i][k];
  }
  return rows;
}

inline std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
  return parts;
}

inline Shape numbers(const std::string& text) {
  Shape values;
  for (const std::string& part : split(text, ' ')) values.push_back(std::stoll(part));
  return values;
}

inline std::string text_of(const Shape& values) {
  std::string text;
  for (std::int64_t value : values) text += (text.empty() ? "" : " ") + std::to_string(value);
  return text;
}

inline std::vector<Placement> placements_of(const std::string& text) {
  std::vector<Placement> list;
  for (const std::string& part : split(text, ';')) list.push_back(Placements::parse(part)["0"]);
  return list;
}

}  // namespace golden
