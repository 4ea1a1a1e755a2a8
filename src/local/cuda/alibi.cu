// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/launch.h"
#include "local/cuda/numbers.h"
#include "local/cuda/rank_device.h"
#include "local/kernels/transformer.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

template <class T>
struct FillAlibi {
  const double* slopes;
  Numbers queries, keys;
  std::int64_t rows, columns;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t rest = i;
    const std::int64_t key = keys[cut_last(rest, columns)], query = queries[cut_last(rest, rows)];
    out[i] = convert<T>(slopes[rest] * static_cast<double>(key - query));
  }
};

void alibi_table(const cpu::AlibiTable& table, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  const Uploaded<double> slopes(device, table.slopes);
  const DeviceNumbers queries(device, table.queries), keys(device, table.keys);
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("alibi table", out.numel(), device.current,
                    FillAlibi<T>{slopes.data(), queries.get(), keys.get(), out.shape()[1], out.shape()[2], out.raw_as<T>()});
  });
}

}  // namespace

void install_alibi() { kernels::alibi_table.cuda = alibi_table; }

}  // namespace dtensor::local::cuda
