// SPDX-License-Identifier: Apache-2.0
// Stores among threads and among processes of this machine.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "comm/expected.h"
#include "comm/store/store.h"
#include "dtensor/error.h"

using namespace dtensor;
using namespace dtensor::comm;
using namespace dtensor::testing;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct Folder {
  std::string path;
  Folder() {
    path = (std::filesystem::temp_directory_path() / "dtensor-store-XXXXXX").string();
    REQUIRE(mkdtemp(path.data()) != nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

std::unique_ptr<Store> joined(int port, const char* who = "rank 1 of 2") {
  return tcp_store({.host = "localhost", .port = port, .serve = false, .time_limit_s = 5, .who = who});
}
std::unique_ptr<Store> served() { return tcp_store({.host = {}, .port = 0, .serve = true, .time_limit_s = 5, .who = "rank 0 of 2"}); }

pid_t child(const std::function<int()>& program) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) _exit(program());
  return pid;
}
int code_of(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Sets, gets, sets once, with bytes of all kinds.
void check_values(Store& a, Store& b) {
  CHECK(!a.get("k"));
  a.set("k", "v");
  CHECK(b.get("k") == "v");
  b.set("k", std::string("\0\xff\n w", 5));
  CHECK(a.get("k") == std::string("\0\xff\n w", 5));
  CHECK(a.set_new("group/0.1/x y", ""));
  CHECK(!b.set_new("group/0.1/x y", "other"));
  CHECK(b.get("group/0.1/x y") == "");
  CHECK(!b.get("group/0.1/x"));
  a.set("large", std::string(200'000, 'x'));
  CHECK(b.get("large")->size() == 200'000);
}

}  // namespace

TEST_CASE("a value that is set is seen by all, one that is set new only once") {
  const Folder folder;
  const auto a = file_store(folder.path + "/made"), b = file_store(folder.path + "/made");
  check_values(*a, *b);
  const auto server = served(), client = joined(tcp_port(*server));
  check_values(*server, *client);
}

TEST_CASE("of many that set a new value one does, and all read the same") {
  const Folder folder;
  const auto server = served();
  for (const bool tcp : {false, true}) {
    std::vector<std::thread> threads;
    std::vector<std::string> read(8);
    std::atomic<int> made{0};
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&, t] {
        const auto store = tcp ? joined(tcp_port(*server)) : file_store(folder.path);
        for (int i = 0; i < 50; ++i) {
          const std::string key = "key" + std::to_string(i);
          made += store->set_new(key, std::to_string(t)) ? 1 : 0;
          read[static_cast<std::size_t>(t)] += *store->get(key);
        }
      });
    for (std::thread& t : threads) t.join();
    CHECK(made == 50);
    for (const std::string& r : read) CHECK(r == read[0]);
  }
}

TEST_CASE("a wait ends when the value comes, or with the limit") {
  const Folder folder;
  const auto a = file_store(folder.path), b = file_store(folder.path);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    b->set("late", "here");
  });
  CHECK(a->wait("late", 10) == "here");
  later.join();
  const auto begin = Clock::now();
  CHECK(!a->wait("never", 0.1));
  CHECK(seconds_since(begin) < 2);
}

TEST_CASE("processes meet in a file store and in a TCP store") {
  const Folder folder;
  const auto server = served();
  const int port = tcp_port(*server);
  std::vector<pid_t> children;
  for (int rank = 1; rank < 4; ++rank)
    children.push_back(child([&, rank] {
      const auto file = file_store(folder.path);
      const auto tcp = joined(port);
      file->set("file" + std::to_string(rank), "x");
      tcp->set("tcp" + std::to_string(rank), "y");
      const bool good = file->wait("go", 10) == "now" && tcp->wait("go", 10) == "now";
      tcp->leave();
      return good ? 0 : 1;
    }));
  const auto file = file_store(folder.path);
  for (int rank = 1; rank < 4; ++rank) {
    CHECK(file->wait("file" + std::to_string(rank), 10) == "x");
    CHECK(server->wait("tcp" + std::to_string(rank), 10) == "y");
  }
  file->set("go", "now");
  server->set("go", "now");
  for (const pid_t pid : children) CHECK(code_of(pid) == 0);
}

TEST_CASE("the last word of a process that is killed appears, that of one that leaves does not") {
  const auto server = served();
  const int port = tcp_port(*server);
  const pid_t killed = child([&]() -> int {
    const auto store = joined(port);
    store->set_when_lost("lost", "rank 1 is gone");
    store->set("ready", "1");
    for (;;) pause();
  });
  CHECK(server->wait("ready", 10) == "1");
  CHECK(!server->get("lost"));
  const auto begin = Clock::now();
  kill(killed, SIGKILL);
  CHECK(server->wait("lost", 10) == "rank 1 is gone");
  CHECK(seconds_since(begin) < 1);
  code_of(killed);
  const pid_t left = child([&] {
    const auto store = joined(port);
    store->set_when_lost("left", "rank 2 is gone");
    store->leave();
    return 0;
  });
  CHECK(code_of(left) == 0);
  CHECK(!server->wait("left", 0.1));
}

TEST_CASE("a process of another job is refused with what each says of itself, and one of a later run waits for it") {
  const auto at = [](int port, std::string job, int run, double limit = 0.5) {
    return TcpOptions{
        .host = "localhost", .port = port, .serve = port == 0, .time_limit_s = limit, .who = "rank 1 of 2", .job = std::move(job), .run = run};
  };
  auto server = tcp_store(at(0, "WORLD_SIZE=2 SLURM_JOB_ID=7", 1));
  const int port = tcp_port(*server);
  CHECK(error_of([&] { tcp_store(at(port, "WORLD_SIZE=2 SLURM_JOB_ID=8", 1)); }) ==
        "store: rank 1 of 2 has met another job at localhost:" + std::to_string(port) +
            " (there: WORLD_SIZE=2 SLURM_JOB_ID=7; here: WORLD_SIZE=2 SLURM_JOB_ID=8); give every job a MASTER_PORT of its own");
  CHECK(contains(error_of([&] { tcp_store(at(port, "WORLD_SIZE=2 SLURM_JOB_ID=7", 2)); }), "within 0.5 s (rank 0 is still in another run)"));
  tcp_store(at(port, "WORLD_SIZE=2 SLURM_JOB_ID=7", 1))->set("k", "first");
  std::thread later([&] {
    const auto store = tcp_store(at(port, "WORLD_SIZE=2 SLURM_JOB_ID=7", 2, 10));
    CHECK(!store->get("k"));  // of the run before
    CHECK(store->wait("of", 10) == "second");
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  server.reset();
  TcpOptions again = at(port, "WORLD_SIZE=2 SLURM_JOB_ID=7", 2);
  again.serve = true;
  server = tcp_store(again);
  server->set("of", "second");
  later.join();
}

TEST_CASE("both ends of a connection find out that the other machine is lost") {
  const auto option = [](int socket, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    return ::getsockopt(socket, level, name, &value, &length) == 0 ? value : -1;
  };
  const auto store = comm::tcp_store({.host = {}, .port = 0, .serve = true, .time_limit_s = 5, .who = "test"});
  store->set("a", "b");
  int ends = 0;
  for (int s = 3; s < 256; ++s) {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    if (::getpeername(s, reinterpret_cast<sockaddr*>(&peer), &length) != 0 || peer.ss_family == AF_UNIX) continue;
    ++ends;
    CHECK(option(s, SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(option(s, IPPROTO_TCP, TCP_KEEPIDLE) + option(s, IPPROTO_TCP, TCP_KEEPINTVL) * option(s, IPPROTO_TCP, TCP_KEEPCNT) <= 30);
  }
  CHECK(ends == 2);
}

TEST_CASE("a store that is gone is an error that names it, at the next call and at every later one") {
  auto server = served();
  const auto client = joined(tcp_port(*server));
  server.reset();
  for (int call = 0; call < 2; ++call)
    CHECK(contains(error_of([&] { client->get("k"); }), "store: rank 1 of 2 has lost the store of rank 0 at localhost:"));
}

TEST_CASE("a port that is taken, a host that is none and an address where nobody is are one sentence each") {
  const auto server = served();
  const int port = tcp_port(*server);
  CHECK(error_of([&] { tcp_store({.host = {}, .port = port, .serve = true, .time_limit_s = 1, .who = "rank 0 of 2"}); }) ==
        "store: rank 0 of 2 cannot serve at port " + std::to_string(port) + " (Address already in use); choose another MASTER_PORT");
  CHECK(contains(error_of([] { tcp_store({.host = "no.such.host.invalid", .port = 1, .serve = false, .time_limit_s = 0.5, .who = "rank 1 of 2"}); }),
                 "store: rank 1 of 2 cannot find the host 'no.such.host.invalid' within 0.5 s ("));
  const auto begin = Clock::now();
  CHECK(error_of([] { tcp_store({.host = "127.0.0.1", .port = 1, .serve = false, .time_limit_s = 0.2, .who = "rank 1 of 2"}); }) ==
        "store: rank 1 of 2 finds nobody at 127.0.0.1:1 within 0.2 s (Connection refused); is rank 0 running there?");
  CHECK(seconds_since(begin) < 3);
  CHECK(contains(error_of([] { file_store("/proc/none/here"); }), "store: the folder /proc/none/here cannot be made ("));
}

TEST_CASE("what is no store at the port is told apart, and strangers do not disturb a store") {
  const auto server = served();
  const int stranger = ::socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 at{};
  at.sin6_family = AF_INET6;
  at.sin6_addr = in6addr_loopback;
  at.sin6_port = htons(static_cast<std::uint16_t>(tcp_port(*server)));
  if (::connect(stranger, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0) {
    const std::string text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    CHECK(::send(stranger, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
    char byte = 0;
    CHECK(::recv(stranger, &byte, 1, 0) <= 0);  // dropped
  }
  ::close(stranger);
  server->set("k", "v");
  CHECK(server->get("k") == "v");

  const int other = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in bound{};
  bound.sin_family = AF_INET;
  bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof bound;
  REQUIRE(::bind(other, reinterpret_cast<const sockaddr*>(&bound), sizeof bound) == 0);
  REQUIRE(::listen(other, 1) == 0);
  ::getsockname(other, reinterpret_cast<sockaddr*>(&bound), &length);
  std::thread answer([other] {
    const int s = ::accept(other, nullptr, nullptr);
    const std::string text = "HTTP/1.1 400 Bad Request\r\n\r\n";
    static_cast<void>(!::send(s, text.data(), text.size(), MSG_NOSIGNAL));
    char bytes[64];
    static_cast<void>(!::recv(s, bytes, sizeof bytes, 0));
    ::close(s);
  });
  const int port = ntohs(bound.sin_port);
  CHECK(error_of([&] { tcp_store({.host = "127.0.0.1", .port = port, .serve = false, .time_limit_s = 1, .who = "rank 1 of 2"}); }) ==
        "store: rank 1 of 2 finds something else at 127.0.0.1:" + std::to_string(port) +
            " (what answers there is no store); choose another MASTER_PORT");
  answer.join();
  ::close(other);
}
