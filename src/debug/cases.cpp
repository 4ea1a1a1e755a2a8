// SPDX-License-Identifier: Apache-2.0
#include "dtensor/cases.h"

#include <algorithm>

#include "base/error_text.h"
#include "base/rank.h"
#include "debug/case_run.h"
#include "dtensor/debug.h"

namespace dtensor {
namespace debug {
namespace {

struct NamedMesh {
  std::string text;
  std::vector<int> sizes;
  std::vector<std::string> names;
};

NamedMesh read_mesh(const std::string& text) {
  const DeviceMesh mesh = planning_mesh(text);
  return {text, {mesh.sizes().begin(), mesh.sizes().end()}, {mesh.names().begin(), mesh.names().end()}};
}

std::string placements_text(const Case& placements, const NamedMesh& mesh) {
  std::vector<std::string> texts;
  for (const auto& list : placements) {
    std::string text;
    for (std::size_t a = 0; a < list.size(); ++a) text += fmt::format("{}{}: {}", a == 0 ? "" : ", ", mesh.names[a], dtensor::to_string(list[a]));
    texts.push_back(list.empty() ? "none" : "{" + text + "}");
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

class CasesRun {
 public:
  explicit CasesRun(const CasesOptions& options) : options_(options) {
    for (const std::string& text : options.meshes) meshes_.push_back(read_mesh(text));
  }

  CasesReport run(std::vector<RecordedCase> cases) {
    for (RecordedCase& c : cases) {
      if (!options_.op.empty() && c.op != options_.op) continue;
      if (!options_.family.empty() && c.family != options_.family) continue;
      const std::size_t before = report_.failures.size();
      run(c);
      const bool passed = report_.failures.size() == before;
      auto it = std::find_if(report_.families.begin(), report_.families.end(), [&](const auto& f) { return f.name == c.family; });
      if (it == report_.families.end()) it = report_.families.insert(it, {c.family, 0, 0});
      ++(passed ? report_.passed : report_.failed);
      ++(passed ? it->passed : it->failed);
      if (!passed && options_.fail_fast) break;
    }
    return std::move(report_);
  }

 private:
  void run(RecordedCase& c) {
    if (!c.fault.empty()) return fail(c, {}, {}, c.fault);
    CaseCall call;
    try {
      call = find_call(c);
    } catch (const Error& e) { return fail(c, {}, {}, e.what()); }
    const NamedMesh one{"1", {1}, {"0"}};
    if (!run(c, call, one, {Case(c.tensors().size(), std::vector<Placement>{Replicate()})})) return;
    for (const NamedMesh& mesh : meshes_) run(c, call, mesh, placements_of(c, mesh.sizes, options_.seed));
  }

  bool run(const RecordedCase& c, const CaseCall& call, const NamedMesh& mesh, const std::vector<Case>& placements) {
    const Records records = run_all({mesh.sizes, options_.device}, placements.size(),
                                    [&](const DeviceMesh& m, std::size_t i) { return run_recorded(c, call, m, placements[i]); });
    report_.runs += static_cast<std::int64_t>(placements.size());
    for (std::size_t i = 0; i < placements.size(); ++i) {
      const std::string fault = judge(c, records, i);
      if (fault.empty()) continue;
      fail(c, mesh.text, mesh.sizes == std::vector<int>{1} ? "" : placements_text(placements[i], mesh), fault);
      return false;
    }
    return true;
  }

  void fail(const RecordedCase& c, const std::string& mesh, const std::string& placements, std::string text) {
    for (char& ch : text)
      if (ch == '\n') ch = ' ';
    report_.failures.push_back({c.id, mesh, placements, text});
    if (options_.on_failure) options_.on_failure(report_.failures.back());
  }

  const CasesOptions& options_;
  std::vector<NamedMesh> meshes_;
  CasesReport report_;
};

}  // namespace
}  // namespace debug

CasesReport check_cases(const std::string& directory, const CasesOptions& options) {
  debug::check_start("cases", options.device);
  debug::CasesRun run(options);
  CasesReport report = run.run(debug::read_cases(directory));
  if (report.passed + report.failed == 0)
    base::fail<InvalidArgument>("cases: \"{}\" has no case of {}; look into cases.json", directory,
                                !options.op.empty() ? "op '" + options.op + "'" : "family '" + options.family + "'");
  return report;
}

std::string to_string(const CaseFailure& f) {
  std::string where = f.mesh.empty() ? "" : " on " + f.mesh;
  if (!f.placements.empty()) where += " " + f.placements;
  return f.id + where + ": " + f.text;
}

std::string to_string(const CasesReport& r) {
  std::string text;
  for (const CaseFailure& f : r.failures) text += to_string(f) + "\n";
  return text + fmt::format("{} passed, {} failed", r.passed, r.failed);
}

}  // namespace dtensor
