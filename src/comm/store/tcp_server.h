// SPDX-License-Identifier: Apache-2.0
// The process that keeps the values of a TCP store, in a thread of its own.
#pragma once

#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/store/wire.h"

namespace dtensor::comm {

/// Of either end: small messages go at once, and a machine that is lost without a word is known within half a minute.
void prepare_connection(int socket);

class TcpServer {
 public:
  /// @throws CommError when the port is taken.
  TcpServer(int port, const std::string& who, std::string job, int number);
  TcpServer(const TcpServer&) = delete;
  ~TcpServer();
  int port() const noexcept { return port_; }

 private:
  struct Client {
    int socket = -1;
    bool joined = false;
    std::string in, out;
    std::vector<std::pair<std::string, std::string>> when_lost;
  };
  void run();
  void accept_one();
  bool read_from(Client& client);
  bool write_to(Client& client);
  bool answer(Client& client, const Message& message);
  Joining join(const Message& message) const;
  void drop(std::size_t index);

  std::string job_, run_;
  int listener_ = -1, wake_[2] = {-1, -1}, port_ = 0;
  std::map<std::string, std::string> values_;
  std::vector<Client> clients_;
  std::thread thread_;
};

}  // namespace dtensor::comm
