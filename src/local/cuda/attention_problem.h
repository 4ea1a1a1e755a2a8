// SPDX-License-Identifier: Apache-2.0
// An attention call as kernels read it: what all forms of it share.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

#include "local/cuda/block.h"
#include "local/cuda/numbers.h"
#include "local/cuda/rank_device.h"
#include "local/kernels/attention.h"
#include "local/strided.h"

#if defined(__CUDACC__)
#define DTENSOR_NOINLINE __noinline__
#else
#define DTENSOR_NOINLINE
#endif

namespace dtensor::local::cuda {

/// Queries whose greatest and least number of seen keys is known together; blocks of rows are multiples of it.
inline constexpr int kQueryGroup = 64;

template <class C>
inline constexpr C kNoScore = -std::numeric_limits<C>::infinity();

/// A [b, h, rows, columns] tensor; a dimension that is broadcast has stride 0.
struct AttentionOperand {
  const std::byte* data = nullptr;
  std::array<std::int64_t, 4> strides{};
  Dtype dtype = Dtype::f32;

  DTENSOR_DEVICE std::int64_t matrix(std::int64_t b, std::int64_t h) const { return b * strides[0] + h * strides[1]; }
  template <class C>
  DTENSOR_DEVICE C at(std::int64_t offset) const {
    if constexpr (std::is_same_v<C, double>) return reinterpret_cast<const double*>(data)[offset];
    else if (dtype == Dtype::bf16) return static_cast<C>(reinterpret_cast<const BFloat16*>(data)[offset]);
    else if (dtype == Dtype::f16) return static_cast<C>(reinterpret_cast<const Half*>(data)[offset]);
    else return reinterpret_cast<const float*>(data)[offset];
  }
};
inline AttentionOperand attention_operand(const Tensor& t) {
  AttentionOperand o{static_cast<const std::byte*>(t.raw()), {}, t.dtype()};
  for (int d = 0; d < t.ndim(); ++d)
    if (t.shape()[d] != 1) o.strides[static_cast<std::size_t>(4 - t.ndim() + d)] = t.strides()[d];
  return o;
}
/// Whether runs of `elements` neighbours along the last dimension lie together, aligned.
inline bool in_packs(const AttentionOperand& o, int elements) {
  const auto bytes = static_cast<std::uintptr_t>(elements * info(o.dtype).bytes);
  bool fits = o.strides[3] == 1 && reinterpret_cast<std::uintptr_t>(o.data) % bytes == 0;
  for (int d = 0; d < 3; ++d) fits = fits && o.strides[static_cast<std::size_t>(d)] % elements == 0;
  return fits;
}

/// Of [b, h, t, e], row-major, in the operands' type or that of the sums.
struct AttentionResult {
  std::byte* data = nullptr;
  Dtype dtype = Dtype::f32;
  bool add = false;
  template <class C>
  DTENSOR_DEVICE void put(std::int64_t at, C value) const {
    if constexpr (std::is_same_v<C, double>) {
      double* to = reinterpret_cast<double*>(data) + at;
      *to = add ? *to + value : value;
    } else if (dtype == Dtype::bf16) {
      reinterpret_cast<BFloat16*>(data)[at] = BFloat16(value);
    } else if (dtype == Dtype::f16) {
      reinterpret_cast<Half*>(data)[at] = Half(value);
    } else {
      float* to = reinterpret_cast<float*>(data) + at;
      *to = add ? *to + value : value;
    }
  }
};

/// The score with element `at` of a mask. Not inlined: it stands in loops that are unrolled far.
template <class C>
DTENSOR_NOINLINE DTENSOR_DEVICE C masked_score(C score, const std::byte* mask, Dtype dtype, std::int64_t at) {
  switch (dtype) {
    case Dtype::boolean:
      return reinterpret_cast<const bool*>(mask)[at] ? score : kNoScore<C>;
    case Dtype::f64:
      return score + static_cast<C>(reinterpret_cast<const double*>(mask)[at]);
    case Dtype::bf16:
      return score + static_cast<C>(load(reinterpret_cast<const BFloat16*>(mask)[at]));
    case Dtype::f16:
      return score + static_cast<C>(load(reinterpret_cast<const Half*>(mask)[at]));
    default:
      return score + static_cast<C>(reinterpret_cast<const float*>(mask)[at]);
  }
}

struct AttentionProblem {
  std::int64_t b = 0, h = 0, g = 0, t = 0, s = 0, d = 0, e = 0;  ///< batch, heads of queries and of keys, lengths, widths
  double scale = 1;
  AttentionOperand query, key, value, mask;
  const std::int64_t* kv_heads = nullptr;  ///< null: every `heads_each` query heads, one after the other, read one key head
  std::int64_t heads_each = 1;
  /// Of each query, of which it sees the keys 0 .. n - 1; behind them of each group of queries the most, then the least. Null: query i sees seen_first + i of
  /// them, as far as there are so many.
  const std::int64_t* seen_lists = nullptr;
  std::int64_t seen_first = 0;

  DTENSOR_DEVICE std::int64_t kv_head(std::int64_t head) const { return kv_heads != nullptr ? kv_heads[head] : quotient(head, heads_each); }
  DTENSOR_DEVICE std::int64_t groups() const { return (t + kQueryGroup - 1) / kQueryGroup; }
  DTENSOR_DEVICE std::int64_t seen(std::int64_t i) const {
    if (seen_lists != nullptr) return seen_lists[i];
    const std::int64_t n = seen_first + i;
    return n < 0 ? 0 : n < s ? n : s;
  }
  /// Of queries [first, first + kQueryGroup * n), of which one is there.
  DTENSOR_DEVICE std::int64_t most_seen(std::int64_t first, int n) const {
    if (seen_lists == nullptr) return seen((first + kQueryGroup * n < t ? first + kQueryGroup * n : t) - 1);
    std::int64_t result = 0;
    for (std::int64_t i = first / kQueryGroup; i < first / kQueryGroup + n && i < groups(); ++i)
      result = seen_lists[t + i] > result ? seen_lists[t + i] : result;
    return result;
  }
  DTENSOR_DEVICE std::int64_t least_seen(std::int64_t first, int n) const {
    if (seen_lists == nullptr) return seen(first);
    std::int64_t result = s;
    const std::int64_t* least = seen_lists + t + groups();
    for (std::int64_t i = first / kQueryGroup; i < first / kQueryGroup + n && i < groups(); ++i) result = least[i] < result ? least[i] : result;
    return result;
  }
  /// What the mask makes of a score.
  template <class C>
  DTENSOR_DEVICE C masked(C score, std::int64_t batch, std::int64_t head, std::int64_t i, std::int64_t j) const {
    return masked_score(score, mask.data, mask.dtype, mask.matrix(batch, head) + i * mask.strides[2] + j * mask.strides[3]);
  }
};

/// Keys that blocks of threads share out: `count` parts of `keys` each, the last shorter. Part i of a result, [b, h, t, e], lies behind those before it.
struct KeyParts {
  std::int64_t count = 1, keys = std::numeric_limits<std::int64_t>::max();
  DTENSOR_DEVICE std::int64_t begin(std::int64_t part) const { return part * keys; }
  DTENSOR_DEVICE std::int64_t end(std::int64_t part, std::int64_t seen) const {
    return part == count - 1 || seen < (part + 1) * keys ? seen : (part + 1) * keys;
  }
};
/// How many keys a block of threads takes at once, at most: parts are multiples of it.
inline constexpr std::int64_t kKeyTile = 64;
/// Parts of keys for `blocks` blocks of threads per part: one unless they leave more than half of the multiprocessors idle and there are many keys. The
/// same for the same sizes on devices of the same kind.
KeyParts key_parts(std::int64_t blocks, std::int64_t keys, int multiprocessors);

/// What other keys gave for the same queries, in the type of the sums, row-major; null: nothing.
struct EarlierAttention {
  const void *out = nullptr, *logsumexp = nullptr;
};
/// What a backward pass has besides: dots[b, h, t] is the sum over e of grad * out, in the type of the sums.
struct AttentionSlopes {
  AttentionOperand grad, logsumexp;  ///< the latter [b, h, t]: dimensions 1 .. 3 of an operand
  const void* dots = nullptr;
};

/// A problem with the memory that its pointers go to, for kernels queued while the object lives.
class AttentionOnDevice {
 public:
  AttentionOnDevice(RankDevice& device, const cpu::AttentionCall& call);
  const AttentionProblem& get() const noexcept { return problem_; }

 private:
  AttentionProblem problem_;
  std::optional<Uploaded<std::int64_t>> heads_;
  std::optional<Scratch> seen_;
};

/// The same problem with the query heads that read one key head as queries of one head, where each has one query: keys are then read once for all.
AttentionProblem heads_as_queries(const AttentionProblem& p);

/// Puts the parts of a result together, with what other keys gave.
struct AttentionParts {
  const void *out, *logsumexp;  ///< [parts, rows, e] and [parts, rows], in the type of the sums
  std::int64_t parts, rows, e;
};
void combine_attention(const AttentionParts& parts, const EarlierAttention& earlier, const AttentionResult& out, void* logsumexp, Dtype sums,
                       Stream stream);

/// sum over e of grad * out for every query: [b, h, t] in the type of the sums.
void attention_dots(const AttentionProblem& p, const Tensor& grad, const Tensor& out, void* dots, Stream stream);

}  // namespace dtensor::local::cuda
