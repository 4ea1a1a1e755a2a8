// SPDX-License-Identifier: Apache-2.0
// The library is loaded when it is first asked for: a program starts without it, and says in one sentence what it lacks.
#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "comm/expected.h"
#include "comm/job.h"
#include "comm/nccl/nccl_api.h"
#include "comm/nccl/process.h"
#include "cuda/emulator.h"
#include "dtensor/error.h"
#include "dtensor/nccl.h"
#include "dtensor/world.h"

using namespace dtensor;
using namespace dtensor::testing;

namespace {

// What a process of its own says, which has loaded nothing yet; null: the library of the machine.
std::string process(const char* library, const std::function<std::string()>& f) {
  const Ended ended = in_process([&] {
    if (library != nullptr) setenv("DTENSOR_NCCL_LIBRARY", library, 1);
    else unsetenv("DTENSOR_NCCL_LIBRARY");
    const std::string text = f();
    return write(STDERR_FILENO, text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1;
  });
  CHECK(ended.code == 0);
  return ended.text;
}

std::string joining() {
  return error_of([] { comm::nccl_job({.store = comm::memory_store(), .rank = 0, .size = 2}); });
}

constexpr const char* kWayOut = "; install NCCL 2.20 or newer, or set DTENSOR_NCCL_LIBRARY";

}  // namespace

TEST_CASE("a world over NCCL on a machine without it is refused with the reason") {
  const std::string text = process("/nowhere/libnccl.so.2", joining);
  CHECK(text == std::string("nccl: /nowhere/libnccl.so.2 cannot be loaded (/nowhere/libnccl.so.2: cannot open shared object file: No such file or "
                            "directory)") +
                    kWayOut);
  CHECK(process("/nowhere/libnccl.so.2", [] { return error_of([] { comm::nccl_membership(nullptr); }); }).starts_with("adopt: /nowhere/"));
  const std::string threads =
      process("/nowhere/libnccl.so.2", [] { return error_of([] { run_ranks({.ranks = 2, .backend = Backend::nccl}, [](World&) {}); }); });
  CHECK(threads == text);
}

TEST_CASE("a library that is too old is refused with both versions") {
  CHECK(process(DTENSOR_NCCL_OLD, joining) == std::string("nccl: ") + DTENSOR_NCCL_OLD + " is NCCL 2.14.3, older than 2.20.0" + kWayOut);
  CHECK(process(DTENSOR_NCCL_OLDER, joining) == std::string("nccl: ") + DTENSOR_NCCL_OLDER + " is NCCL 2.7.8, older than 2.20.0" + kWayOut);
}

TEST_CASE("a library that lacks a function is refused by the name of the function") {
  CHECK(process(DTENSOR_NCCL_LACKING, joining) == std::string("nccl: ") + DTENSOR_NCCL_LACKING + " has no ncclAllReduce" + kWayOut);
}

TEST_CASE("what newer versions add is used where it is, and not missed where it is not") {
  const auto has = [] { return std::to_string(comm::nccl::version()) + (comm::nccl::has_all_to_all() ? " all_to_all" : "") + " " + joining(); };
  CHECK(process(DTENSOR_NCCL_FULL, has) == "22809 all_to_all no error");
  CHECK(process(DTENSOR_NCCL_PLAIN, has) == "22005 no error");
}

TEST_CASE("what is known of the library can be asked for, and asking throws nothing") {
  const auto facts = [] {
    const NcclInfo i = nccl_info();
    return std::string(i.built && i.headers >= comm::nccl::kOldestVersion ? "built " : "") + std::to_string(i.found) + " " + i.path + i.why_none;
  };
  CHECK(process(DTENSOR_NCCL_FULL, facts) == std::string("built 22809 ") + DTENSOR_NCCL_FULL);
  CHECK(contains(process("/nowhere/libnccl.so.2", facts), "built 0 /nowhere/libnccl.so.2 cannot be loaded ("));
}

TEST_CASE("the library of this machine is loaded") {
  const std::string text = process(nullptr, [] {
    const NcclInfo i = nccl_info();
    return i.why_none.empty() ? "NCCL " + std::to_string(i.found) + " at " + i.path : "left out: " + i.why_none;
  });
  MESSAGE(text);
  CHECK((text.starts_with("NCCL 2") || text.starts_with("left out: libnccl.so.2 cannot be loaded (")));
}
