// SPDX-License-Identifier: Apache-2.0
// The commands of the `dtensor` program. Exit codes: 0 done, 1 the command failed, 2 the command line cannot be read.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include "dtensor/error.h"
#include "dtensor/values.h"

namespace dtensor::cli {

/// A word of the command line that cannot be read: exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Each adds one command to the program.
void add_info(CLI::App& app);
void add_measure(CLI::App& app);
void add_plan(CLI::App& app);
void add_shards(CLI::App& app);
void add_ops(CLI::App& app);
void add_ckpt(CLI::App& app);
// `code` becomes 1 when what they check does not hold.
void add_cases(CLI::App& app, int& code);
void add_verify(CLI::App& app, int& code);

/// What `read` gives; InvalidArgument becomes a UsageError.
template <class F>
auto read_word(F&& read) {
  try {
    return read();
  } catch (const InvalidArgument& e) { throw UsageError(e.what()); }
}

/// "cpu", "cuda", "cuda:1".
Device read_device(const std::string& text);

void print(std::string_view text);
/// @throws Error when the file cannot be written.
void write_file(const std::string& path, std::string_view text);
/// "4.5 MiB".
std::string bytes_text(std::int64_t bytes);

}  // namespace dtensor::cli
