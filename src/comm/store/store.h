// SPDX-License-Identifier: Apache-2.0
// Store: keys and values that the processes of one job share, for the little that they must know of each other before they can communicate.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace dtensor::comm {

/// Used by any thread. Values are bytes.
/// @throws CommError from all functions when the store cannot be reached any more.
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(std::string_view key, std::string_view value) = 0;
  /// False, and nothing changes, when the key has a value.
  virtual bool set_new(std::string_view key, std::string_view value) = 0;
  /// The value, none when there is none yet. Waits for nobody.
  virtual std::optional<std::string> get(std::string_view key) = 0;
  /// set_new(key, value) is done by the store when this process is gone without a word. Stores that cannot see that do nothing.
  virtual void set_when_lost(std::string_view key, std::string_view value) = 0;
  /// Nothing is set any more for this process.
  virtual void leave() noexcept = 0;
  /// The store ends with this process: it must be the last.
  virtual bool serves() const noexcept { return false; }

  /// The value, none when it has not come within the limit (seconds; 0: no limit).
  std::optional<std::string> wait(std::string_view key, double limit_s);
};

/// Files in a folder that all processes see and that is empty when the job starts; a value appears at once or not at all. The folder is made if needed.
/// @throws CommError for a folder that cannot be made.
std::unique_ptr<Store> file_store(const std::string& folder);

/// Of threads of one process.
std::unique_ptr<Store> memory_store();

struct TcpOptions {
  std::string host;
  int port = 0;
  bool serve = false;       ///< this process is the server too; the port is then bound on all addresses
  double time_limit_s = 0;  ///< of the connection; 0: none
  std::string who;          ///< "rank 2 of 4", for errors
  std::string job = {};     ///< the same on all processes of a job; one that says another is refused
  int run = 1;              ///< of the job's worlds, which follow each other: one that is ahead waits for the others
};
/// Port 0 of the one that serves: any that is free.
/// @throws CommError: port taken; within the limit host unknown, nobody at the address, or none but an earlier run; another job at the address.
std::unique_ptr<Store> tcp_store(const TcpOptions& options);
/// Of a store that serves.
int tcp_port(const Store& store);
/// Under which other machines know this one.
std::string host_name();

}  // namespace dtensor::comm
