// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>

#include "placements/enumerate.h"

using namespace dtensor;
using namespace dtensor::placements;
using namespace dtensor::testing;

namespace {

std::string drawn(const std::vector<int>& sizes, std::string_view notation) {
  int ranks = 1;
  for (int size : sizes) ranks *= size;
  std::vector<MeshAxis> axes{{"dp", sizes[0]}};
  if (sizes.size() > 1) axes.push_back({"tp", sizes[1]});
  const DeviceMesh mesh = mesh::make_mesh(1, ranks, axes, {});
  const Described what = parse_described(notation);
  return draw_text(mesh, what.shape, *make_layout(mesh, what.shape, what.dtype, what.placements, "test"));
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

}  // namespace

TEST_CASE("a vector is drawn as a row with the ranks that own each interval") {
  CHECK(drawn({4}, "f32[7]{dp: S(0)}") ==
        "[7]{dp: S(0)} on Mesh(dp=4)\n"
        "dim 0   0-1   2-3   4-5   6\n"
        "      +-----+-----+-----+---+\n"
        " rank | 0   | 1   | 2   | 3 |\n"
        "      +-----+-----+-----+---+\n");
}

TEST_CASE("a matrix is drawn as a grid, replicas together, Partial axes and empty ranks below") {
  CHECK(drawn({2, 2}, "f32[4, 3]{dp: S(0), tp: S(1)}") ==
        "[4, 3]{dp: S(0), tp: S(1)} on Mesh(dp=2, tp=2)\n"
        "dim 0 \\ dim 1   0-1   2\n"
        "              +-----+---+\n"
        "          0-1 | 0   | 1 |\n"
        "              +-----+---+\n"
        "          2-3 | 2   | 3 |\n"
        "              +-----+---+\n");
  CHECK(drawn({2, 4}, "f32[1, 8]{dp: S(0), tp: P(sum)}") ==
        "[1, 8]{dp: S(0), tp: P(sum)} on Mesh(dp=2, tp=4)\n"
        "dim 0 \\ dim 1   0-7\n"
        "              +-----+\n"
        "            0 | 0-3 |\n"
        "              +-----+\n"
        "partial on tp: the value is the sum over its 4 ranks\n"
        "without elements: rank 4-7\n");
}

TEST_CASE("three dimensions are drawn as slices, none as one cell, more or empty ones as a table") {
  const std::string cube = drawn({2, 2}, "f32[4, 2, 2]{dp: S(0), tp: S(2)}");
  CHECK(count(cube, "dim 0 = ") == 2);
  CHECK(cube.find("dim 0 = 2-3\n") != std::string::npos);
  CHECK(drawn({2}, "f32[]").find("| 0 1 |") != std::string::npos);
  CHECK(drawn({2}, "f32[2, 2, 2, 4]{dp: SS(3, 2)}") ==
        "[2, 2, 2, 4]{dp: SS(3, 2)} on Mesh(dp=2)\n"
        "rank  local shape   dim 0  dim 1  dim 2  dim 3\n"
        "0     [2, 2, 2, 2]  0-1    0-1    0-1    0 2\n"
        "1     [2, 2, 2, 2]  0-1    0-1    0-1    1 3\n");
  CHECK(drawn({2}, "f32[0]{dp: S(0)}").find("without elements: rank 0 1\n") != std::string::npos);
}

TEST_CASE("ranks that hold the same share a line of a table, and a table of thousands of ranks is short") {
  CHECK(drawn({2, 4}, "f32[2, 2, 2, 4]{dp: S(3)}").find("0-3   [2, 2, 2, 2]  0-1    0-1    0-1    0-1\n4-7 ") != std::string::npos);
  const std::string large = drawn({4096, 4}, "f32[8192, 8]{dp: S(0), tp: S(1)}");
  CHECK(std::count(large.begin(), large.end(), '\n') == 51);
  CHECK(large.find("... 16336 ranks more\n") != std::string::npos);
  CHECK(large.find("\n16383 ") != std::string::npos);
}

TEST_CASE("a cell that many ranks own names a few of them and how many there are") {
  CHECK(drawn({64, 2}, "f32[4]{tp: S(0)}").find("| 0 2 4 ... 126 (64 ranks) | 1 3 5 ... 127 (64 ranks) |") != std::string::npos);
  CHECK(drawn({8, 2}, "f32[4]{tp: S(0)}").find("| 0 2 4 6 8 10 12 14 | 1 3 5 7 9 11 13 15 |") != std::string::npos);
}

TEST_CASE("the SVG has one filled cell per cell of the grid and names every rank") {
  const DeviceMesh mesh = mesh_of({2, 4});
  const Described what = parse_described("f32[8, 16]{dp: S(0), tp: S(1)}");
  const std::string svg = draw_svg(mesh, what.shape, *make_layout(mesh, what.shape, what.dtype, what.placements, "test"));
  CHECK(svg.rfind("<svg ", 0) == 0);
  CHECK(svg.find("</svg>\n") == svg.size() - 7);
  CHECK(count(svg, "fill=\"hsl(") == 8);
  for (int rank = 0; rank < 8; ++rank) CHECK(count(svg, ">" + std::to_string(rank) + "</text>") >= 1);
  CHECK(count(svg, "<text ") == count(svg, "</text>"));
}
