// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "dtensor/debug.h"
#include "dtensor/verify.h"

namespace dtensor::cli {
namespace {

struct VerifyWords {
  std::vector<std::string> ops, meshes;
  std::string device = "cpu";
  int sample = 0;
  std::uint64_t seed = 0;
  bool json = false;
};

struct Totals {
  std::int64_t checked = 0, wrong = 0, missing = 0, explained = 0;
  void add(const VerifyReport& r) { checked += r.checked, wrong += r.wrong, missing += r.missing, explained += r.explained; }
  std::string text() const { return fmt::format("{} checked, {} wrong, {} missing, {} explained", checked, wrong, missing, explained); }
};

nlohmann::ordered_json to_json(const VerifyReport& r) {
  nlohmann::ordered_json json{{"op", r.op}, {"checked", r.checked}, {"wrong", r.wrong}, {"missing", r.missing}, {"explained", r.explained}};
  if (!r.reasons.empty()) json["reasons"] = r.reasons;
  if (!r.wrong_example.empty()) json["wrong_example"] = r.wrong_example;
  if (!r.missing_example.empty()) json["missing_example"] = r.missing_example;
  if (!r.explained_example.empty()) json["explained_example"] = r.explained_example;
  return json;
}

int check(const VerifyWords& words) {
  VerifyOptions options;
  options.device = read_device(words.device);
  options.limit = words.sample, options.seed = words.seed;
  if (!words.meshes.empty()) {
    options.meshes.clear();
    for (const std::string& text : words.meshes) {
      const DeviceMesh mesh = read_word([&] { return planning_mesh(text); });
      options.meshes.emplace_back(mesh.sizes().begin(), mesh.sizes().end());
    }
  }
  std::vector<const OpDef*> ops;
  for (const std::string& name : words.ops) ops.push_back(read_word([&] { return &find_op(name); }));
  if (ops.empty()) ops = all_ops();
  Totals totals;
  nlohmann::ordered_json reports = nlohmann::ordered_json::array();
  for (const OpDef* op : ops) {
    const VerifyReport report = verify(*op, options);
    totals.add(report);
    if (words.json) {
      reports.push_back(to_json(report));
    } else {
      print(to_string(report));
      std::fflush(stdout);
    }
  }
  if (words.json) {
    nlohmann::ordered_json json{{"checked", totals.checked}, {"wrong", totals.wrong}, {"missing", totals.missing}, {"explained", totals.explained}};
    json["ops"] = std::move(reports);
    print(json.dump(2));
  } else {
    print(totals.text());
  }
  return totals.wrong == 0 && totals.missing == 0 ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, int& code) {
  CLI::App* command = app.add_subcommand("verify", "Check the sharding rules of ops against one rank: wrong and missing ones");
  const auto words = std::make_shared<VerifyWords>();
  command->add_option("--op", words->ops, "Only this op; several times for several")->expected(1)->take_all();
  command->add_option("--mesh", words->meshes, "dp=2,tp=2, or 2x2 with axes 0 and 1; several times for several; none: 2, 3 and 2x2")
      ->expected(1)
      ->take_all();
  command->add_option("--device", words->device, "Of the tensors: cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--sample", words->sample, "At most this many placements per sample and mesh; none: all")->check(CLI::PositiveNumber);
  command->add_option("--seed", words->seed, "Of values and of what --sample leaves out")->capture_default_str();
  command->add_flag("--json", words->json, "For programs: checked, wrong, missing, explained, and the same per op with examples");
  command->footer(
      "A line per op with the smallest examples below it; last line: N checked, N wrong, N missing, N explained. Exit code 1 on wrong or missing.\n"
      "Rules that miss something for a written reason are explained. Missing rules are looked for on every mesh.\n"
      "Examples:\n"
      "  dtensor verify --op matmul --mesh 2x2\n"
      "  dtensor verify --sample 8");
  command->callback([words, &code] { code = check(*words); });
}

}  // namespace dtensor::cli
