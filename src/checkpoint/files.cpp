// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error_text.h"

namespace dtensor::checkpoints {

namespace fs = std::filesystem;

void (*before_step)(const char*) = nullptr;

namespace {

void step(const char* name) {
  if (before_step != nullptr) before_step(name);
}

[[noreturn]] void failed(std::string_view what, const std::string& path) {
  base::fail<InvalidArgument>("checkpoint: cannot {} {} ({}); check path, permissions and space", what, path, std::strerror(errno));
}

int open_or_fail(const std::string& path, int flags, std::string_view what) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (fd < 0) failed(what, path);
  return fd;
}

}  // namespace

File File::create(const std::string& path) { return {path, open_or_fail(path, O_WRONLY | O_CREAT | O_TRUNC, "create")}; }
File File::open_to_write(const std::string& path) { return {path, open_or_fail(path, O_WRONLY, "write")}; }
File File::open_to_read(const std::string& path) { return {path, open_or_fail(path, O_RDONLY, "read")}; }
File::File(File&& other) noexcept : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}
File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void File::write(std::int64_t position, const void* data, std::int64_t bytes) const {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(descriptor_, at, static_cast<std::size_t>(bytes), position);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) failed("write", path_);
    at += n, position += n, bytes -= n;
  }
}

void File::read(std::int64_t position, void* data, std::int64_t bytes) const {
  auto* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pread(descriptor_, at, static_cast<std::size_t>(bytes), position);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) failed("read", path_);
    at += n, position += n, bytes -= n;
  }
}

void File::set_size(std::int64_t bytes) const {
  if (::ftruncate(descriptor_, bytes) != 0) failed("size", path_);
}

void File::sync() const {
  if (::fsync(descriptor_) != 0) failed("sync", path_);
}

void write_text(const std::string& path, std::string_view text) {
  step("write_text");
  const File file = File::create(path);
  file.write(0, text.data(), static_cast<std::int64_t>(text.size()));
  file.sync();
}

void sync_directory(const std::string& path) {
  step("sync_directory");
  const int fd = open_or_fail(path.empty() ? "." : path, O_RDONLY | O_DIRECTORY, "open");
  ::fsync(fd);
  ::close(fd);
}

std::string make_staging(const std::string& directory) {
  step("make_staging");
  const fs::path target = fs::path(directory).lexically_normal();
  std::string clean = target.string();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  std::error_code error;
  const fs::path parent = fs::path(clean).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  std::string staging = clean + ".saving";
  fs::remove_all(staging, error);
  if (!fs::create_directory(staging, error))
    base::fail<InvalidArgument>("checkpoint: cannot create {} ({}); check path, permissions and space", staging, error.message());
  return staging;
}

void publish(const std::string& staging) {
  const std::string target = staging.substr(0, staging.size() - std::string_view(".saving").size());
  const std::string parent = fs::path(target).parent_path().string();
  sync_directory(staging);
  step("exchange");
  if (!fs::exists(target)) {
    if (std::rename(staging.c_str(), target.c_str()) != 0) failed("rename", staging);
    sync_directory(parent);
    return;
  }
  // One system call exchanges both names; where the file system has none, the old folder stays readable under another name until the new one is in place.
  if (::renameat2(AT_FDCWD, staging.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    sync_directory(parent);
    step("remove_old");
    std::error_code error;
    fs::remove_all(staging, error);
    return;
  }
  const std::string old = target + ".old";
  std::error_code error;
  fs::remove_all(old, error);
  if (std::rename(target.c_str(), old.c_str()) != 0) failed("rename", target);
  step("between");
  if (std::rename(staging.c_str(), target.c_str()) != 0) failed("rename", staging);
  sync_directory(parent);
  fs::remove_all(old, error);
}

std::string resolve(const std::string& directory) {
  std::string clean = fs::path(directory).lexically_normal().string();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  if (!fs::exists(clean) && fs::exists(clean + ".old")) return clean + ".old";
  return clean;
}

}  // namespace dtensor::checkpoints
