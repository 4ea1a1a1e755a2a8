// SPDX-License-Identifier: Apache-2.0
#include "dtensor/op_table.h"

#include <algorithm>

#include "base/error_text.h"
#include "base/rank.h"
#include "debug/verify_run.h"
#include "dtensor/debug.h"
#include "dtensor/generator.h"

namespace dtensor {
namespace debug {
namespace {

const Sample* largest(const std::vector<Sample>& samples) {
  const Sample* best = nullptr;
  std::int64_t most = 0;
  for (const Sample& s : samples) {
    std::int64_t n = 0;
    for (const Shape& shape : s.shapes) n += shape.empty() ? 1 : shape.numel();
    if (n > most) most = n, best = &s;
  }
  return best;
}

struct Choice {
  std::size_t input;
  Case placements;
};

std::vector<Choice> choices_of(const Problem& p) {
  std::vector<Choice> choices;
  const auto add = [&](std::size_t i, const Placement& placement) {
    Choice choice{i, Case(p.types.size())};
    for (std::size_t j = 0; j < p.types.size(); ++j)
      if (p.present[j]) choice.placements[j] = {j == i ? placement : Placement(Replicate())};
    choices.push_back(std::move(choice));
  };
  for (std::size_t i = 0; i < p.types.size(); ++i) {
    if (!p.present[i]) continue;
    for (int d = 0; d < p.types[i].shape.ndim(); ++d) add(i, Shard(d));
    if (info(p.types[i].dtype).floating) add(i, Partial());
  }
  return choices;
}

std::int64_t received(const std::vector<std::vector<std::int64_t>>& bytes, std::size_t at) {
  std::int64_t most = 0;
  for (const auto& rank : bytes) most = std::max(most, rank[at]);
  return most;
}

}  // namespace
}  // namespace debug

std::vector<OpTraffic> op_traffic(const OpDef& op, int ranks) {
  using namespace debug;
  if (base::current_rank() != nullptr)
    base::fail<InvalidArgument>("op_traffic: called on rank {}; it starts ranks of its own, so call it outside run()", base::current_rank()->rank);
  if (op.samples == nullptr || op.shape == nullptr || op.plan != nullptr) return {};
  const std::vector<Sample> samples = op.samples();
  const Sample* sample = largest(samples);
  if (sample == nullptr || sample->shapes.empty()) return {};
  const tensor::Signature signature = tensor::parse_signature(op);
  const Problem problem(op, signature, *sample, Dtype::f32, 1);
  const std::vector<Choice> choices = choices_of(problem);
  const std::size_t n = choices.size();
  std::vector<std::vector<std::int64_t>> bytes(static_cast<std::size_t>(ranks), std::vector<std::int64_t>(n)), gathered = bytes;
  const Records records = run_all({{ranks}}, n, [&](const DeviceMesh& mesh, std::size_t c) {
    CaseRecord record;
    const auto rank = static_cast<std::size_t>(base::require_rank("op_traffic").rank);
    const Choice& choice = choices[c];
    std::vector<DTensor> inputs;
    std::vector<Input> borrowed;
    for (std::size_t i = 0; i < problem.inputs.size(); ++i)
      inputs.push_back(problem.present[i] ? place(problem.inputs[i], mesh, choice.placements[i], 1 + i) : DTensor());
    for (const DTensor& t : inputs) borrowed.emplace_back(t);
    CommCounter counter;
    inputs[choice.input].redistribute({Replicate()}).wait();
    gathered[rank][c] = counter.bytes_received();
    counter.reset();
    try {
      manual_seed(0);
      for (const DTensor& t : call_all(op, borrowed, problem.attributes)) record.outputs.push_back(see(t));
      bytes[rank][c] = counter.bytes_received();
    } catch (const InvalidArgument& e) { record.error = e.what(); } catch (const Unsupported& e) {
      record.error = e.what();
    }
    return record;
  });
  std::vector<OpTraffic> rows;
  const std::vector<std::string> names{"0"};
  for (std::size_t c = 0; c < n; ++c) {
    OpTraffic row{problem.text(&choices[c].placements), records[0][c].error, received(bytes, c), received(gathered, c)};
    for (const Seen& s : records[0][c].outputs)
      if (s.layout) row.results += (row.results.empty() ? "" : ", ") + placements::to_string(s.dtype, s.shape, *s.layout, names);
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string ops_markdown(std::span<const OpDef* const> ops, int ranks) {
  std::string text = fmt::format(
      "# Ops\n\n{} ops. Bytes are those that the rank which receives most receives in a forward call on {} ranks; \"gather\" is what bringing that "
      "input to "
      "Replicate would take.\n",
      ops.size(), ranks);
  for (const OpDef* op : ops) {
    text += fmt::format("\n## {}\n\n```\n{}```\n", op->name, explain_op(*op));
    const std::vector<OpTraffic> rows = op_traffic(*op, ranks);
    if (rows.empty()) continue;
    text += "\n| inputs | results | bytes | gather |\n|---|---|---:|---:|\n";
    for (const OpTraffic& r : rows) {
      std::string results = r.results;
      std::replace(results.begin(), results.end(), '|', '/');
      text += fmt::format("| `{}` | `{}` | {} | {} |\n", r.inputs, results, r.bytes, r.gather_bytes);
    }
  }
  return text;
}

}  // namespace dtensor
