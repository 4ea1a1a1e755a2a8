// SPDX-License-Identifier: Apache-2.0
#include "debug/case_run.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error_text.h"
#include "dtensor/autograd.h"
#include "dtensor/generator.h"
#include "tensor/impl.h"

namespace dtensor::debug {
namespace {

// The leading bits of a value: it and the rest are both exact in the dtype.
double leading(double value, Dtype dtype) {
  if (!std::isfinite(value)) return value;
  if (dtype == Dtype::f64) return std::bit_cast<double>(std::bit_cast<std::uint64_t>(value) & ~std::uint64_t{0x3ffffff});
  const std::uint32_t mask = dtype == Dtype::f32 ? 0xfff : dtype == Dtype::f16 ? 0x3ffff : 0xfffff;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) & ~mask);
}

DTensor place(const CaseTensor& t, const DeviceMesh& mesh, const std::vector<Placement>& placements) {
  const Whole& whole = t.value;
  const auto layout = placements::make_layout(mesh, whole.shape, whole.dtype, Placements(std::span<const Placement>(placements)), "cases");
  const auto spec = tensor::intern_spec(mesh, layout, whole.shape, whole.dtype, device_here());
  if (t.is_view && mesh.size() == 1) {
    const Tensor buffer = from_numbers(t.buffer, {static_cast<std::int64_t>(t.buffer.size())}, whole.dtype);
    return tensor::make_dtensor(spec, buffer.to(spec->device).as_strided(whole.shape, t.strides, t.offset));
  }
  Tensor part = exact_part(whole, *layout, spec->coordinates).to(spec->device);
  if (t.is_view && part.ndim() > 1) part = part.transpose(0, part.ndim() - 1).contiguous().transpose(0, part.ndim() - 1);
  return tensor::make_dtensor(spec, part);
}

// Of the gradient that comes in: by turns over the runs.
std::vector<Placement> weight_placements(const DeviceMesh& mesh, const Shape& shape, const Case& placements, bool partial, std::uint64_t state) {
  std::vector<Placement> list;
  for (const auto& of_input : placements)
    for (const Placement& p : of_input) state = state * 31 + static_cast<std::uint64_t>(p.kind()) + 1;
  for (int a = 0; a < mesh.ndim(); ++a) {
    const auto pick =
        static_cast<int>(random_bits(state, static_cast<std::uint64_t>(a)) % static_cast<std::uint64_t>(shape.ndim() + (partial ? 2 : 1)));
    list.emplace_back(pick == shape.ndim() ? Placement(Replicate()) : pick > shape.ndim() ? Placement(Partial()) : Placement(Shard(pick)));
  }
  return list;
}

void differentiate(const RecordedCase& c, const DeviceMesh& mesh, const Case& placements, const Results& results, std::span<const DTensor> tensors,
                   CaseRecord& record) {
  std::vector<DTensor> outputs, weights, wanted;
  for (std::size_t o = 0; o < c.grad_outputs.size(); ++o) {
    if (!c.grad_outputs[o] || !results[o].requires_grad()) continue;
    CaseTensor weight;
    weight.value = *c.grad_outputs[o];
    if (weight.value.shape != results[o].shape()) continue;  // the result is wrong, and reported
    outputs.push_back(results[o]);
    weights.push_back(place(weight, mesh, weight_placements(mesh, weight.value.shape, placements, c.is_finite(), o)));
  }
  for (std::size_t i = 0; i < c.grad_inputs.size(); ++i)
    if (c.grad_inputs[i]) wanted.push_back(tensors[i]);
  std::vector<DTensor> grads(wanted.size());
  if (!outputs.empty() && !wanted.empty())
    grads = grad(outputs, wanted, weights, {.retain_graph = false, .create_graph = false, .allow_unused = true});
  for (std::size_t i = 0, at = 0; i < c.grad_inputs.size(); ++i) record.gradients.push_back(c.grad_inputs[i] ? see(grads[at++]) : Seen());
}

std::string index_text(std::int64_t flat, const Shape& shape) {
  Shape index;
  const Shape strides = contiguous_strides(shape);
  for (int d = 0; d < shape.ndim(); ++d) index.push_back(flat / strides[d] % shape[d]);
  return to_string(index);
}

std::string compare(const Whole& got, const Whole& want, double rtol, double atol) {
  if (got.shape != want.shape || got.dtype != want.dtype)
    return fmt::format("is {}{}, expected {}{}", to_string(got.dtype), to_string(got.shape), to_string(want.dtype), to_string(want.shape));
  if (!info(want.dtype).floating) rtol = atol = 0;
  for (std::size_t i = 0; i < want.values.size(); ++i) {
    const double a = got.values[i], b = want.values[i];
    if (a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= atol + rtol * std::abs(b) + (got.slack.empty() ? 0 : got.slack[i])) continue;
    return fmt::format("element {} is {:.9g}, expected {:.9g}", index_text(static_cast<std::int64_t>(i), want.shape), a, b);
  }
  return {};
}

// A tensor of run `at` against what was recorded.
std::string fault_of(const Records& records, std::size_t at, std::size_t index, bool gradient, const Whole& want, double rtol, double atol) {
  const auto& list = gradient ? records[0][at].gradients : records[0][at].outputs;
  std::string fault;
  if (index < list.size() && !list[index].layout && gradient) {  // nothing depends on the input: zeros
    const Whole zeros{want.shape, want.dtype, std::vector<double>(want.values.size())};
    return compare(zeros, want, rtol, atol);
  }
  const auto whole = whole_of(records, at, index, gradient, fault);
  if (whole) fault = compare(*whole, want, rtol, atol);
  if (fault.empty() || index >= list.size() || !list[index].layout || list[index].layout->is_replicated()) return fault;
  std::vector<std::string> names;
  for (int i = 0; i < list[index].layout->mesh_ndim(); ++i) names.push_back(std::to_string(i));
  return fmt::format("as {}: {}", placements::to_string(*list[index].layout, names), fault);
}

}  // namespace

Tensor exact_part(const Whole& whole, const placements::Layout& layout, const Shape& coordinates) {
  std::size_t index = 0, count = 1;
  for (std::size_t a = 0; a < layout.partial.size(); ++a) {
    if (!layout.partial[a]) continue;
    const auto size = static_cast<std::size_t>(layout.mesh_sizes[a]);
    index = index * size + static_cast<std::size_t>(coordinates[a]);
    count *= size;
  }
  if (count == 1) return make_part(whole, layout, coordinates, 0);
  Whole piece = whole;
  for (std::size_t i = 0; i < piece.values.size(); ++i) {
    const double value = whole.values[i], high = leading(value, whole.dtype), zero = std::copysign(0.0, value);  // -0 is a sum of -0
    const double low = std::isfinite(high) && high != value ? value - high : zero;
    piece.values[i] = i % count == index ? high : (i + 1) % count == index ? low : zero;
  }
  placements::Layout plain = layout;
  std::fill(plain.partial.begin(), plain.partial.end(), std::nullopt);
  return make_part(piece, plain, coordinates, 0);
}

CaseRecord run_recorded(const RecordedCase& c, const CaseCall& call, const DeviceMesh& mesh, const Case& placements) {
  CaseRecord record;
  try {
    manual_seed(0);
    std::vector<DTensor> tensors;
    const std::vector<const CaseTensor*> given = c.tensors();
    for (std::size_t i = 0; i < given.size(); ++i) {
      tensors.push_back(given[i]->present ? place(*given[i], mesh, placements[i]) : DTensor());
      if (i < c.grad_inputs.size() && c.grad_inputs[i]) tensors.back().set_requires_grad();
    }
    const Results results = call(tensors);
    if (results.size() < c.outputs.size()) base::fail<InvalidArgument>("{} results, expected {}", results.size(), c.outputs.size());
    for (std::size_t o = 0; o < c.outputs.size(); ++o) record.outputs.push_back(see(results[o]));
    differentiate(c, mesh, placements, results, tensors, record);
  } catch (const InvalidArgument& e) { record.error = e.what(); } catch (const Unsupported& e) {
    record.error = e.what();
  }
  return record;
}

std::string judge(const RecordedCase& c, const Records& records, std::size_t at) {
  const std::string& error = records[0][at].error;
  for (const auto& rank : records)
    if (rank[at].error != error) return fmt::format("ranks disagree: one throws \"{}\", one \"{}\"", error, rank[at].error);
  if (!error.empty()) return error;
  if (!std::all_of(records.begin(), records.end(), [&](const auto& rank) { return rank[at].finished; }))
    return "was not run: too many runs before it broke off";
  for (std::size_t o = 0; o < c.outputs.size(); ++o)
    if (auto fault = fault_of(records, at, o, false, c.outputs[o], c.rtol, c.atol); !fault.empty()) return fmt::format("result {} {}", o, fault);
  for (std::size_t i = 0; i < c.grad_inputs.size(); ++i) {
    if (!c.grad_inputs[i]) continue;
    if (auto fault = fault_of(records, at, i, true, *c.grad_inputs[i], c.grad_rtol, c.grad_atol); !fault.empty())
      return fmt::format("gradient of tensor {} {}", i, fault);
  }
  return {};
}

}  // namespace dtensor::debug
