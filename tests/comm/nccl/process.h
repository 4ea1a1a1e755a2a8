// SPDX-License-Identifier: Apache-2.0
// Functions in a process of their own, which ends with them.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace dtensor::testing {

struct Ended {
  std::string text;  ///< what was written to stderr
  int code = -1;     ///< -1: a signal ended the process
};
/// `f` returns the code.
template <class F>
Ended in_process(const F& f) {
  int out[2];
  REQUIRE(pipe(out) == 0);
  std::fflush(nullptr);
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    dup2(out[1], STDERR_FILENO);
    close(out[0]);
    _exit(f());
  }
  close(out[1]);
  Ended ended;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(out[0], buffer, sizeof buffer)) > 0;) ended.text.append(buffer, static_cast<std::size_t>(n));
  close(out[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status)) ended.code = WEXITSTATUS(status);
  return ended;
}

}  // namespace dtensor::testing
