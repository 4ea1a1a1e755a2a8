// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>

#include "base/error_text.h"
#include "comm/store/store.h"

namespace dtensor::comm {
namespace {

namespace fs = std::filesystem;

class FileStore final : public Store {
 public:
  explicit FileStore(const std::string& folder) : folder_(folder) {
    std::error_code code;
    fs::create_directories(folder_, code);
    if (code || !fs::is_directory(folder_))
      base::fail<CommError>("store: the folder {} cannot be made ({}); give one that all ranks can write", folder,
                            code ? code.message() : "it is a file");
  }

  void set(std::string_view key, std::string_view value) override {
    const fs::path temporary = written(value);
    std::error_code code;
    fs::rename(temporary, path_of(key), code);
    if (code) fail(key, code.message());
  }
  bool set_new(std::string_view key, std::string_view value) override {
    const fs::path temporary = written(value), path = path_of(key);
    // A second name for a file appears only where there is none.
    const bool made = ::link(temporary.c_str(), path.c_str()) == 0;
    const int error = errno;
    ::unlink(temporary.c_str());
    if (!made && error != EEXIST) fail(key, std::strerror(error));
    return made;
  }
  std::optional<std::string> get(std::string_view key) override {
    std::ifstream in(path_of(key), std::ios::binary);
    if (!in) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  void set_when_lost(std::string_view, std::string_view) override {}
  void leave() noexcept override {}

 private:
  fs::path path_of(std::string_view key) const {
    std::string name;
    for (const char c : key) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
      if (plain) name += c;
      else name += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    }
    return folder_ / name;
  }
  fs::path written(std::string_view value) {
    static std::atomic<std::uint64_t> next{0};
    fs::path path = folder_ / fmt::format(".{}.{}.{}", ::getpid(), std::hash<std::thread::id>{}(std::this_thread::get_id()), next.fetch_add(1));
    std::ofstream out(path, std::ios::binary);
    out.write(value.data(), static_cast<std::streamsize>(value.size()));
    out.close();
    if (!out) fail(path.string(), "it cannot be written");
    return path;
  }
  [[noreturn]] void fail(std::string_view key, const std::string& why) const {
    base::fail<CommError>("store: {} in {} ({}); give a folder that all ranks can write", key, folder_.string(), why);
  }

  fs::path folder_;
};

}  // namespace

std::unique_ptr<Store> file_store(const std::string& folder) { return std::make_unique<FileStore>(folder); }

}  // namespace dtensor::comm
