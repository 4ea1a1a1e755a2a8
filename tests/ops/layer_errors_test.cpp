// SPDX-License-Identifier: Apache-2.0
// What layers of images and of trainers refuse, in words.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "dtensor/dtensor.h"
#include "dtensor/verify.h"

using namespace dtensor;

namespace {

struct Row {
  DTensor (*call)(const DeviceMesh&);
  std::string text;
};
DTensor f(const DeviceMesh& mesh, const Shape& shape, Dtype dtype = Dtype::f32) { return zeros(shape, mesh, {}, {.dtype = dtype}); }

const std::vector<Row>& rows() {
  static const std::vector<Row> list{
      {[](const DeviceMesh& m) {
         return conv2d(f(m, {2, 3}), f(m, {2, 3, 5, 2}));
       },
       "conv2d: the input must be [N, C, sizes] or [C, sizes] with 2 sizes (input f32[2, 3])"},
      {[](const DeviceMesh& m) {
         return conv2d(f(m, {3, 4, 4}), f(m, {2, 2, 2, 2}));
       },
       "conv2d: groups 1 do not fit (input f32[3, 4, 4], weight f32[2, 2, 2, 2]); the weight must be [O, C / groups, kernel] with O divisible by "
       "groups"},
      {[](const DeviceMesh& m) {
         return conv2d(f(m, {3, 4, 4}), f(m, {2, 3, 2, 2}), {}, {.stride = {0}});
       },
       "conv2d: stride is [0, 0]; give one number or 2, each at least 1"},
      {[](const DeviceMesh& m) {
         return conv2d(f(m, {3, 4, 4}), f(m, {2, 3, 2, 2}), {}, {.stride = {2}, .padding = "same"});
       },
       "conv2d: padding 'same' needs stride 1 ([2, 2]); give numbers"},
      {[](const DeviceMesh& m) {
         return conv2d(f(m, {3, 4, 4}), f(m, {2, 3, 2, 2}), {}, {.padding = "full"});
       },
       "conv2d: padding is 'full'; give a number, 2 numbers, same or valid"},
      {[](const DeviceMesh& m) {
         return conv2d(f(m, {3, 4, 4}, Dtype::boolean), f(m, {2, 3, 2, 2}, Dtype::boolean));
       },
       "conv2d: 'input' is bool[3, 4, 4]{x: R}; supported dtypes: number"},
      {[](const DeviceMesh& m) {
         return conv_transpose2d(f(m, {3, 4, 4}), f(m, {3, 2, 2, 2}), {}, {.output_padding = {1}});
       },
       "conv_transpose2d: output_padding [1, 1] must be below stride [1, 1] or dilation [1, 1]"},
      {[](const DeviceMesh& m) {
         return max_pool2d(f(m, {3, 4, 4}), {2}, {.padding = {2}});
       },
       "max_pool2d: padding [2, 2] is more than half of the kernel [2, 2]; pad less"},
      {[](const DeviceMesh& m) {
         return max_pool2d(f(m, {3, 4, 4}), {5});
       },
       "max_pool2d: the kernel [5, 5] does not fit into [4, 4]; pad more or take a smaller one"},
      {[](const DeviceMesh& m) {
         return avg_pool2d(f(m, {3, 4, 4}), {2}, {.divisor_override = 0});
       },
       "avg_pool2d: divisor_override is 0; give another number or none"},
      {[](const DeviceMesh& m) {
         return adaptive_avg_pool2d(f(m, {4, 4}), {2});
       },
       "adaptive_avg_pool2d: the input must be [N, C, H, W] or [C, H, W] (input f32[4, 4])"},
      {[](const DeviceMesh& m) {
         return interpolate(f(m, {1, 3, 4}), {});
       },
       "interpolate: one of size and scale_factor is wanted"},
      {[](const DeviceMesh& m) {
         return interpolate(f(m, {1, 3, 4}), {.size = Shape{3}, .mode = "linear"});
       },
       "interpolate: mode 'linear' is not offered; use nearest"},
      {[](const DeviceMesh& m) {
         return interpolate(f(m, {1, 3, 4}), {.scale_factor = {0.1}});
       },
       "interpolate: scale_factor is '0.1' for sizes [4]; give one number or one per size, large enough for a result"},
      {[](const DeviceMesh& m) {
         return group_norm(f(m, {2, 5}), 2);
       },
       "group_norm: num_groups 2 does not divide the channels (input f32[2, 5])"},
      {[](const DeviceMesh& m) {
         return batch_norm(f(m, {2, 4}), {}, {}).out;
       },
       "batch_norm: running statistics are missing; give them, or training"},
      {[](const DeviceMesh& m) {
         return batch_norm(f(m, {1, 4}), {}, {}, {}, {}, {.training = true}).out;
       },
       "batch_norm: one value per channel has no variance (input f32[1, 4]); give more, or running statistics without training"},
      {[](const DeviceMesh& m) {
         return linear_cross_entropy(f(m, {2, 4}), f(m, {5, 3}), f(m, {2}, Dtype::i64));
       },
       "linear_cross_entropy: input [..., width] and weight [classes, width] of one floating dtype are wanted (input f32[2, 4], weight f32[5, 3])"},
      {[](const DeviceMesh& m) {
         return multinomial(f(m, {2, 4}), 5);
       },
       "multinomial: num_samples 5 are more than the classes (input f32[2, 4]); draw with replacement"},
      {[](const DeviceMesh& m) {
         return bias_gelu(f(m, {2, 4}), f(m, {3}));
       },
       "bias_gelu: input [..., n] and bias [n] of one floating dtype are wanted (input f32[2, 4], bias f32[3])"},
  };
  return list;
}

}  // namespace

TEST_CASE("layers refuse what does not fit, with one text on all ranks") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    for (const Row& row : rows()) {
      std::string text;
      try {
        row.call(mesh);
      } catch (const InvalidArgument& e) { text = e.what(); }
      CHECK(text == row.text);
    }
  });
}

TEST_CASE("layers hold in bf16 and f16 within their rounding") {
  for (const std::string_view name : {"conv2d", "conv_transpose2d", "group_norm", "batch_norm", "avg_pool2d", "max_pool2d", "linear_cross_entropy",
                                      "bias_gelu", "embedding_bag", "grouped_mm"}) {
    const VerifyReport report = verify(find_op(name), {.meshes = {{2}}, .missing = false, .dtypes = {Dtype::bf16, Dtype::f16}, .limit = 8});
    INFO(to_string(report));
    CHECK(report.checked > 0);
    CHECK(report.wrong == 0);
  }
}
