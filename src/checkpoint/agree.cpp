// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/agree.h"

#include <cstring>
#include <numeric>

#include "base/error_text.h"
#include "base/rank.h"
#include "comm/communicator.h"
#include "dtensor/tensor.h"

namespace dtensor::checkpoints {
namespace {

comm::Communicator& everyone() {
  const base::RankContext& rank = base::require_rank("checkpoint");
  std::vector<int> ranks(static_cast<std::size_t>(rank.world_size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return comm::group(ranks, "checkpoint");
}

constexpr std::int64_t kText = 1024;

}  // namespace

void together(std::string_view what, const std::function<void()>& f) {
  std::string error;
  try {
    f();
  } catch (const InvalidArgument& e) {
    error = e.what();
    if (error.empty()) error = "unknown";
  }
  comm::Communicator& world = everyone();
  Tensor mine = Tensor::zeros({kText}, Dtype::u8), all = Tensor::zeros({world.size() * kText}, Dtype::u8);
  std::memcpy(mine.data(), error.data(), std::min<std::size_t>(error.size(), kText - 1));
  redistribute::Transfer transfer;
  for (int peer = 0; peer < world.size(); ++peer) {
    transfer.sends.push_back({.peer = peer, .offset = 0, .sizes = {kText}, .strides = {1}});
    transfer.receives.push_back({.peer = peer, .offset = peer * kText, .sizes = {kText}, .strides = {1}});
  }
  world.exchange({"agree", 1, what}, mine, all, std::make_shared<const redistribute::Transfer>(std::move(transfer)));
  const auto* texts = static_cast<const char*>(all.read());
  for (int peer = 0; peer < world.size(); ++peer)
    if (const std::string text(texts + peer * kText); !text.empty()) throw InvalidArgument(error.empty() || error == text ? text : error);
}

}  // namespace dtensor::checkpoints
