// SPDX-License-Identifier: Apache-2.0
#include "tensor/state.h"

#include <algorithm>

namespace dtensor::tensor {

Plan* PlanCache::find(std::uint64_t hash, std::span<const std::uint64_t> key) noexcept {
  const std::size_t mask = table_.size() - 1;
  for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
    Entry& e = table_[i];
    if (!e.plan) break;
    if (e.hash == hash && std::equal(key.begin(), key.end(), e.plan->key.begin(), e.plan->key.end())) {
      ++hits;
      return e.plan.get();
    }
  }
  ++misses;
  return nullptr;
}

void PlanCache::clear() {
  table_ = std::vector<Entry>(1024);
  count_ = 0;
}

void PlanCache::insert(std::uint64_t hash, PlanRef plan) {
  if (count_ >= kLimit) clear();
  if (2 * (count_ + 1) > table_.size()) {
    std::vector<Entry> old(2 * table_.size());
    old.swap(table_);
    const std::size_t mask = table_.size() - 1;
    for (Entry& e : old) {
      if (!e.plan) continue;
      std::size_t i = e.hash & mask;
      while (table_[i].plan) i = (i + 1) & mask;
      table_[i] = std::move(e);
    }
  }
  const std::size_t mask = table_.size() - 1;
  std::size_t i = hash & mask;
  while (table_[i].plan) i = (i + 1) & mask;
  table_[i] = {hash, std::move(plan)};
  ++count_;
}

const OpInfo& CallState::info(const OpDef& op) {
  std::shared_ptr<OpInfo>* slot = &ops[(reinterpret_cast<std::uintptr_t>(&op) >> 4) % ops.size()];
  while (*slot && (*slot)->op != &op) slot = &(*slot)->next;
  if (!*slot) *slot = std::make_shared<OpInfo>(OpInfo{&op, parse_signature(op), {}, {}});
  return **slot;
}

CallState& call_state(base::RankContext& rank) { return base::rank_state<CallState>(rank); }
CallState& call_state() { return call_state(base::require_rank("tensor")); }

}  // namespace dtensor::tensor
