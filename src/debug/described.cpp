// SPDX-License-Identifier: Apache-2.0
// Meshes and tensors that are only talked about.
#include <algorithm>
#include <charconv>

#include "base/error_text.h"
#include "dtensor/debug.h"
#include "mesh/mesh_data.h"
#include "placements/layout.h"

namespace dtensor {
namespace {

// No running world has this number, so that a planning mesh equals none of a world.
constexpr std::uint64_t kNoWorld = ~std::uint64_t{0};

[[noreturn]] void fail_mesh(std::string_view text, std::string_view part) {
  base::fail<InvalidArgument>("mesh: cannot read '{}' in \"{}\"; write dp=2,tp=4 or 2x4 or 8", part, text);
}

}  // namespace

DescribedTensor parse_tensor(std::string_view text) {
  placements::Described d = placements::parse_described(text);
  return {d.dtype, d.shape, std::move(d.placements)};
}

DeviceMesh planning_mesh(std::string_view text) {
  const bool named = text.find('=') != std::string_view::npos;
  std::vector<std::string> names;
  std::vector<int> sizes;
  std::size_t from = 0;
  while (true) {
    const std::size_t to = std::min(text.find(named ? ',' : 'x', from), text.size());
    const std::string_view part = text.substr(from, to - from);
    const std::size_t equal = part.find('=');
    if (named && equal == std::string_view::npos) fail_mesh(text, part);
    const std::string_view number = named ? part.substr(equal + 1) : part;
    int size = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), size);
    if (number.empty() || error != std::errc() || end != number.data() + number.size()) fail_mesh(text, part);
    names.push_back(named ? std::string(part.substr(0, equal)) : std::to_string(names.size()));
    sizes.push_back(size);
    if (to == text.size()) break;
    from = to + 1;
  }
  std::vector<MeshAxis> axes;
  std::int64_t ranks = 1;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 1) base::fail<InvalidArgument>("mesh: axis '{}' has size {} in \"{}\"; sizes are at least 1", names[i], sizes[i], text);
    ranks *= sizes[i];
    if (ranks > (std::int64_t{1} << 24)) base::fail<InvalidArgument>("mesh: \"{}\" has more than {} ranks; give smaller axes", text, 1 << 24);
    axes.push_back({names[i], sizes[i]});
  }
  return mesh::make_mesh(kNoWorld, static_cast<int>(ranks), axes, {});
}

std::string visualize(const DeviceMesh& mesh, const DescribedTensor& t) {
  return placements::draw_text(mesh, t.shape, *placements::make_layout(mesh, t.shape, t.dtype, t.placements, "visualize"));
}

std::string visualize_svg(const DeviceMesh& mesh, const DescribedTensor& t) {
  return placements::draw_svg(mesh, t.shape, *placements::make_layout(mesh, t.shape, t.dtype, t.placements, "visualize"));
}

}  // namespace dtensor
