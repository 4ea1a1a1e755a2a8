// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include <fmt/format.h>

#include "cli/commands.h"
#include "dtensor/cuda.h"
#include "dtensor/nccl.h"
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

// "13.0" of 13000.
std::string cuda_version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

std::string cuda_lines() {
  const CudaInfo info = cuda_info();
  if (!info.built) return "";
  std::string text = fmt::format("\ncuda        runtime {}, {}", cuda_version(info.runtime),
                                 info.driver == 0 ? "no driver" : fmt::format("driver for {}", cuda_version(info.driver)));
  text += "\ncudnn       " + info.cudnn;
  if (info.devices.empty()) text += fmt::format("\ndevices     none: {}; tensors live on the CPU", info.why_none);
  for (std::size_t i = 0; i < info.devices.size(); ++i) {
    const CudaDeviceInfo& d = info.devices[i];
    text += fmt::format("\ncuda:{}      {}, compute capability {}.{}, {} multiprocessors, {:.1f} of {:.1f} GiB free", i, d.name, d.major, d.minor,
                        d.multiprocessors, static_cast<double>(d.free_bytes) / (1 << 30), static_cast<double>(d.memory_bytes) / (1 << 30));
  }
  return text;
}

// "2.28.9" of 22809.
std::string nccl_version(int number) { return fmt::format("{}.{}.{}", number / 10'000, number / 100 % 100, number % 100); }

std::string nccl_lines() {
  const NcclInfo info = nccl_info();
  if (!info.built) return "";
  const std::string found = info.why_none.empty() ? fmt::format("found {} ({})", nccl_version(info.found), info.path) : "none: " + info.why_none;
  return fmt::format("\nnccl        headers {}, {}", nccl_version(info.headers), found);
}

void show() {
  print(fmt::format(
      "dtensor     {} (headers {})\ncompiler    {}, C++ {}\nbackends    {}\nnot built   {}\nmatrices    {}\ncores       {}\nops         {}{}{}",
      version(), kVersion, compiler(), __cplusplus, DTENSOR_CLI_BACKENDS, DTENSOR_CLI_ABSENT, DTENSOR_CLI_MATRICES,
      std::thread::hardware_concurrency(), all_ops().size(), cuda_lines(), nccl_lines()));
}

}  // namespace

void add_info(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Version, compiler, backends of this build");
  command->footer("Example:\n  dtensor info");
  command->callback(show);
}

}  // namespace dtensor::cli
