// SPDX-License-Identifier: Apache-2.0
// What the variables of launchers say.
#include <doctest/doctest.h>

#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "comm/expected.h"
#include "dtensor/error.h"
#include "world/launcher.h"

using namespace dtensor;
using namespace dtensor::world;
using namespace dtensor::testing;

namespace {

class Environment {
 public:
  Environment(std::initializer_list<std::pair<const char*, const char*>> variables) {
    for (const auto& [name, value] : variables) {
      setenv(name, value, 1);
      names_.emplace_back(name);
    }
  }
  ~Environment() {
    for (const std::string& name : names_) unsetenv(name.c_str());
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace

TEST_CASE("each launcher's variables give rank, size and number on the machine") {
  CHECK(!find_launcher());
  {
    const Environment e{{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "4"}};
    const auto l = find_launcher();
    REQUIRE(l);
    CHECK((l->rank == 5 && l->size == 8 && l->local_rank == 1 && l->local_size == 4));
    CHECK(l->variable == "WORLD_SIZE");
  }
  {
    const Environment e{{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}};
    const auto l = find_launcher();
    REQUIRE(l);
    CHECK((l->rank == 1 && l->size == 2 && l->local_rank == 0 && l->local_size == 0));
  }
  {
    const Environment e{{"SLURM_PROCID", "3"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_LOCALID", "1"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"}};
    const auto l = find_launcher();
    REQUIRE(l);
    CHECK((l->rank == 3 && l->size == 4 && l->local_rank == 1 && l->local_size == 2));
  }
  {
    const Environment e{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}};  // an allocation, not a step
    CHECK(!find_launcher());
  }
  const Environment e{{"RANK", "0"}, {"WORLD_SIZE", "1"}};
  CHECK(!find_launcher());
}

TEST_CASE("a rank that is none is refused by the names of its variables") {
  const Environment size{{"WORLD_SIZE", "4"}};
  {
    const Environment e{{"RANK", "4"}};
    CHECK_THROWS_WITH_AS(find_launcher(), "run: RANK=4 is no rank of WORLD_SIZE=4; ranks are 0 to 3", InvalidArgument);
  }
  const Environment e{{"RANK", "first"}};
  CHECK(contains(error_of([] { find_launcher(); }), "RANK"));
}

TEST_CASE("half of a launcher's variables is an error that names the other half") {
  {
    const Environment e{{"WORLD_SIZE", "4"}};
    CHECK_THROWS_WITH_AS(find_launcher(), "run: WORLD_SIZE=4 without RANK; a launcher sets both, and a program of one process needs neither",
                         InvalidArgument);
  }
  {
    const Environment e{{"RANK", "1"}};
    CHECK_THROWS_WITH_AS(find_launcher(), "run: RANK=1 without WORLD_SIZE; a launcher sets both, and a program of one process needs neither",
                         InvalidArgument);
  }
  const Environment e{{"WORLD_SIZE", "1"}};  // of a container that starts one process
  CHECK(!find_launcher());
}

TEST_CASE("a job is known by its size and its launcher's number") {
  const Environment e{{"RANK", "1"}, {"WORLD_SIZE", "4"}};
  CHECK(job_name(*find_launcher()) == "WORLD_SIZE=4");
  const Environment run{{"TORCHELASTIC_RUN_ID", "a7"}};
  CHECK(job_name(*find_launcher()) == "WORLD_SIZE=4 TORCHELASTIC_RUN_ID=a7");
}

TEST_CASE("the meeting place is a folder, or an address and a port that Slurm may say") {
  CHECK(
      contains(error_of([] { find_meeting(); }), "run: MASTER_ADDR is missing; set it to the host of rank 0, and MASTER_PORT to a free port there"));
  {
    const Environment e{{"DTENSOR_STORE", "file:/shared/job 7"}};
    CHECK(find_meeting().folder == "/shared/job 7");
  }
  {
    const Environment e{{"DTENSOR_STORE", "file:"}};
    CHECK(contains(error_of([] { find_meeting(); }), "run: DTENSOR_STORE is 'file:'; write file:FOLDER"));
  }
  {
    const Environment e{{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}};
    CHECK((find_meeting().host == "node1" && find_meeting().port == 29500));
    const Environment agent{{"TORCHELASTIC_USE_AGENT_STORE", "True"}};
    CHECK(find_meeting().port == 29501);
    const Environment last{{"MASTER_PORT", "65535"}};
    CHECK(contains(error_of([] { find_meeting(); }), "run: MASTER_PORT is 65535, which torchrun's own store has"));
  }
  {
    const Environment e{{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "0"}};
    CHECK(contains(error_of([] { find_meeting(); }), "MASTER_PORT"));
  }
  {
    const Environment e{{"MASTER_ADDR", "node1"}};
    CHECK_THROWS_WITH_AS(find_meeting(), "run: MASTER_PORT is missing; set it to a free port of node1", InvalidArgument);
  }
  const Environment e{{"SLURM_STEP_NODELIST", "gpu[03-07,9],login"}, {"SLURM_JOB_ID", "4714"}};
  CHECK(find_meeting().host == "gpu03");
  CHECK((find_meeting().port >= 20000 && find_meeting().port < 32000));
}

TEST_CASE("the first host of Slurm's lists") {
  CHECK(first_host("a") == "a");
  CHECK(first_host("a,b[1-2]") == "a");
  CHECK(first_host("node[12]") == "node12");
  CHECK(first_host("node[12,14-20],x") == "node12");
}
