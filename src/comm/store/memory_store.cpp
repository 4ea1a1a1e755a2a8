// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <mutex>

#include "comm/store/store.h"

namespace dtensor::comm {
namespace {

class MemoryStore final : public Store {
 public:
  void set(std::string_view key, std::string_view value) override {
    const std::lock_guard lock(mutex_);
    values_.insert_or_assign(std::string(key), std::string(value));
  }
  bool set_new(std::string_view key, std::string_view value) override {
    const std::lock_guard lock(mutex_);
    return values_.try_emplace(std::string(key), value).second;
  }
  std::optional<std::string> get(std::string_view key) override {
    const std::lock_guard lock(mutex_);
    const auto at = values_.find(std::string(key));
    return at == values_.end() ? std::nullopt : std::optional(at->second);
  }
  void set_when_lost(std::string_view, std::string_view) override {}
  void leave() noexcept override {}

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> values_;
};

}  // namespace

std::unique_ptr<Store> memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace dtensor::comm
