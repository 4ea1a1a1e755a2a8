// SPDX-License-Identifier: Apache-2.0
// The same elements in another order, more often, or beside a constant. Names and conventions are PyTorch's; negative dims count from the end.
// Collective over the mesh of the input; differentiable, twice too. @throws InvalidArgument for dims, sizes and lists that do not fit.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// The listed dims in reverse.
DTENSOR_EXPORT DTensor flip(const DTensor& input, const Shape& dims);
DTENSOR_EXPORT DTensor fliplr(const DTensor& input);
DTENSOR_EXPORT DTensor flipud(const DTensor& input);
/// Element i of dims[k] goes to (i + shifts[k]) modulo its size. No dims: the flattened tensor by the one shift.
DTENSOR_EXPORT DTensor roll(const DTensor& input, const Shape& shifts, const Shape& dims = {});
/// A quarter turn k times, from dims[0] to dims[1].
DTENSOR_EXPORT DTensor rot90(const DTensor& input, std::int64_t k = 1, const Shape& dims = {0, 1});

struct PadOptions {
  std::string_view mode = "constant";  ///< the only one
  std::optional<double> value = {};    ///< none: 0
};
/// pad: elements added before and after the last dim, then the one before it, and so on; negative numbers cut.
DTENSOR_EXPORT DTensor pad(const DTensor& input, const Shape& pad, const PadOptions& options = {});

/// The elements [i, i + offset] of two dims as the last dim: a view locally.
DTENSOR_EXPORT DTensor diagonal(const DTensor& input, std::int64_t offset = 0, int dim1 = 0, int dim2 = 1);
/// The last dim as the diagonal of two new dims, zeros elsewhere.
DTENSOR_EXPORT DTensor diag_embed(const DTensor& input, std::int64_t offset = 0, int dim1 = -2, int dim2 = -1);
/// One dim: diag_embed; two dims: diagonal.
DTENSOR_EXPORT DTensor diag(const DTensor& input, std::int64_t diagonal = 0);
/// Windows of `size` elements of one dim, `step` apart; the elements of a window become the last dim.
DTENSOR_EXPORT DTensor unfold(const DTensor& input, int dimension, std::int64_t size, std::int64_t step);

DTENSOR_EXPORT DTensor movedim(const DTensor& input, const Shape& source, const Shape& destination);
DTENSOR_EXPORT DTensor movedim(const DTensor& input, int source, int destination);
DTENSOR_EXPORT DTensor moveaxis(const DTensor& input, const Shape& source, const Shape& destination);
DTENSOR_EXPORT DTensor swapaxes(const DTensor& input, int axis0, int axis1);
DTENSOR_EXPORT DTensor swapdims(const DTensor& input, int dim0, int dim1);
DTENSOR_EXPORT DTensor broadcast_to(const DTensor& input, const Shape& size);

/// The whole tensor again: repeats[k] times along dim k; more repeats than dims add dims in front.
DTENSOR_EXPORT DTensor repeat(const DTensor& input, const Shape& repeats);
/// repeat(), but fewer numbers than dims count for the last ones.
DTENSOR_EXPORT DTensor tile(const DTensor& input, const Shape& dims);
/// Each element `repeats` times in a row along `dim`, or of the flattened tensor.
DTENSOR_EXPORT DTensor repeat_interleave(const DTensor& input, std::int64_t repeats, std::optional<int> dim = {});

/// The slices of one dim, which goes away.
DTENSOR_EXPORT std::vector<DTensor> unbind(const DTensor& input, int dim = 0);
/// `sections` parts, the first of them longer by one where sizes do not divide; or the parts between the listed indices.
DTENSOR_EXPORT std::vector<DTensor> tensor_split(const DTensor& input, int sections, int dim = 0);
DTENSOR_EXPORT std::vector<DTensor> tensor_split(const DTensor& input, const Shape& indices, int dim);
/// cat along dim 1 (dim 0 of tensors of one dim); cat along dim 0 of tensors with at least two dims (rows).
DTENSOR_EXPORT DTensor hstack(std::span<const DTensor> tensors);
DTENSOR_EXPORT DTensor vstack(std::span<const DTensor> tensors);
inline DTensor hstack(std::initializer_list<DTensor> tensors) { return hstack(std::span<const DTensor>(tensors.begin(), tensors.size())); }
inline DTensor vstack(std::initializer_list<DTensor> tensors) { return vstack(std::span<const DTensor>(tensors.begin(), tensors.size())); }

/// [..., c * r * r, h, w] -> [..., c, h * r, w * r], and back.
DTENSOR_EXPORT DTensor pixel_shuffle(const DTensor& input, std::int64_t upscale_factor);
DTENSOR_EXPORT DTensor pixel_unshuffle(const DTensor& input, std::int64_t downscale_factor);

}  // namespace dtensor
