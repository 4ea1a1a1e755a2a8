// SPDX-License-Identifier: Apache-2.0
// What a whole process prints and how it ends: each program runs in a child of this process.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "dtensor/error.h"
#include "dtensor/world.h"

using namespace dtensor;

namespace {

struct Outcome {
  std::string out, err;
  int code = -1, signal = 0;
};

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<std::size_t>(n));
  close(fd);
  return text;
}

template <class F>
Outcome child(F&& program) {
  int out[2], err[2];
  REQUIRE(pipe(out) == 0);
  REQUIRE(pipe(err) == 0);
  std::fflush(nullptr);
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    dup2(out[1], 1);
    dup2(err[1], 2);
    for (int fd : {out[0], out[1], err[0], err[1]}) close(fd);
    const int code = program();
    std::fflush(nullptr);
    _exit(code);
  }
  close(out[1]);
  close(err[1]);
  Outcome outcome;
  outcome.out = read_all(out[0]);
  outcome.err = read_all(err[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  return outcome;
}

int start(int ranks, RankBody body, RunOptions options = {}) {
  char name[] = "program";
  char* argv[] = {name};
  options.ranks = ranks;
  return run(1, argv, body, options);
}

std::vector<std::string> sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

}  // namespace

TEST_CASE("print writes one whole line on rank 0 although all ranks evaluate it") {
  const Outcome o = child([] {
    return start(3, [](World& world) {
      for (int i = 0; i < 2; ++i) world.print({"any ", world.any(world.rank() == 2), " of ", world.size(), " at ", 0.5, i == 1 ? "\n" : ""});
    });
  });
  CHECK(o.out == "any true of 3 at 0.5\nany true of 3 at 0.5\n");
  CHECK(o.code == 0);
}

TEST_CASE("log writes whole lines with the rank in front") {
  const Outcome o = child([] {
    return start(4, [](World& world) {
      for (int i = 0; i < 50; ++i) world.log({"first of ", i, "\nsecond"});
    });
  });
  const auto lines = sorted_lines(o.out);
  REQUIRE(lines.size() == 400);
  CHECK(std::count(lines.begin(), lines.end(), "[rank 3] first of 49") == 1);
  CHECK(std::count(lines.begin(), lines.end(), "[rank 2] second") == 50);
}

TEST_CASE("run prints the first error once and returns 1") {
  const Outcome o = child([] {
    return start(4, [](World& world) {
      if (world.rank() == 3) throw std::runtime_error("no such file: corpus.txt");
      world.barrier();
    });
  });
  CHECK(o.err == "no such file: corpus.txt\n");
  CHECK(o.code == 1);
}

TEST_CASE("stop_requested is true on all ranks at the same step after a signal") {
  for (int number : {SIGINT, SIGTERM}) {
    const Outcome o = child([&] {
      return start(3, [&](World& world) {
        int step = 0;
        while (!world.stop_requested()) {
          if (++step == 5 && world.rank() == 1) kill(getpid(), number);
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        world.log({"stopped at ", step});
        CHECK(world.stop_requested());
      });
    });
    CHECK(o.code == 0);
    auto lines = sorted_lines(o.out);
    REQUIRE(lines.size() == 3);
    for (std::string& line : lines) line = line.substr(9);
    CHECK(lines[0] == lines[1]);
    CHECK(lines[1] == lines[2]);
  }
}

TEST_CASE("a second signal ends the process, and without stop_requested the first does") {
  const Outcome second = child([] {
    return start(1, [](World& world) {
      world.stop_requested();
      raise(SIGTERM);
      raise(SIGTERM);
    });
  });
  CHECK(second.signal == SIGTERM);
  const Outcome first = child([] { return start(1, [](World&) { raise(SIGTERM); }); });
  CHECK(first.signal == SIGTERM);
}

TEST_CASE("handlers are put back when the world ends") {
  const Outcome o = child([] {
    start(2, [](World& world) { world.stop_requested(); });
    raise(SIGINT);
    return 0;
  });
  CHECK(o.signal == SIGINT);
}

TEST_CASE("a rank that never returns is named, and the process leaves") {
  for (int stuck : {0, 1}) {
    const Outcome o = child([&] {
      std::atomic<int> here{0};
      return start(2,
                   [&](World& world) {
                     ++here;
                     while (here < 2) std::this_thread::yield();
                     world.barrier();
                     while (world.rank() == stuck) std::this_thread::sleep_for(std::chrono::seconds(1));
                     world.barrier();
                   },
                   {.time_limit_s = 0.3, .grace_s = 0.5});
    });
    const std::string rank = std::to_string(stuck);
    CHECK(o.code == 1);
    CHECK(o.err.find("barrier: no sign of rank " + rank + " within 0.3 s (collective 1 of group {0, 1})") == 0);
    CHECK(o.err.find("\nrank " + rank + " goes on without a library call 0.5 s after this error (rank " + rank +
                     ": last call barrier, last collective barrier 0 of group {0, 1}); the process leaves\n") != std::string::npos);
  }
}

TEST_CASE("DTENSOR_TIME_LIMIT=0 turns the limit off and a wrong one is an error") {
  const Outcome off = child([] {
    setenv("DTENSOR_TIME_LIMIT", "0", 1);
    return start(2,
                 [](World& world) {
                   if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(300));
                   world.barrier();
                 },
                 {.time_limit_s = 0.05});
  });
  CHECK(off.code == 0);
  CHECK(off.err.empty());
  const Outcome wrong = child([] {
    setenv("DTENSOR_TIME_LIMIT", "soon", 1);
    return start(2, [](World&) {});
  });
  CHECK(wrong.code == 1);
  CHECK(wrong.err.find("DTENSOR_TIME_LIMIT") != std::string::npos);
}

TEST_CASE("rank threads have the main thread's stack") {
  const Outcome o = child([] {
    return start(2, [](World& world) {
      // 5 MiB: beyond what small default stacks give.
      volatile char big[5 << 20];
      for (std::size_t i = 0; i < sizeof big; i += 4096) big[i] = static_cast<char>(world.rank());
    });
  });
  CHECK(o.code == 0);
}
