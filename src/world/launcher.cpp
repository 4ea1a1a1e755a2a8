// SPDX-License-Identifier: Apache-2.0
#include "world/launcher.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "base/environment.h"
#include "base/error_text.h"

namespace dtensor::world {
namespace {

struct Names {
  const char *size, *rank, *local_rank, *local_size;
  bool both = true;  // the rank alone means nothing
};
// An allocation without a step has no SLURM_STEP_NUM_TASKS.
constexpr Names kNames[] = {
    {"WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", false},
};
constexpr std::int64_t kMost = 1 << 24;

std::optional<Launcher> several(const Names& n) {
  const auto size = base::env_int(n.size, 1, kMost);
  const bool ranked = base::env(n.rank).has_value();
  if (ranked && !size && n.both)
    base::fail<InvalidArgument>("run: {}={} without {}; a launcher sets both, and a program of one process needs neither", n.rank, *base::env(n.rank),
                                n.size);
  if (!size || *size == 1) return std::nullopt;
  if (!ranked)
    base::fail<InvalidArgument>("run: {}={} without {}; a launcher sets both, and a program of one process needs neither", n.size, *size, n.rank);
  const std::int64_t rank = *base::env_int(n.rank, 0, kMost);
  if (rank >= *size) base::fail<InvalidArgument>("run: {}={} is no rank of {}={}; ranks are 0 to {}", n.rank, rank, n.size, *size, *size - 1);
  const auto local_rank = base::env_int(n.local_rank, 0, kMost);
  // Slurm writes "4(x2)" where machines have several.
  const std::string text = base::env(n.local_size).value_or("");
  int local_size = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), local_size).ec != std::errc{}) local_size = 0;
  return Launcher{
      n.size, n.rank, static_cast<int>(*size), static_cast<int>(rank), static_cast<int>(local_rank.value_or(rank)), std::max(local_size, 0)};
}

// torchrun's own store is at MASTER_PORT then.
bool port_is_taken() {
  const auto agent = base::env("TORCHELASTIC_USE_AGENT_STORE");
  return agent && (*agent == "True" || *agent == "true" || *agent == "1");
}

}  // namespace

std::optional<Launcher> find_launcher() {
  for (const Names& n : kNames)
    if (auto found = several(n)) return found;
  return std::nullopt;
}

std::string first_host(const std::string& list) {
  const std::size_t open = list.find('['), comma = list.find(',');
  if (open == std::string::npos || comma < open) return list.substr(0, comma);
  const std::size_t end = list.find_first_of(",-]", open);
  return list.substr(0, open) + list.substr(open + 1, end - open - 1);
}

Meeting find_meeting() {
  if (const auto store = base::env("DTENSOR_STORE")) {
    constexpr std::string_view kFile = "file:";
    if (!store->starts_with(kFile) || store->size() == kFile.size())
      base::fail<InvalidArgument>("run: DTENSOR_STORE is '{}'; write file:FOLDER, a folder that all ranks see and that is empty when the job starts",
                                  *store);
    return {store->substr(kFile.size()), {}, 0};
  }
  Meeting m;
  const auto nodes = base::env("SLURM_STEP_NODELIST");
  m.host = base::env("MASTER_ADDR").value_or(nodes ? first_host(*nodes) : "");
  if (m.host.empty())
    base::fail<InvalidArgument>(
        "run: MASTER_ADDR is missing; set it to the host of rank 0, and MASTER_PORT to a free port there, or DTENSOR_STORE=file:FOLDER");
  const auto port = base::env_int("MASTER_PORT", 1, 65535), job = base::env_int("SLURM_JOB_ID");
  if (!port && !job) base::fail<InvalidArgument>("run: MASTER_PORT is missing; set it to a free port of {}", m.host);
  const std::int64_t step = base::env_int("SLURM_STEP_ID").value_or(0);
  if (port == 65535 && port_is_taken())
    base::fail<InvalidArgument>("run: MASTER_PORT is 65535, which torchrun's own store has, and there is no next one; choose a smaller port");
  // Below those that systems give to outgoing connections.
  m.port = static_cast<int>(port ? *port + (port_is_taken() ? 1 : 0) : 20'000 + (*job * 7 + step) % 12'000);
  return m;
}

std::string job_name(const Launcher& launcher) {
  std::string name = fmt::format("{}={}", launcher.variable, launcher.size);
  for (const char* variable : {"TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE"})
    if (const auto value = base::env(variable)) name += fmt::format(" {}={}", variable, *value);
  return name;
}

std::shared_ptr<comm::Store> meet(const Meeting& meeting, const Launcher& launcher, int run, double time_limit_s) {
  if (!meeting.folder.empty()) return comm::file_store(run == 1 ? meeting.folder : fmt::format("{}/run-{}", meeting.folder, run));
  return comm::tcp_store({.host = meeting.host,
                          .port = meeting.port,
                          .serve = launcher.rank == 0,
                          .time_limit_s = time_limit_s,
                          .who = fmt::format("rank {} of {}", launcher.rank, launcher.size),
                          .job = job_name(launcher),
                          .run = run});
}

}  // namespace dtensor::world
