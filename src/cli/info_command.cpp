// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include <fmt/format.h>

#include "cli/commands.h"
#include "dtensor/op.h"
#include "dtensor/version.h"

namespace dtensor::cli {
namespace {

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  return fmt::format("g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

void show() {
  print(fmt::format(
      "dtensor     {} (headers {})\ncompiler    {}, C++ {}\nbackends    {}\nnot built   {}\nmatrices    {}\ncores       {}\nops         {}",
      version(), kVersion, compiler(), __cplusplus, DTENSOR_CLI_BACKENDS, DTENSOR_CLI_ABSENT, DTENSOR_CLI_MATRICES,
      std::thread::hardware_concurrency(), all_ops().size()));
}

}  // namespace

void add_info(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Version, compiler, backends of this build");
  command->footer("Example:\n  dtensor info");
  command->callback(show);
}

}  // namespace dtensor::cli
