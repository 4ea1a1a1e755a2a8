// SPDX-License-Identifier: Apache-2.0
// Ops by name: those of the families and those that applications register.
#include <algorithm>
#include <mutex>

#include "base/error_text.h"
#include "ops/families.h"
#include "tensor/move_ops.h"

namespace dtensor {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<const OpDef*> ops;  // sorted by name
  Registry() {
    for (const auto& family : ops::families())
      for (const OpDef* op : family()) ops.push_back(op);
    for (const OpDef* op : tensor::move_ops()) ops.push_back(op);
    std::sort(ops.begin(), ops.end(), [](const OpDef* a, const OpDef* b) { return a->name < b->name; });
  }
};
Registry& registry() {
  static Registry r;
  return r;
}

// Edit distance, for suggestions.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

const OpDef& find_op(std::string_view name) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto it = std::lower_bound(r.ops.begin(), r.ops.end(), name, [](const OpDef* op, std::string_view n) { return op->name < n; });
  if (it != r.ops.end() && (*it)->name == name) return **it;
  std::vector<const OpDef*> near = r.ops;
  std::stable_sort(near.begin(), near.end(), [&](const OpDef* a, const OpDef* b) { return distance(a->name, name) < distance(b->name, name); });
  base::fail<InvalidArgument>("find_op: there is no op '{}'; near: {}, {}, {}", name, near[0]->name, near[1]->name, near[2]->name);
}

std::vector<const OpDef*> all_ops() {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  return r.ops;
}

void register_op(const OpDef& op) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto it = std::lower_bound(r.ops.begin(), r.ops.end(), op.name, [](const OpDef* o, std::string_view n) { return o->name < n; });
  if (it != r.ops.end() && (*it)->name == op.name)
    base::fail<InvalidArgument>("register_op: the name '{}' is taken; choose another, such as app::{}", op.name, op.name);
  r.ops.insert(it, &op);
}

}  // namespace dtensor
