// SPDX-License-Identifier: Apache-2.0
// What ops receive for each split of their operand over four ranks, beside a gather of it: exact figures, by the counter.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

using namespace dtensor;

namespace {

constexpr int kRanks = 4;
// Bytes received by the rank that receives most, by the op and by completing Partial results (to Replicate); why, where it is as much as a gather.
struct Figure {
  std::int64_t op, results;
  const char* why = nullptr;
};
struct Row {
  std::string name;
  Shape shape;  // of the operand: f32, its elements distinct
  Results (*run)(const DTensor& x);
  std::vector<Figure> by_dim;  // the operand is split along dim 0, 1, ...
};

// Distinct, in no order.
DTensor operand(const Shape& shape, const DeviceMesh& mesh, const Placements& placements) {
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 7919 + 13) % 3079) / 100 - 15;
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
// 0, step, ... on every rank.
DTensor integers(const DTensor& x, std::int64_t count, std::int64_t step = 1) {
  return arange(0, count * step, step, x.mesh(), {}, {.dtype = Dtype::i64});
}
DTensor numbers(const DTensor& x, const Shape& shape) { return operand(shape, x.mesh(), {}); }
DTensor column(const DTensor& index, std::int64_t width) { return expand(unsqueeze(index, 1), {index.shape()[0], width}); }
Results both(const ValuesAndIndices& r) { return {r.values, r.indices}; }
Results both(const ValuesIndices& r) { return {r.values, r.indices}; }
DTensor small(const DTensor& x) { return x * 0.01; }
DTensor split(const DTensor& x) { return x.redistribute({Shard(0)}); }
using X = const DTensor&;

// Why an op receives as much as a gather of its operand.
constexpr const char* kWholeResult = "the result is whole on every rank, each of which needs every element";
constexpr const char* kLargeResult = "Partial, without communication; an all-reduce brings up to twice the bytes of the result";
constexpr const char* kCounts = "Partial, without communication; the result has more bytes than the operand";
constexpr const char* kDistinct = "all elements are distinct, so that all of them are the result";
constexpr const char* kVisits = "keys and values visit every rank, the queries stay: two gathers for three operands, in parts";

const Shape kMatrix{64, 48}, kImages{4, 8, 16, 12}, kHeads{4, 8, 32, 16};

// clang-format off
const std::vector<Row>& rows() {
  static const std::vector<Row> list{
      {"softmax 1", kMatrix, [](X x) -> Results { return {softmax(x, 1)}; }, {{0, 0}, {768, 0}}},
      {"log_softmax 1", kMatrix, [](X x) -> Results { return {log_softmax(x, 1)}; }, {{0, 0}, {768, 0}}},
      {"logsumexp 1", kMatrix, [](X x) -> Results { return {logsumexp(x, 1)}; }, {{0, 0}, {768, 0}}},
      {"cross_entropy", kMatrix, [](X x) -> Results { return {cross_entropy(x, remainder(integers(x, 64), 48))}; }, {{0, 12}, {1152, 0}}},
      {"layer_norm", kMatrix, [](X x) -> Results { return {layer_norm(x, {48}, numbers(x, {48}), numbers(x, {48}))}; }, {{0, 0}, {768, 0}}},
      {"rms_norm", kMatrix, [](X x) -> Results { return {rms_norm(x, {48}, numbers(x, {48}))}; }, {{0, 0}, {384, 0}}},
      {"group_norm", kImages, [](X x) -> Results { return {group_norm(x, 2, numbers(x, {8}), numbers(x, {8}))}; }, {{0, 0}, {12288, 0}, {96, 0}, {96, 0}}},
      {"batch_norm", kImages, [](X x) -> Results { return {batch_norm(x, numbers(x, {8}), numbers(x, {8}), numbers(x, {8}), numbers(x, {8}), {.training = true}).out}; }, {{192, 0}, {0, 0}, {192, 0}, {192, 0}}},
      {"sum 0", kMatrix, [](X x) -> Results { return {sum(x, 0)}; }, {{0, 288}, {0, 0}}},
      {"mean 0", kMatrix, [](X x) -> Results { return {mean(x, 0)}; }, {{0, 288}, {0, 0}}},
      {"mean 0, uneven", {10, 6}, [](X x) -> Results { return {mean(x, 0)}; }, {{0, 40}, {0, 0}}},
      {"var 0", kMatrix, [](X x) -> Results { return {var(x, 0)}; }, {{288, 288}, {0, 0}}},
      {"std 0", kMatrix, [](X x) -> Results { return {dtensor::std(x, 0)}; }, {{576, 0}, {0, 0}}},
      {"norm 0", kMatrix, [](X x) -> Results { return {norm(x, 0)}; }, {{288, 0}, {0, 0}}},
      {"any 0", kMatrix, [](X x) -> Results { return {any(gt(x, 14), 0)}; }, {{0, 72}, {0, 0}}},
      {"all 0", kMatrix, [](X x) -> Results { return {all(gt(x, -14), 0)}; }, {{0, 72}, {0, 0}}},
      {"cumsum 0", kMatrix, [](X x) -> Results { return {cumsum(x, 0)}; }, {{1152, 0}, {0, 0}}},
      {"cumprod 0", kMatrix, [](X x) -> Results { return {cumprod(small(x), 0)}; }, {{2304, 0}, {0, 0}}},
      {"cummax 0", kMatrix, [](X x) -> Results { return both(cummax(x, 0)); }, {{3456, 0}, {0, 0}}},
      {"cummin 0", kMatrix, [](X x) -> Results { return both(cummin(x, 0)); }, {{3456, 0}, {0, 0}}},
      {"logcumsumexp 0", kMatrix, [](X x) -> Results { return {logcumsumexp(x, 0)}; }, {{1152, 0}, {0, 0}}},
      {"argmax 0", kMatrix, [](X x) -> Results { return {argmax(x, 0)}; }, {{288, 576}, {0, 0}}},
      {"argmin 0", kMatrix, [](X x) -> Results { return {argmin(x, 0)}; }, {{288, 576}, {0, 0}}},
      {"max.dim 0", kMatrix, [](X x) -> Results { return both(max(x, 0)); }, {{288, 864}, {0, 0}}},
      {"min.dim 0", kMatrix, [](X x) -> Results { return both(min(x, 0)); }, {{288, 864}, {0, 0}}},
      {"topk 3, 0", kMatrix, [](X x) -> Results { return both(topk(x, 3, 0)); }, {{2304, 0}, {0, 0}}},
      {"kthvalue 3, 0", kMatrix, [](X x) -> Results { return both(kthvalue(x, 3, 0)); }, {{2304, 0}, {0, 0}}},
      {"median 0", kMatrix, [](X x) -> Results { return both(median(x, 0)); }, {{2304, 0}, {0, 0}}},
      {"median", kMatrix, [](X x) -> Results { return {median(x)}; }, {{600, 0}, {168, 0}}},
      {"sort 0", kMatrix, [](X x) -> Results { return both(sort(x, 0)); }, {{2304, 0}, {0, 0}}},
      {"sort, one line", {640}, [](X x) -> Results { return both(sort(x, 0)); }, {{1752, 0}}},
      {"sort, a longer line", {16000}, [](X x) -> Results { return both(sort(x, 0)); }, {{28424, 0}}},
      {"kthvalue 320, one line", {640}, [](X x) -> Results { return both(kthvalue(x, 320, 0)); }, {{576, 0}}},
      {"median.dim, one line", {640}, [](X x) -> Results { return both(median(x, 0)); }, {{600, 0}}},
      {"topk 8000, a longer line", {16000}, [](X x) -> Results { return both(topk(x, 8000, 0)); }, {{14952, 0}}},
      {"topk 3, one line", {640}, [](X x) -> Results { return both(topk(x, 3, 0)); }, {{108, 0}}},
      {"kthvalue 3, one line", {640}, [](X x) -> Results { return both(kthvalue(x, 3, 0)); }, {{108, 0}}},
      {"cummax, one line", {640}, [](X x) -> Results { return both(cummax(x, 0)); }, {{72, 0}}},
      {"slice 3:60, 0", kMatrix, [](X x) -> Results { return {slice(x, 0, 3, 60)}; }, {{384, 0}, {0, 0}}},
      {"slice ::2, 0", kMatrix, [](X x) -> Results { return {slice(x, 0, 0, 64, 2)}; }, {{0, 0}, {0, 0}}},
      {"select 0", kMatrix, [](X x) -> Results { return {select(x, 0, 5)}; }, {{192, 0}, {0, 0}}},
      {"narrow 0", kMatrix, [](X x) -> Results { return {narrow(x, 0, 16, 32)}; }, {{1536, 0}, {0, 0}}},
      {"split 0", kMatrix, [](X x) -> Results { return split(x, {20, 44}, 0); }, {{2880, 0}, {0, 0}}},
      {"cat 0", kMatrix, [](X x) -> Results { return {cat({x, x}, 0)}; }, {{6144, 0}, {0, 0}}},
      {"stack 0", kMatrix, [](X x) -> Results { return {stack({x, x}, 0)}; }, {{0, 0}, {0, 0}}},
      {"roll 3, 0", kMatrix, [](X x) -> Results { return {roll(x, {3}, {0})}; }, {{576, 0}, {0, 0}}},
      {"roll 3", kMatrix, [](X x) -> Results { return {roll(x, {3})}; }, {{192, 0}, {768, 0}}},
      {"flip 0", kMatrix, [](X x) -> Results { return {flip(x, {0})}; }, {{3072, 0}, {0, 0}}},
      {"pad 2, 0", kMatrix, [](X x) -> Results { return {pad(x, {0, 0, 2, 2})}; }, {{192, 0}, {0, 0}}},
      {"diagonal", kMatrix, [](X x) -> Results { return {diagonal(x)}; }, {{48, 0}, {0, 0}}},
      {"diagonal -5", kMatrix, [](X x) -> Results { return {diagonal(x, -5)}; }, {{28, 0}, {0, 0}}},
      {"gather 0", kMatrix, [](X x) -> Results { return {gather(x, 0, column(integers(x, 12, 5), 48))}; }, {{0, 3456}, {0, 0}}},
      {"gather 0, of the index", {12, 48}, [](X x) -> Results { return {gather(numbers(x, {64, 48}), 0, abs(x).to(Dtype::i64))}; }, {{0, 0}, {0, 0}}},
      {"gather 0, both split", kMatrix, [](X x) -> Results { return {gather(x, 0, split(column(integers(x, 12, 5), 48)))}; }, {{3456, 3456}, {864, 0}}},
      {"scatter 0", kMatrix, [](X x) -> Results { return {scatter(x, 0, column(integers(x, 12, 5), 48), numbers(x, {12, 48}))}; }, {{0, 0}, {0, 0}}},
      {"scatter 0, of the source", {12, 48}, [](X x) -> Results { return {scatter(numbers(x, {64, 48}), 0, column(integers(x, 12, 5), 48), x)}; }, {{1728, 0, kWholeResult}, {0, 0}}},
      {"scatter 0, all split", kMatrix, [](X x) -> Results { return {scatter(x, 0, split(column(integers(x, 12, 5), 48)), split(numbers(x, {12, 48})))}; }, {{5184, 0}, {1296, 0}}},
      {"index_select 0", kMatrix, [](X x) -> Results { return {index_select(x, 0, integers(x, 12, 5))}; }, {{0, 3456}, {0, 0}}},
      {"index_select 0, both split", kMatrix, [](X x) -> Results { return {index_select(x, 0, split(integers(x, 12, 5)))}; }, {{72, 3456}, {72, 0}}},
      {"index_add 0", kMatrix, [](X x) -> Results { return {index_add(x, 0, integers(x, 12, 5), numbers(x, {12, 48}))}; }, {{0, 0}, {0, 0}}},
      {"index_add 0, of the source", {12, 48}, [](X x) -> Results { return {index_add(numbers(x, {64, 48}), 0, integers(x, 12, 5), x)}; }, {{0, 18432, kLargeResult}, {0, 0}}},
      {"index_add 0, all split", kMatrix, [](X x) -> Results { return {index_add(x, 0, split(integers(x, 12, 5)), split(numbers(x, {12, 48})))}; }, {{0, 18432, kLargeResult}, {0, 18432, kLargeResult}}},
      {"index_put 0", kMatrix, [](X x) -> Results { return {index_put(x, {integers(x, 12, 5)}, numbers(x, {12, 48}))}; }, {{0, 0}, {0, 0}}},
      {"index_put 0, all split", kMatrix, [](X x) -> Results { return {index_put(x, {split(integers(x, 12, 5))}, split(numbers(x, {12, 48})))}; }, {{1800, 0}, {504, 0}}},
      {"embedding, of the weight", kMatrix, [](X x) -> Results { return {embedding(integers(x, 12, 5), x)}; }, {{0, 3456}, {0, 0}}},
      {"embedding, of the input", {12, 4}, [](X x) -> Results { return {embedding(abs(x).to(Dtype::i64), numbers(x, {64, 48}))}; }, {{0, 0}, {0, 0}}},
      {"tril", kMatrix, [](X x) -> Results { return {tril(x)}; }, {{0, 0}, {0, 0}}},
      {"triu", kMatrix, [](X x) -> Results { return {triu(x, 3)}; }, {{0, 0}, {0, 0}}},
      {"one_hot", {64}, [](X x) -> Results { return {one_hot(abs(x).to(Dtype::i64), 16)}; }, {{0, 0}}},
      {"conv2d 3x3, padding 1", kImages, [](X x) -> Results { return {conv2d(x, small(numbers(x, {6, 8, 3, 3})), {}, {.padding = 1})}; }, {{0, 0}, {0, 27648, kLargeResult}, {3072, 0}, {4096, 0}}},
      {"conv2d 3x3, stride 2", kImages, [](X x) -> Results { return {conv2d(x, small(numbers(x, {6, 8, 3, 3})), {}, {.stride = {2}})}; }, {{0, 0}, {0, 5040}, {1536, 0}, {6144, 0}}},
      {"max_pool2d 2x2", kImages, [](X x) -> Results { return {max_pool2d(x, {2, 2})}; }, {{0, 0}, {0, 0}, {0, 0}, {6144, 0}}},
      {"max_pool2d 3x3, stride 1", kImages, [](X x) -> Results { return {max_pool2d(x, {3, 3}, {.stride = {1}})}; }, {{0, 0}, {0, 0}, {3072, 0}, {4096, 0}}},
      {"attention", kHeads, [](X x) -> Results { return {scaled_dot_product_attention(x, x, x)}; }, {{0, 0}, {0, 0}, {98304, 0, kVisits}, {36864, 0}}},
      {"attention, causal", kHeads, [](X x) -> Results { return {scaled_dot_product_attention(x, x, x, {.is_causal = true})}; }, {{0, 0}, {0, 0}, {98304, 0, kVisits}, {36864, 0}}},
      {"attention, 4 heads on 1", kHeads, [](X x) -> Results { return {scaled_dot_product_attention(x, numbers(x, {4, 1, 32, 16}), numbers(x, {4, 1, 32, 16}), {.enable_gqa = true})}; }, {{0, 0}, {0, 0}, {0, 0}, {12288, 0}}},
      {"searchsorted", {64}, [](X x) -> Results { return {searchsorted(arange(-14, 18, 0.5, x.mesh(), x.placements(), {.dtype = Dtype::f32}), numbers(x, {20}))}; }, {{0, 240, kCounts}}},
      {"searchsorted, of the values", {64}, [](X x) -> Results { return {searchsorted(arange(-14, 18, 0.5, x.mesh(), {}, {.dtype = Dtype::f32}), x)}; }, {{0, 0}}},
      {"bucketize", {64}, [](X x) -> Results { return {bucketize(x, arange(-14, 18, 0.5, x.mesh(), {}, {.dtype = Dtype::f32}))}; }, {{0, 0}}},
      {"histc", {64, 48}, [](X x) -> Results { return {histc(x, {.bins = 10, .min = -10, .max = 10})}; }, {{0, 64}, {0, 64}}},
      {"bincount", {640}, [](X x) -> Results { return {bincount(abs(x).to(Dtype::i64))}; }, {{24, 192}}},
      {"matmul", kMatrix, [](X x) -> Results { return {matmul(x, numbers(x, {48, 16}))}; }, {{0, 0}, {0, 6144}}},
      {"matmul, of the second", kMatrix, [](X x) -> Results { return {matmul(numbers(x, {16, 64}), x)}; }, {{0, 4608}, {0, 0}}},
      {"matmul, both split", kMatrix, [](X x) -> Results { return {matmul(x, numbers(x, {48, 16}).redistribute({Shard(0)}))}; }, {{2304, 0}, {0, 6144}}},
      {"unique", kMatrix, [](X x) -> Results { return {unique(x).values}; }, {{9216, 0, kDistinct}, {9216, 0, kDistinct}}},
  };
  return list;
}
// clang-format on

struct Measured {
  std::int64_t op = 0, results = 0;
  Results values;
};
Measured measure(const Row& row, const DTensor& x) {
  const CommCounter counter;
  Measured m;
  m.values = row.run(x);
  m.op = counter.bytes_received();
  for (DTensor& t : m.values) {
    std::vector<AxisPlacement> kept;
    for (const AxisPlacement& e : t.placements().entries())
      if (!e.placement.is_partial()) kept.push_back(e);
    t = t.redistribute(Placements(std::move(kept)));
  }
  m.results = counter.bytes_received() - m.op;
  return m;
}
std::int64_t gather_of(const DTensor& x) {
  const CommCounter counter;
  x.redistribute({Replicate()});
  return counter.bytes_received();
}

}  // namespace

TEST_CASE("an op on a split operand receives what the table says, less than a gather of the operand, and gives what it gives on a whole one") {
  // Of each row and dim: the op, completing its results, a gather; on every rank.
  std::array<std::vector<std::array<std::int64_t, 3>>, kRanks> received;
  run_ranks({.ranks = kRanks}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", kRanks}});
    for (const Row& row : rows()) {
      CAPTURE(row.name);
      const Results whole = measure(row, operand(row.shape, mesh, {})).values;
      for (int dim = 0; dim < row.shape.ndim(); ++dim) {
        CAPTURE(dim);
        const DTensor x = operand(row.shape, mesh, {Shard(dim)});
        const Measured m = measure(row, x);
        received[static_cast<std::size_t>(world.rank())].push_back({m.op, m.results, gather_of(x)});
        REQUIRE(m.values.size() == whole.size());
        for (std::size_t i = 0; i < whole.size(); ++i) CHECK(allclose(m.values[i], whole[i], {.rtol = 1e-4, .atol = 1e-4, .equal_nan = true}));
      }
    }
  });
  std::string table;
  std::size_t at = 0;
  for (const Row& row : rows()) {
    REQUIRE(row.by_dim.size() == row.shape.size());
    for (std::size_t dim = 0; dim < row.by_dim.size(); ++dim, ++at) {
      std::array<std::int64_t, 3> worst{};
      for (const auto& rank : received)
        for (std::size_t k = 0; k < 3; ++k) worst[k] = std::max(worst[k], rank[at][k]);
      const auto [op, results, gather] = worst;
      const Figure& stated = row.by_dim[dim];
      table += "\n| " + row.name + " | " + std::to_string(dim) + " | " + std::to_string(op) + " | " + std::to_string(results) + " | " +
               std::to_string(gather) + " | " + (stated.why == nullptr ? "" : stated.why) + " |";
      CAPTURE(row.name);
      CAPTURE(dim);
      CHECK(op == stated.op);
      CHECK(results == stated.results);
      if (stated.why == nullptr) CHECK(op + results < gather);
      else CHECK(op + results >= gather);
    }
  }
  MESSAGE(
      "bytes received per rank on four ranks, f32\n| op | split dim | op | completing its results | gather of the operand | why as much "
      "|\n|---|--:|--:|--:|--:|---|",
      table);
}
