// SPDX-License-Identifier: Apache-2.0
// Files that survive a crash: write, fsync, exchange.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dtensor::checkpoints {

/// Called before each step of a save that a crash may separate; tests set it to leave the process there.
extern void (*before_step)(const char* step);

/// A file open for reading or writing at positions. Errors are InvalidArgument naming the file.
class File {
 public:
  static File create(const std::string& path);
  static File open_to_write(const std::string& path);
  static File open_to_read(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();
  void write(std::int64_t position, const void* data, std::int64_t bytes) const;
  void read(std::int64_t position, void* data, std::int64_t bytes) const;
  void set_size(std::int64_t bytes) const;
  void sync() const;

 private:
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  std::string path_;
  int descriptor_;
};

void write_text(const std::string& path, std::string_view text);
void sync_directory(const std::string& path);
/// A new folder `<directory>.saving` beside it, emptied if a crash left one.
std::string make_staging(const std::string& directory);
/// Puts a staging folder in the place of the folder that it stages, in one step, and removes what was there.
void publish(const std::string& staging);
/// The folder to read: `directory`, or what an interrupted exchange left of it.
std::string resolve(const std::string& directory);

}  // namespace dtensor::checkpoints
