// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "dtensor/cases.h"
#include "dtensor/debug.h"

namespace dtensor::cli {
namespace {

struct CasesWords {
  std::string directory, op, family, device = "cpu";
  std::vector<std::string> meshes;
  bool fail_fast = false, json = false;
  std::uint64_t seed = 0;
};

void print_json(const CasesReport& report) {
  nlohmann::ordered_json json{{"passed", report.passed}, {"failed", report.failed}, {"runs", report.runs}};
  json["families"] = nlohmann::ordered_json::array();
  for (const auto& f : report.families) json["families"].push_back({{"name", f.name}, {"passed", f.passed}, {"failed", f.failed}});
  json["failures"] = nlohmann::ordered_json::array();
  for (const CaseFailure& f : report.failures)
    json["failures"].push_back({{"id", f.id}, {"mesh", f.mesh}, {"placements", f.placements}, {"text", f.text}});
  print(json.dump(2));
}

int check(const CasesWords& words) {
  CasesOptions options;
  if (!words.meshes.empty()) options.meshes = words.meshes;
  for (const std::string& mesh : options.meshes) read_word([&] { return planning_mesh(mesh); });
  options.device = read_device(words.device);
  options.op = words.op, options.family = words.family, options.fail_fast = words.fail_fast, options.seed = words.seed;
  if (!words.json) {
    options.on_failure = [](const CaseFailure& f) {
      print(to_string(f));
      std::fflush(stdout);
    };
  }
  const CasesReport report = check_cases(words.directory, options);
  if (words.json) {
    print_json(report);
  } else {
    if (report.families.size() > 1)
      for (const auto& f : report.families) print(fmt::format("{}: {} passed, {} failed", f.name, f.passed, f.failed));
    print(fmt::format("{} passed, {} failed", report.passed, report.failed));
  }
  return report.ok() ? 0 : 1;
}

}  // namespace

void add_cases(CLI::App& app, int& code) {
  CLI::App* command = app.add_subcommand("cases", "Run a folder of recorded op cases on one rank and sharded");
  const auto words = std::make_shared<CasesWords>();
  command->add_option("directory", words->directory, "Folder with cases.json, ops.json, tensors.safetensors")->required();
  command->add_option("--mesh", words->meshes, "dp=2,tp=2, or 2x2 with axes 0 and 1; several times for several; none: 2, 3 and 2x2")
      ->expected(1)
      ->take_all();
  command->add_option("--device", words->device, "Of the tensors: cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--op", words->op, "Only cases of this op");
  command->add_option("--family", words->family, "Only cases of this family");
  command->add_option("--seed", words->seed, "Of the random placements")->capture_default_str();
  command->add_flag("--fail-fast", words->fail_fast, "Stop after the first case that fails");
  command->add_flag("--json", words->json, "For programs: passed, failed, runs, families, failures");
  command->footer(
      "A line per failure (case, mesh, placements of its tensors, what is wrong); last line: N passed, N failed. Exit code 1 on a failure.\n"
      "Examples:\n"
      "  dtensor cases tests/golden/ops\n"
      "  dtensor cases tests/golden/ops --op softmax --mesh dp=2,tp=2 --fail-fast");
  command->callback([words, &code] { code = check(*words); });
}

}  // namespace dtensor::cli
