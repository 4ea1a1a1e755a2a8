// SPDX-License-Identifier: Apache-2.0
#include "comm/store/tcp_server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error_text.h"

namespace dtensor::comm {
namespace {

// Of IPv6 and, through it, IPv4; of IPv4 alone on a machine without the former.
int bound_socket(int port, int family) {
  const int s = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s < 0) return -1;
  const int yes = 1, no = 0;
  ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  int code = 0;
  if (family == AF_INET6) {
    ::setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    sockaddr_in6 at{};
    at.sin6_family = AF_INET6;
    at.sin6_port = htons(static_cast<std::uint16_t>(port));
    code = ::bind(s, reinterpret_cast<const sockaddr*>(&at), sizeof at);
  } else {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<std::uint16_t>(port));
    code = ::bind(s, reinterpret_cast<const sockaddr*>(&at), sizeof at);
  }
  if (code == 0) code = ::listen(s, 1024);
  if (code == 0) return s;
  const int error = errno;
  ::close(s);
  errno = error;
  return -1;
}

int port_of(int socket) {
  sockaddr_storage at{};
  socklen_t length = sizeof at;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&at), &length);
  if (at.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(at).sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in&>(at).sin_port);
}

}  // namespace

void prepare_connection(int socket) {
  const int yes = 1, idle_s = 10, between_s = 5, tries = 3;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof between_s);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

TcpServer::TcpServer(int port, const std::string& who, std::string job, int number) : job_(std::move(job)), run_(std::to_string(number)) {
  listener_ = bound_socket(port, AF_INET6);
  if (listener_ < 0 && errno != EADDRINUSE && errno != EACCES) listener_ = bound_socket(port, AF_INET);
  if (listener_ < 0) base::fail<CommError>("store: {} cannot serve at port {} ({}); choose another MASTER_PORT", who, port, std::strerror(errno));
  port_ = port_of(listener_);
  if (::pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) {
    ::close(listener_);
    base::fail<CommError>("store: {} gets no pipe ({}); raise the limit of open files", who, std::strerror(errno));
  }
  thread_ = std::thread([this] { run(); });
}

TcpServer::~TcpServer() {
  const char stop = 0;
  static_cast<void>(!::write(wake_[1], &stop, 1));
  thread_.join();
  for (const Client& c : clients_) ::close(c.socket);
  ::close(listener_);
  ::close(wake_[0]);
  ::close(wake_[1]);
}

void TcpServer::run() {
  std::vector<pollfd> watched;
  for (;;) {
    watched.assign({{wake_[0], POLLIN, 0}, {listener_, POLLIN, 0}});
    for (const Client& c : clients_) watched.push_back({c.socket, static_cast<short>(c.out.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) return;
    if (watched[0].revents != 0) return;
    for (std::size_t i = watched.size(); i-- > 2;) {
      Client& c = clients_[i - 2];
      bool alive = true;
      if ((watched[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) alive = read_from(c);
      if (alive && !c.out.empty()) alive = write_to(c);
      if (!alive) drop(i - 2);
    }
    if (watched[1].revents != 0) accept_one();
  }
}

void TcpServer::accept_one() {
  const int s = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (s < 0) return;
  prepare_connection(s);
  clients_.push_back({s, false, {}, {}, {}});
}

bool TcpServer::read_from(Client& client) {
  char bytes[4096];
  for (;;) {
    const ssize_t n = ::recv(client.socket, bytes, sizeof bytes, 0);
    if (n == 0) return false;
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      return false;
    }
    client.in.append(bytes, static_cast<std::size_t>(n));
  }
  Message message;
  for (;;) {
    const Reading reading = take_message(client.in, message);
    if (reading == Reading::incomplete) return true;
    if (reading == Reading::foreign || !answer(client, message)) return false;
  }
}

bool TcpServer::write_to(Client& client) {
  const ssize_t n = ::send(client.socket, client.out.data(), client.out.size(), MSG_NOSIGNAL);
  if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
  client.out.erase(0, static_cast<std::size_t>(n));
  return true;
}

Joining TcpServer::join(const Message& message) const {
  if (message.key != job_) return Joining::other_job;
  return message.value == run_ ? Joining::joined : Joining::other_run;
}

bool TcpServer::answer(Client& client, const Message& message) {
  if (static_cast<StoreRequest>(message.kind) == StoreRequest::join) {
    const Joining joining = join(message);
    client.joined = joining == Joining::joined;
    client.out += encoded(static_cast<std::uint8_t>(joining), {}, job_);
    return true;
  }
  if (!client.joined) return false;
  bool found = true;
  std::string_view value;
  switch (static_cast<StoreRequest>(message.kind)) {
    case StoreRequest::set:
      values_[message.key] = message.value;
      break;
    case StoreRequest::set_new:
      found = values_.try_emplace(message.key, message.value).second;
      break;
    case StoreRequest::get: {
      const auto at = values_.find(message.key);
      found = at != values_.end();
      if (found) value = at->second;
      break;
    }
    case StoreRequest::set_when_lost:
      client.when_lost.emplace_back(message.key, message.value);
      break;
    case StoreRequest::leave:
      client.when_lost.clear();
      break;
    default:
      return false;
  }
  client.out += encoded(found ? 1 : 0, {}, value);
  return true;
}

void TcpServer::drop(std::size_t index) {
  for (const auto& [key, value] : clients_[index].when_lost) values_.try_emplace(key, value);
  ::close(clients_[index].socket);
  clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(index));
}

}  // namespace dtensor::comm
