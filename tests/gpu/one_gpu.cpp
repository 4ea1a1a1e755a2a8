// SPDX-License-Identifier: Apache-2.0
#include "gpu/one_gpu.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <thread>

namespace dtensor::testing {
namespace {

using Environment = std::map<std::string, std::string>;

Environment environment() {
  Environment all;
  for (char** v = environ; *v != nullptr; ++v) {
    const std::string text = *v;
    const std::size_t end = text.find('=');
    if (end != std::string::npos) all[text.substr(0, end)] = text.substr(end + 1);
  }
  return all;
}

Environment of_rank(int rank, int ranks, const std::string& store) {
  Environment e = environment();
  const std::string devices = e.contains("CUDA_VISIBLE_DEVICES") ? e["CUDA_VISIBLE_DEVICES"] : "0";
  e["CUDA_VISIBLE_DEVICES"] = devices.substr(0, devices.find(','));
  e["RANK"] = std::to_string(rank);
  e["WORLD_SIZE"] = std::to_string(ranks);
  e["LOCAL_RANK"] = "0";
  e["LOCAL_WORLD_SIZE"] = std::to_string(ranks);
  e["DTENSOR_STORE"] = "file:" + store;
  e["NCCL_HOSTID"] = "rank" + std::to_string(rank);
  for (const auto& [name, value] : Environment{{"NCCL_NET", "Socket"},
                                               {"NCCL_IB_DISABLE", "1"},
                                               {"NCCL_SOCKET_IFNAME", "lo"},
                                               {"NCCL_SOCKET_FAMILY", "AF_INET"},
                                               {"NCCL_P2P_DISABLE", "1"},
                                               {"NCCL_SHM_DISABLE", "1"},
                                               {"NCCL_NVLS_ENABLE", "0"},
                                               {"NCCL_MNNVL_ENABLE", "0"},
                                               {"NCCL_RAS_ENABLE", "0"},
                                               {"NCCL_CUMEM_HOST_ENABLE", "0"},
                                               {"NCCL_DEBUG", "WARN"},
                                               {"CUDA_MODULE_LOADING", "EAGER"},
                                               {"CUDA_DEVICE_MAX_CONNECTIONS", "32"}})
    e[name] = value;
  return e;
}

// -1: the system starts none.
pid_t start(const std::string& test_case, const Environment& environment, const std::string& output) {
  std::vector<std::string> texts{"rank", "--no-skip=true", "--test-case=" + test_case};
  std::vector<char*> arguments, variables;
  for (std::string& t : texts) arguments.push_back(t.data());
  arguments.push_back(nullptr);
  std::vector<std::string> pairs;
  for (const auto& [name, value] : environment) pairs.push_back(name + "=" + value);
  for (std::string& p : pairs) variables.push_back(p.data());
  variables.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  if (posix_spawn(&pid, "/proc/self/exe", &files, nullptr, arguments.data(), variables.data()) != 0) pid = -1;
  posix_spawn_file_actions_destroy(&files);
  return pid;
}

// The code of a process that has ended by itself before `end`, else -1.
int code_of(pid_t pid, std::chrono::steady_clock::time_point end) {
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

std::string Processes::refusal() const {
  for (const char* sign : {"Duplicate GPU", "cannot be loaded", "older than"})
    for (const std::string& text : texts)
      if (const std::size_t at = text.find(sign); at != std::string::npos) {
        const std::size_t begin = text.rfind('\n', at) + 1;
        return text.substr(begin, text.find('\n', at) - begin);
      }
  return "";
}

Processes run_processes(int ranks, const std::string& test_case, double time_limit_s) {
  std::string folder = (std::filesystem::temp_directory_path() / "dtensor-processes-XXXXXX").string();
  Processes all;
  if (mkdtemp(folder.data()) == nullptr) return all;
  std::filesystem::create_directory(folder + "/store");
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(time_limit_s));
  std::vector<pid_t> pids;
  for (int rank = 0; rank < ranks; ++rank)
    pids.push_back(start(test_case, of_rank(rank, ranks, folder + "/store"), folder + "/out" + std::to_string(rank)));
  for (const pid_t pid : pids) all.codes.push_back(pid < 0 ? -1 : code_of(pid, end));
  for (int rank = 0; rank < ranks; ++rank) {
    std::ifstream file(folder + "/out" + std::to_string(rank));
    all.texts.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::filesystem::remove_all(folder);
  return all;
}

}  // namespace dtensor::testing
