// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <set>

#include <fmt/format.h>

#include "cli/commands.h"
#include "dtensor/checkpoint.h"

namespace dtensor::cli {
namespace {

void list(const std::string& path) {
  const std::vector<StoredTensor> tensors = list_checkpoint(path);
  std::size_t width = 0;
  std::int64_t bytes = 0;
  for (const StoredTensor& t : tensors) width = std::max(width, t.name.size());
  for (const StoredTensor& t : tensors) {
    const std::string type = fmt::format("{}{}", to_string(t.dtype), to_string(t.shape));
    print(fmt::format("{:<{}}  {:<20}  {:>10}  {}", t.name, width, type, bytes_text(t.end - t.begin), t.file.substr(t.file.rfind('/') + 1)));
    bytes += t.end - t.begin;
  }
  print(fmt::format("{} tensors, {}", tensors.size(), bytes_text(bytes)));
}

void verify(const std::string& path) {
  const std::vector<StoredTensor> tensors = list_checkpoint(path);
  std::set<std::string> files;
  std::int64_t bytes = 0;
  for (const StoredTensor& t : tensors) {
    bytes += read_tensor(t).bytes();
    files.insert(t.file);
  }
  print(fmt::format("ok: {} tensors, {} in {} {}", tensors.size(), bytes_text(bytes), files.size(), files.size() == 1 ? "file" : "files"));
}

}  // namespace

void add_ckpt(CLI::App& app) {
  CLI::App* command = app.add_subcommand("ckpt", "Look at checkpoints: safetensors files and folders of them");
  command->require_subcommand(1);
  command->footer(
      "Examples:\n"
      "  dtensor ckpt list ckpt/step100\n"
      "  dtensor ckpt verify model.safetensors\n"
      "  dtensor ckpt reshard ckpt/step100 exported --max-bytes 1GiB");
  const auto path = std::make_shared<std::string>(), to = std::make_shared<std::string>();
  const auto max_bytes = std::make_shared<std::uint64_t>(std::uint64_t{5} << 30);

  CLI::App* listing = command->add_subcommand("list", "Names, shapes and files of the tensors");
  listing->add_option("path", *path, "Folder or .safetensors file")->required();
  listing->footer("Example:\n  dtensor ckpt list ckpt/step100");
  listing->callback([path] { list(*path); });

  CLI::App* verifying = command->add_subcommand("verify", "Check headers, names, offsets and sizes, and read every byte");
  verifying->add_option("path", *path, "Folder or .safetensors file")->required();
  verifying->footer("Example:\n  dtensor ckpt verify model.safetensors");
  verifying->callback([path] { verify(*path); });

  CLI::App* resharding = command->add_subcommand("reshard", "Copy with files of another size");
  resharding->add_option("from", *path, "Folder or .safetensors file")->required();
  resharding->add_option("to", *to, "Folder that is made")->required();
  resharding->add_option("--max-bytes", *max_bytes, "Most data per file, e.g. 500MiB")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::PositiveNumber)
      ->default_str("5GiB");
  resharding->footer("Example:\n  dtensor ckpt reshard ckpt/step100 exported --max-bytes 1GiB");
  resharding->callback([path, to, max_bytes] {
    reshard_checkpoint(*path, *to, static_cast<std::int64_t>(*max_bytes));
    verify(*to);
  });
}

}  // namespace dtensor::cli
