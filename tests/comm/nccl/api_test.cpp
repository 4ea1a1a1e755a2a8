// SPDX-License-Identifier: Apache-2.0
// Every function of NCCL as the library calls it: what arrives there, in which place, by which number, and what comes back.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "comm/nccl/nccl_api.h"

using namespace dtensor;
namespace nccl = comm::nccl;
using comm::CtaPolicy;
using nccl::Result;
using nccl::Type;

namespace {

struct Recording {
  const char* (*calls)() = nullptr;
  void (*answers)(int result, int state, const char* words) = nullptr;
};

// The recording library, loaded in the place of NCCL.
const Recording& recording() {
  static const Recording found = [] {
    setenv("DTENSOR_NCCL_LIBRARY", DTENSOR_NCCL_RECORDING, 1);
    REQUIRE(nccl::library().why_not == "");
    void* const library = dlopen(DTENSOR_NCCL_RECORDING, RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(library != nullptr);
    Recording r;
    r.calls = reinterpret_cast<decltype(r.calls)>(dlsym(library, "recorded_calls"));
    r.answers = reinterpret_cast<decltype(r.answers)>(dlsym(library, "recorded_answers"));
    REQUIRE((r.calls != nullptr && r.answers != nullptr));
    return r;
  }();
  return found;
}

// What the library receives of a call that succeeds.
std::string received(const std::function<Result()>& call) {
  recording().answers(0, 0, "");
  recording().calls();
  CHECK(call() == Result::success);
  return recording().calls();
}

void* at(std::uintptr_t place) { return reinterpret_cast<void*>(place); }
void *const kIn = at(0x10), *const kOut = at(0x20), *const kComm = at(0x30), *const kStream = at(0x40);
constexpr std::size_t kCount = (std::size_t{1} << 32) + 3;  // more than 32 bits hold

std::string id_text() {
  std::string id;
  for (int i = 0; i < 128; ++i) id += static_cast<char>('!' + i % 90);
  return id;
}

std::string made(int size, int rank, const char* name, CtaPolicy policy) {
  nccl::UniqueId id{};
  CHECK(received([&] { return nccl::make_unique_id(id); }) == "GetUniqueId\n");
  CHECK(std::string(id.data(), id.size()) == id_text());
  nccl::Comm comm = nullptr;
  const std::string text = received([&] { return nccl::init(comm, size, id, rank, name, policy); });
  CHECK(comm == at(0xc0));
  return text;
}

}  // namespace

TEST_CASE("the library is the one that is named, with all that newer versions have") {
  recording();
  CHECK(nccl::library().path == DTENSOR_NCCL_RECORDING);
  CHECK(nccl::version() == 22809);
  CHECK(nccl::built_version() >= nccl::kOldestVersion);
  CHECK(nccl::has_all_to_all());
  CHECK(nccl::has_windows());
}

TEST_CASE("a communicator is asked for without blocking, by size, id and rank, with its name and policy") {
  const bool named = nccl::built_version() >= 22700;
  const auto expected = [&](const char* rest) {
    return "CommInitRankConfig 6 4\n  id " + id_text() + "\n  config of " + std::to_string(nccl::built_version()) + " blocking=0" +
           (named ? rest : "") + "\n";
  };
  CHECK(made(6, 4, "mesh", CtaPolicy::standard) == expected(" comm_name=mesh"));
  CHECK(made(6, 4, "other", CtaPolicy::efficiency) == expected(" comm_name=other cta_policy=1"));
  CHECK(made(6, 4, "mesh", CtaPolicy::zero) == expected(" comm_name=mesh cta_policy=2"));
}

TEST_CASE("a communicator's life and membership are asked of that communicator") {
  CHECK(received([] { return nccl::state(kComm); }) == "CommGetAsyncError 0x30\n");
  CHECK(received([] { return nccl::finalize(kComm); }) == "CommFinalize 0x30\n");
  CHECK(received([] { return nccl::destroy(kComm); }) == "CommDestroy 0x30\n");
  CHECK(received([] { return nccl::abort(kComm); }) == "CommAbort 0x30\n");
  int rank = -1, size = -1, device = -1;
  CHECK(received([&] { return nccl::membership(kComm, rank, size, device); }) == "CommUserRank 0x30\nCommCount 0x30\nCommCuDevice 0x30\n");
  CHECK(rank == 2);
  CHECK(size == 5);
  CHECK(device == 7);
}

TEST_CASE("memory is NCCL's, and windows over it are symmetric") {
  void* memory = nullptr;
  CHECK(received([&] { return nccl::allocate_memory(memory, kCount); }) == "MemAlloc 4294967299\n");
  CHECK(memory == at(0xd0));
  nccl::WindowHandle window = nullptr;
  CHECK(received([&] { return nccl::open_window(window, memory, kCount, kComm); }) == "CommWindowRegister 0x30 0xd0 4294967299 1\n");
  CHECK(window == at(0xe0));
  CHECK(received([&] { return nccl::close_window(window, kComm); }) == "CommWindowDeregister 0x30 0xe0\n");
  CHECK(received([&] { return nccl::free_memory(memory); }) == "MemFree 0xd0\n");
}

TEST_CASE("collectives give input, output, count, type, operation or root, communicator and stream, each in its place") {
  CHECK(received([] { return nccl::group_start(); }) == "GroupStart\n");
  CHECK(received([] { return nccl::group_end(); }) == "GroupEnd\n");
  CHECK(received([] { return nccl::all_gather(kIn, kOut, kCount, Type::i64, kComm, kStream); }) == "AllGather 0x10 0x20 4294967299 4 0x30 0x40\n");
  CHECK(received([] { return nccl::reduce_scatter(kIn, kOut, kCount, Type::f32, nccl::kMax, kComm, kStream); }) ==
        "ReduceScatter 0x10 0x20 4294967299 7 2 0x30 0x40\n");
  CHECK(received([] { return nccl::all_reduce(kIn, kOut, kCount, Type::f64, nccl::kMin, kComm, kStream); }) ==
        "AllReduce 0x10 0x20 4294967299 8 3 0x30 0x40\n");
  CHECK(received([] { return nccl::broadcast(kIn, kOut, kCount, Type::u8, 6, kComm, kStream); }) == "Broadcast 0x10 0x20 4294967299 1 6 0x30 0x40\n");
  CHECK(received([] { return nccl::all_to_all(kIn, kOut, kCount, Type::bf16, kComm, kStream); }) == "AlltoAll 0x10 0x20 4294967299 9 0x30 0x40\n");
  CHECK(received([] { return nccl::send(kIn, kCount, Type::i32, 6, kComm, kStream); }) == "Send 0x10 4294967299 2 6 0x30 0x40\n");
  CHECK(received([] { return nccl::receive(kOut, kCount, Type::f16, 6, kComm, kStream); }) == "Recv 0x20 4294967299 6 6 0x30 0x40\n");
}

TEST_CASE("types and operations have NCCL's numbers") {
  const std::vector<std::pair<Type, int>> types{{Type::u8, 1},  {Type::i32, 2}, {Type::i64, 4}, {Type::f16, 6},
                                                {Type::f32, 7}, {Type::f64, 8}, {Type::bf16, 9}};
  for (const auto& [type, number] : types)
    CHECK(received([&, t = type] { return nccl::all_gather(kIn, kOut, 1, t, kComm, kStream); }) ==
          "AllGather 0x10 0x20 1 " + std::to_string(number) + " 0x30 0x40\n");
  const std::vector<std::pair<nccl::Op, int>> ops{{nccl::kSum, 0}, {nccl::kProduct, 1}, {nccl::kMax, 2}, {nccl::kMin, 3}, {nccl::kAvg, 4}};
  for (const auto& [op, number] : ops)
    CHECK(received([&, o = op] { return nccl::all_reduce(kIn, kOut, 1, Type::f32, o, kComm, kStream); }) ==
          "AllReduce 0x10 0x20 1 7 " + std::to_string(number) + " 0x30 0x40\n");
}

TEST_CASE("the factor of an operation is a number of the host, of the operation's type, rounded to it") {
  const std::vector<std::pair<Type, std::string>> thirds{{Type::f16, "6 1 0x30\n  scalar 3555\n"},
                                                         {Type::f32, "7 1 0x30\n  scalar 3eaaaaab\n"},
                                                         {Type::f64, "8 1 0x30\n  scalar 3fd5555555555555\n"},
                                                         {Type::bf16, "9 1 0x30\n  scalar 3eab\n"}};
  for (const auto& [type, text] : thirds) {
    nccl::Op op = -1;
    CHECK(received([&, t = type] { return nccl::make_premul_sum(op, 1.0 / 3, t, kComm); }) == "RedOpCreatePreMulSum " + text);
    CHECK(op == 9);
    CHECK(received([&] { return nccl::reduce_scatter(kIn, kOut, 1, Type::f32, op, kComm, kStream); }) == "ReduceScatter 0x10 0x20 1 7 9 0x30 0x40\n");
    CHECK(received([&] { return nccl::destroy_op(op, kComm); }) == "RedOpDestroy 9 0x30\n");
  }
}

TEST_CASE("every function gives the result that NCCL gave, by name") {
  int n = 0;
  void* p = nullptr;
  nccl::UniqueId id{};
  const std::vector<std::function<Result()>> functions{[&] { return nccl::make_unique_id(id); },
                                                       [&] { return nccl::init(p, 2, id, 0, "mesh"); },
                                                       [&] { return nccl::state(kComm); },
                                                       [&] { return nccl::membership(kComm, n, n, n); },
                                                       [&] { return nccl::finalize(kComm); },
                                                       [&] { return nccl::destroy(kComm); },
                                                       [&] { return nccl::abort(kComm); },
                                                       [&] { return nccl::allocate_memory(p, 1); },
                                                       [&] { return nccl::free_memory(p); },
                                                       [&] { return nccl::open_window(p, p, 1, kComm); },
                                                       [&] { return nccl::close_window(p, kComm); },
                                                       [&] { return nccl::group_start(); },
                                                       [&] { return nccl::group_end(); },
                                                       [&] { return nccl::all_gather(kIn, kOut, 1, Type::u8, kComm, kStream); },
                                                       [&] { return nccl::reduce_scatter(kIn, kOut, 1, Type::u8, nccl::kSum, kComm, kStream); },
                                                       [&] { return nccl::all_reduce(kIn, kOut, 1, Type::u8, nccl::kSum, kComm, kStream); },
                                                       [&] { return nccl::broadcast(kIn, kOut, 1, Type::u8, 0, kComm, kStream); },
                                                       [&] { return nccl::all_to_all(kIn, kOut, 1, Type::u8, kComm, kStream); },
                                                       [&] { return nccl::send(kIn, 1, Type::u8, 0, kComm, kStream); },
                                                       [&] { return nccl::receive(kOut, 1, Type::u8, 0, kComm, kStream); },
                                                       [&] { return nccl::make_premul_sum(n, 0.5, Type::f32, kComm); },
                                                       [&] { return nccl::destroy_op(9, kComm); }};
  // 8: one that this library does not know.
  const std::vector<Result> names{Result::success,        Result::unhandled_cuda_error, Result::system_error,
                                  Result::internal_error, Result::invalid_argument,     Result::invalid_usage,
                                  Result::remote_error,   Result::in_progress,          Result::internal_error};
  for (std::size_t code = 0; code < names.size(); ++code)
    for (std::size_t f = 0; f < functions.size(); ++f) {
      INFO("function ", f, ", result ", code);
      recording().answers(static_cast<int>(code), 0, "");
      CHECK(functions[f]() == names[code]);
    }
}

TEST_CASE("a communicator's state is the error that it has met, or why it cannot be asked") {
  recording().answers(0, 7, "");
  CHECK(nccl::state(kComm) == Result::in_progress);
  recording().answers(0, 6, "");
  CHECK(nccl::state(kComm) == Result::remote_error);
  recording().answers(4, 0, "");
  CHECK(nccl::state(kComm) == Result::invalid_argument);
  recording().answers(4, 6, "");
  CHECK(nccl::state(kComm) == Result::invalid_argument);
}

TEST_CASE("of a communicator that is in error no more is asked than the first answer") {
  recording().answers(5, 0, "");
  recording().calls();
  int n = 0;
  CHECK(nccl::membership(kComm, n, n, n) == Result::invalid_usage);
  CHECK(std::string(recording().calls()) == "CommUserRank 0x30\n");
}

TEST_CASE("an error's text is NCCL's word for it and the last details, of that communicator or of none") {
  recording().answers(0, 0, "Message truncated \n");
  recording().calls();
  CHECK(nccl::text_of(Result::invalid_usage, kComm) == "result 5: Message truncated");
  CHECK(nccl::text_of(Result::remote_error, nullptr) == "result 6: Message truncated");
  CHECK(std::string(recording().calls()) == "GetLastError 0x30\nGetLastError 0x0\n");
  recording().answers(0, 0, "");
  CHECK(nccl::text_of(Result::system_error, kComm) == "result 2");
}

TEST_CASE("ranks whose GPU another rank has are told the ways out") {
  recording().answers(0, 0, "Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 18000\n");
  CHECK(
      nccl::text_of(Result::invalid_usage, kComm) ==
      "result 5: Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 18000; ranks that share a GPU are threads without --backend nccl, or "
      "processes that were started with an NCCL_HOSTID each");
}
