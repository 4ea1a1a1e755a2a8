// SPDX-License-Identifier: Apache-2.0
#include "debug/verify_cases.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error_text.h"
#include "debug/verify_values.h"

namespace dtensor::debug {
namespace {

// One axis of one input and what it may be.
struct Column {
  std::size_t input, axis;
  std::vector<Placement> choices;
};
using Row = std::vector<std::size_t>;  // choice per column

int dim_of(const Placement& p) {
  if (const auto* s = p.as<Shard>()) return s->dim;
  if (const auto* s = p.as<StridedShard>()) return s->dim;
  if (const auto* s = p.as<RaggedShard>()) return s->dim;
  return -1;
}

class Covering {
 public:
  Covering(const std::vector<Column>& columns, std::uint64_t seed) : columns_(columns), seed_(seed) {
    for (std::size_t i = 0; i < columns_.size(); ++i)
      for (std::size_t j = i + 1; j < columns_.size(); ++j)
        for (std::size_t a = 0; a < columns_[i].choices.size(); ++a)
          for (std::size_t b = 0; b < columns_[j].choices.size(); ++b) open_.insert({i, a, j, b});
  }

  std::vector<Row> rows() {
    std::vector<Row> rows{Row(columns_.size(), 0)};
    cover(rows[0]);
    while (!open_.empty()) {
      Row best;
      std::size_t most = 0;
      for (int attempt = 0; attempt < 8; ++attempt) {
        Row row = candidate();
        const std::size_t n = gain(row);
        if (best.empty() || n > most) best = std::move(row), most = n;
      }
      cover(best);
      rows.push_back(std::move(best));
    }
    return rows;
  }

 private:
  using Pair = std::array<std::size_t, 4>;
  // A random row that has one of the open pairs.
  Row candidate() {
    Row row;
    for (const Column& c : columns_) row.push_back(random_bits(seed_, ++draws_) % c.choices.size());
    auto it = open_.lower_bound({random_bits(seed_, ++draws_) % columns_.size(), 0, 0, 0});
    if (it == open_.end()) it = open_.begin();
    row[(*it)[0]] = (*it)[1];
    row[(*it)[2]] = (*it)[3];
    return row;
  }
  template <class F>
  void each_pair(const Row& row, F&& f) const {
    for (std::size_t i = 0; i < row.size(); ++i)
      for (std::size_t j = i + 1; j < row.size(); ++j) f(Pair{i, row[i], j, row[j]});
  }
  std::size_t gain(const Row& row) const {
    std::size_t n = 0;
    each_pair(row, [&](const Pair& p) { n += open_.count(p); });
    return n;
  }
  void cover(const Row& row) {
    each_pair(row, [&](const Pair& p) { open_.erase(p); });
  }

  const std::vector<Column>& columns_;
  std::uint64_t seed_, draws_ = 0;
  std::set<Pair> open_;
};

std::vector<Row> all_rows(const std::vector<Column>& columns) {
  std::vector<Row> rows{{}};
  for (const Column& c : columns) {
    std::vector<Row> longer;
    for (const Row& r : rows) {
      for (std::size_t k = 0; k < c.choices.size(); ++k) {
        longer.push_back(r);
        longer.back().push_back(k);
      }
    }
    rows = std::move(longer);
  }
  return rows;
}

// The first stays, the others are shuffled.
void sample_rows(std::vector<Row>& rows, int limit, std::uint64_t seed) {
  if (limit <= 0 || rows.size() <= static_cast<std::size_t>(limit)) return;
  for (std::size_t i = rows.size() - 1; i > 1; --i) std::swap(rows[i], rows[1 + random_bits(seed, i) % i]);
  rows.resize(static_cast<std::size_t>(limit));
}

}  // namespace

std::vector<Placement> legalized(std::vector<Placement> list) {
  const auto additive = [](ReduceOp op) { return op == ReduceOp::sum || op == ReduceOp::avg; };
  for (std::size_t a = 1; a < list.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      const bool after_split = list[a].as<RaggedShard>() != nullptr && dim_of(list[b]) == dim_of(list[a]);
      const auto *p = list[a].as<Partial>(), *q = list[b].as<Partial>();
      const bool clash = p != nullptr && q != nullptr && p->op != q->op && !(additive(p->op) && additive(q->op));
      if (after_split || clash) list[a] = Replicate();
    }
  }
  return list;
}

std::vector<Placement> placements_of(const TensorType& type, int ranks) {
  std::vector<Placement> list{Replicate()};
  const int n = type.shape.ndim();
  for (int d = 0; d < n; ++d) list.emplace_back(Shard(d));
  for (int d = 0; d < n; ++d) list.emplace_back(StridedShard(d, 2));
  for (int d = 0; d < n; d += std::max(1, n - 1)) {
    // Uneven on purpose: one, nothing in the middle, the rest.
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(ranks), 0);
    sizes.front() = std::min<std::int64_t>(1, type.shape[d]);
    sizes.back() += type.shape[d] - sizes.front();
    if (ranks == 1) sizes.front() = type.shape[d];
    list.emplace_back(RaggedShard{d, sizes});
  }
  if (type.dtype != Dtype::boolean && type.dtype != Dtype::u8) list.emplace_back(Partial(ReduceOp::sum));
  if (info(type.dtype).floating) list.emplace_back(Partial(ReduceOp::avg));
  list.emplace_back(Partial(ReduceOp::min));
  list.emplace_back(Partial(ReduceOp::max));
  return list;
}

std::vector<Case> make_cases(const std::vector<TensorType>& inputs, const std::vector<bool>& present, const std::vector<int>& mesh, int limit,
                             std::uint64_t seed) {
  std::vector<Column> columns;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (std::size_t a = 0; present[i] && a < mesh.size(); ++a) columns.push_back({i, a, placements_of(inputs[i], mesh[a])});
  std::vector<Row> rows = columns.size() <= 2 ? all_rows(columns) : Covering(columns, seed).rows();
  sample_rows(rows, limit, seed);
  std::vector<Case> cases;
  for (const Row& row : rows) {
    Case c(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (present[i]) c[i].resize(mesh.size());
    for (std::size_t k = 0; k < columns.size(); ++k) c[columns[k].input][columns[k].axis] = columns[k].choices[row[k]];
    for (auto& list : c) list = legalized(std::move(list));
    if (std::find(cases.begin(), cases.end(), c) == cases.end()) cases.push_back(std::move(c));
  }
  return cases;
}

std::string to_string(const std::vector<Placement>& placements) {
  std::string text = "{";
  for (std::size_t a = 0; a < placements.size(); ++a) text += fmt::format("{}{}: {}", a == 0 ? "" : ", ", a, dtensor::to_string(placements[a]));
  return text + "}";
}

}  // namespace dtensor::debug
