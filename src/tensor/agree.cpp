// SPDX-License-Identifier: Apache-2.0
#include "tensor/agree.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/error_text.h"
#include "dtensor/comm.h"

namespace dtensor::tensor {
namespace {

// Every rank's text, in mesh order; none of them holds a zero byte.
std::vector<std::string> texts_of_all(const Communicator& group, const std::string& mine) {
  const auto length = static_cast<std::int64_t>(mine.size()) + 1;
  const Tensor bytes = Tensor::empty({length}, Dtype::u8);
  std::copy_n(mine.c_str(), length, bytes.values<std::uint8_t>().begin());
  const Tensor all = group.all_gather(bytes, 0, {.exchange_sizes = true}).contiguous();
  const auto values = all.values<const std::uint8_t>();
  std::vector<std::string> texts(1);
  for (const std::uint8_t c : values) {
    if (c != 0) texts.back() += static_cast<char>(c);
    else texts.emplace_back();
  }
  texts.pop_back();
  return texts;
}

}  // namespace

DTensor agreed(const DeviceMesh& mesh, const char* op, const std::function<DTensor()>& make) {
  if (!mesh.contains_this_rank()) return make();
  DTensor result;
  std::string mine;
  try {
    result = make();
    mine = "+" + dtensor::to_string(result);
  } catch (const InvalidArgument& e) { mine = std::string("-") + e.what(); }
  const Communicator group = Communicator::of(mesh);
  const auto texts = texts_of_all(group, mine);
  const auto rank = [&](auto at) { return group.ranks()[static_cast<std::size_t>(at - texts.begin())]; };
  const auto failed = std::find_if(texts.begin(), texts.end(), [](const std::string& t) { return t[0] == '-'; });
  if (failed != texts.end()) base::fail<InvalidArgument>("{} (on rank {})", std::string_view(*failed).substr(1), rank(failed));
  const auto other = std::find_if(texts.begin(), texts.end(), [&](const std::string& t) { return t != texts[0]; });
  if (other != texts.end())
    base::fail<InvalidArgument>("{}: ranks disagree (rank {}: {}, rank {}: {}); give the same shape, dtype and placements on every rank", op,
                                rank(texts.begin()), std::string_view(texts[0]).substr(1), rank(other), std::string_view(*other).substr(1));
  return result;
}

}  // namespace dtensor::tensor
