// SPDX-License-Identifier: Apache-2.0
// What ops move: figures counted by the communicator against figures worked out by hand.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "dtensor/op_table.h"

using namespace dtensor;

namespace {

OpTraffic row_of(const std::vector<OpTraffic>& rows, const std::string& inputs) {
  const auto it = std::find_if(rows.begin(), rows.end(), [&](const OpTraffic& r) { return r.inputs.find(inputs) == 0; });
  REQUIRE_MESSAGE(it != rows.end(), inputs);
  return *it;
}

}  // namespace

TEST_CASE("softmax over a split dimension moves two numbers per row instead of the rows") {
  const auto rows = op_traffic(find_op("softmax"));
  // f32[5, 7] on two ranks: 5 maxima and 5 sums of 4 bytes; a gather brings each rank the 5 x 3 elements that the other holds, or 5 x 4.
  const OpTraffic split = row_of(rows, "f32[5, 7]{0: S(1)}");
  CHECK(split.bytes == 40);
  CHECK(split.gather_bytes == 80);
  CHECK(split.results == "f32[5, 7]{0: S(1)}");
  CHECK(row_of(rows, "f32[5, 7]{0: S(0)}").bytes == 0);
}

TEST_CASE("an op of single elements moves nothing for any placement of its input") {
  for (const OpTraffic& r : op_traffic(find_op("neg"))) {
    CHECK(r.bytes == 0);
    CHECK(r.gather_bytes > 0);
  }
}

TEST_CASE("the page has a section for each op and the figures of the table") {
  const auto all = all_ops();
  const std::string page = ops_markdown(all);
  for (const OpDef* op : all) CHECK(page.find("\n## " + std::string(op->name) + "\n") != std::string::npos);
  CHECK(page.find("| `f32[5, 7]{0: S(1)}; dim=1` | `f32[5, 7]{0: S(1)}` | 40 | 80 |") != std::string::npos);
}

TEST_CASE("an op that is its own plan, or one without samples, has no figures") {
  CHECK(op_traffic(find_op("redistribute")).empty());
  OpDef bare = find_op("neg");
  bare.samples = nullptr;
  CHECK(op_traffic(bare).empty());
}
