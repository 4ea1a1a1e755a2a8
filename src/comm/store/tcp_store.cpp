// SPDX-License-Identifier: Apache-2.0
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error_text.h"
#include "comm/store/store.h"
#include "comm/store/tcp_server.h"

namespace dtensor::comm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kAnswerMs = 30'000;  // the server does nothing but answer

class Socket {
 public:
  explicit Socket(int s = -1) noexcept : s_(s) {}
  Socket(Socket&& other) noexcept : s_(std::exchange(other.s_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(s_, other.s_);
    return *this;
  }
  ~Socket() {
    if (s_ >= 0) ::close(s_);
  }
  int get() const noexcept { return s_; }
  int release() noexcept { return std::exchange(s_, -1); }

 private:
  int s_;
};

// -1 with errno.
int connected(const addrinfo& to, int limit_ms) {
  Socket s(::socket(to.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (s.get() < 0) return -1;
  if (::connect(s.get(), to.ai_addr, to.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return -1;
    pollfd watched{s.get(), POLLOUT, 0};
    if (::poll(&watched, 1, limit_ms) <= 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(s.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      errno = error;
      return -1;
    }
  }
  prepare_connection(s.get());
  return s.release();
}

constexpr const char* kForeign = "what answers there is no store";

// `lost` throws.
Message asked(int socket, StoreRequest request, std::string_view key, std::string_view value, int limit_ms,
              const std::function<void(const char*)>& lost) {
  const auto wait_for = [&](short what) {
    pollfd watched{socket, what, 0};
    if (::poll(&watched, 1, limit_ms) == 0) lost("it does not answer");
  };
  std::string out = encoded(static_cast<std::uint8_t>(request), key, value), in;
  while (!out.empty()) {
    wait_for(POLLOUT);
    const ssize_t n = ::send(socket, out.data(), out.size(), MSG_NOSIGNAL);
    if (n >= 0) out.erase(0, static_cast<std::size_t>(n));
    else if (errno != EAGAIN && errno != EINTR) lost(std::strerror(errno));
  }
  Message answer;
  for (;;) {
    const Reading reading = take_message(in, answer);
    if (reading == Reading::complete) return answer;
    if (reading == Reading::foreign) lost(kForeign);
    wait_for(POLLIN);
    char bytes[4096];
    const ssize_t n = ::recv(socket, bytes, sizeof bytes, 0);
    if (n > 0) in.append(bytes, static_cast<std::size_t>(n));
    else if (n == 0) lost("the connection is closed");
    else if (errno != EAGAIN && errno != EINTR) lost(std::strerror(errno));
  }
}

// Whether the store at the other end is the job's; false with a reason where it may be so soon.
bool joins(const TcpOptions& o, int port, int socket, std::string& reason) {
  struct Lost {
    std::string why;
  };
  Message answer;
  try {
    const int limit_ms = o.time_limit_s > 0 ? static_cast<int>(std::min<double>(kAnswerMs, o.time_limit_s * 1000)) : kAnswerMs;
    answer = asked(socket, StoreRequest::join, o.job, std::to_string(o.run), limit_ms, [](const char* why) { throw Lost{why}; });
  } catch (const Lost& lost) {
    if (lost.why == kForeign)
      base::fail<CommError>("store: {} finds something else at {}:{} ({}); choose another MASTER_PORT", o.who, o.host, port, lost.why);
    reason = lost.why;
    return false;
  }
  const auto joining = static_cast<Joining>(answer.kind);
  if (joining == Joining::other_job)
    base::fail<CommError>("store: {} has met another job at {}:{} (there: {}; here: {}); give every job a MASTER_PORT of its own", o.who, o.host,
                          port, answer.value, o.job);
  if (joining == Joining::other_run) reason = "rank 0 is still in another run";
  return joining == Joining::joined;
}

// A name may be known, and a server there, some time after this process has started.
Socket connect_to(const TcpOptions& o, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  const auto begin = Clock::now();
  for (auto pause = milliseconds(2);; pause = std::min(pause * 2, milliseconds(200))) {
    addrinfo* found = nullptr;
    std::string reason;
    const int code = ::getaddrinfo(o.host.c_str(), std::to_string(port).c_str(), &hints, &found);
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(code == 0 ? found : nullptr, [](addrinfo* a) {
      if (a != nullptr) ::freeaddrinfo(a);
    });
    for (const addrinfo* to = all.get(); to != nullptr; to = to->ai_next) {
      Socket s(connected(*to, 2000));
      if (s.get() < 0) reason = std::strerror(errno);
      else if (joins(o, port, s.get(), reason)) return s;
    }
    if (o.time_limit_s > 0 && Clock::now() - begin > std::chrono::duration<double>(o.time_limit_s)) {
      if (code != 0)
        base::fail<CommError>("store: {} cannot find the host '{}' within {} s ({}); set MASTER_ADDR to the host of rank 0", o.who, o.host,
                              o.time_limit_s, ::gai_strerror(code));
      base::fail<CommError>("store: {} finds nobody at {}:{} within {} s ({}); is rank 0 running there?", o.who, o.host, port, o.time_limit_s,
                            reason);
    }
    std::this_thread::sleep_for(pause);
  }
}

class TcpStore final : public Store {
 public:
  explicit TcpStore(const TcpOptions& o) : who_(o.who) {
    if (o.serve) server_ = std::make_unique<TcpServer>(o.port, o.who, o.job, o.run);
    TcpOptions own = o;
    if (o.serve) own.host = "localhost";
    address_ = fmt::format("{}:{}", own.host, server_ ? server_->port() : o.port);
    socket_ = connect_to(own, server_ ? server_->port() : o.port);
  }

  void set(std::string_view key, std::string_view value) override { ask(StoreRequest::set, key, value); }
  bool set_new(std::string_view key, std::string_view value) override { return ask(StoreRequest::set_new, key, value).kind != 0; }
  std::optional<std::string> get(std::string_view key) override {
    Message answer = ask(StoreRequest::get, key, {});
    if (answer.kind == 0) return std::nullopt;
    return std::move(answer.value);
  }
  void set_when_lost(std::string_view key, std::string_view value) override { ask(StoreRequest::set_when_lost, key, value); }
  void leave() noexcept override {
    try {
      ask(StoreRequest::leave, {}, {});
    } catch (const Error&) { return; }  // there is nobody to tell
  }
  bool serves() const noexcept override { return server_ != nullptr; }
  int port() const noexcept { return server_ ? server_->port() : 0; }

 private:
  Message ask(StoreRequest request, std::string_view key, std::string_view value) {
    const std::lock_guard lock(mutex_);
    if (broken_) lost("it was lost before");
    return asked(socket_.get(), request, key, value, kAnswerMs, [this](const char* why) { lost(why); });
  }
  [[noreturn]] void lost(const char* why) {
    broken_ = true;
    base::fail<CommError>("store: {} has lost the store of rank 0 at {} ({}); rank 0 has ended, or something else listens at its port", who_,
                          address_, why);
  }

  std::string who_, address_;
  std::unique_ptr<TcpServer> server_;
  std::mutex mutex_;  // of all below
  Socket socket_;
  bool broken_ = false;
};

}  // namespace

std::unique_ptr<Store> tcp_store(const TcpOptions& options) { return std::make_unique<TcpStore>(options); }
std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && *name != '\0' ? name : "localhost";
}
int tcp_port(const Store& store) { return dynamic_cast<const TcpStore&>(store).port(); }

}  // namespace dtensor::comm
