// SPDX-License-Identifier: Apache-2.0
// The filter of examples/adopt inside an application of three processes, which are threads here, with pool threads of their own.
#include <doctest/doctest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/expected.h"
#include "comm/nccl/recorder.h"
#include "cuda/emulator.h"
#include "examples/adopt/filter.h"

using namespace dtensor;
namespace nccl = comm::nccl;
namespace recorded = comm::nccl::recorded;

namespace {

constexpr int kRanks = 3;
constexpr std::int64_t kSize = 7;
constexpr std::int64_t kBegins[] = {0, 3, 6, 7};  // rows as Shard(0) divides them

float value(std::int64_t row, std::int64_t column) { return static_cast<float>((row * 5 + column * 3) % 11) - 4; }

// What the filter makes of the whole matrix.
std::vector<double> filtered() {
  std::vector<double> all(kSize * kSize);
  for (std::int64_t c = 0; c < kSize; ++c) {
    double squares = 0;
    for (std::int64_t r = 0; r < kSize; ++r) squares += static_cast<double>(value(r, c)) * value(r, c);
    for (std::int64_t r = 0; r < kSize; ++r) all[static_cast<std::size_t>(r * kSize + c)] = value(r, c) / std::sqrt(squares / kSize + 1e-6);
  }
  return all;
}

void in_pool(const std::function<void()>& f) { std::thread(f).join(); }

/// One process of the application, up to the end of its filter: what lies in its rows then.
std::vector<float> process(nccl::Comm comm, int rank, const std::string& folder) {
  const Device device = Device::cuda(0);
  const std::int64_t begin = kBegins[rank], rows = kBegins[rank + 1] - begin;
  std::vector<float> host;
  for (std::int64_t i = 0; i < rows * kSize; ++i) host.push_back(value(begin + i / kSize, i % kSize));
  const Tensor memory = Tensor::of(host, {rows, kSize}).to(device);
  auto* const first = static_cast<float*>(memory.raw());
  Stream::current(device).synchronize();
  const Stream stream = Stream::create(device);
  std::unique_ptr<Filter> filter;
  in_pool([&] { filter = std::make_unique<Filter>(static_cast<ncclComm_t>(comm), 0, stream.native(), folder); });
  in_pool([&] { CHECK(filter_apply(*filter, first, rows + 1, kSize) == 1); });  // a mistake of all ranks
  in_pool([&] { CHECK(filter_apply(*filter, first, rows, kSize) == 0); });
  stream.synchronize();
  const Tensor back = memory.to(Device::cpu());
  const auto values = back.values<const float>();
  std::vector<float> result(values.begin(), values.end());
  in_pool([&] { filter.reset(); });
  return result;
}

}  // namespace

TEST_CASE("a filter over an application's communicator, stream and memory is right, and leaves them to the application") {
  local::cuda::emulated::set_devices(1, std::int64_t{1} << 30);
  std::string folder = (std::filesystem::temp_directory_path() / "dtensor-application-XXXXXX").string();
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  nccl::UniqueId id{};
  static_cast<void>(nccl::make_unique_id(id));
  recorded::taken_calls();
  std::vector<std::vector<float>> results(kRanks);
  std::vector<std::thread> processes;
  for (int rank = 0; rank < kRanks; ++rank)
    processes.emplace_back([&, rank] {
      nccl::Comm comm = nullptr;
      CHECK(nccl::init(comm, kRanks, id, rank, "theirs") == nccl::Result::in_progress);
      while (nccl::state(comm) == nccl::Result::in_progress) std::this_thread::yield();
      results[static_cast<std::size_t>(rank)] = process(comm, rank, folder);
    });
  for (std::thread& t : processes) t.join();
  std::filesystem::remove_all(folder);
  const std::vector<double> expected = filtered();
  for (int rank = 0; rank < kRanks; ++rank) {
    const auto& rows = results[static_cast<std::size_t>(rank)];
    for (std::size_t i = 0; i < rows.size(); ++i)
      CHECK(rows[i] == doctest::Approx(expected[static_cast<std::size_t>(kBegins[rank] * kSize) + i]).epsilon(1e-5));
  }
  int carried = 0;
  for (const recorded::Call& c : recorded::taken_calls()) carried += c.comm == "theirs" ? 1 : 0;
  CHECK(carried > 0);
  CHECK(recorded::taken_mismatches().empty());
  CHECK(recorded::taken_lives().aborted == 0);
}
