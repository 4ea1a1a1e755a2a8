// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <sstream>

#include "cli/commands.h"

namespace dtensor::cli {
namespace {

constexpr int kFailed = 1, kUsage = 2;

int complain(std::string_view text, int code) {
  std::string line(text);
  for (char& c : line)
    if (c == '\n') c = ' ';
  std::fprintf(stderr, "dtensor: %s\n", line.c_str());
  return code;
}

int program(int argc, char** argv) {
  CLI::App app("Sharded tensors: plan moves, draw shards, look at ops and checkpoints.", "dtensor");
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error& e) { return std::string(e.what()); });
  app.footer(
      "Examples:\n"
      "  dtensor plan --mesh dp=2,tp=4 'f32[4096, 8192]{dp: S(0), tp: P(sum)}' '{dp: S(0), tp: S(1)}'\n"
      "  dtensor shards --mesh 2x2 'f32[5, 7]{0: S(0), 1: S(1)}'\n"
      "  dtensor ops matmul --mesh tp=4 --inputs 'f32[64, 128]{tp: S(1)}' 'f32[128, 32]{tp: S(0)}'\n"
      "  dtensor ckpt verify ckpt/step100\n"
      "  dtensor measure --output here.json\n"
      "  dtensor cases tests/golden/ops --op softmax\n"
      "  dtensor verify --op matmul --mesh 2x2\n"
      "Exit code: 0 done, 1 failed, 2 the command line cannot be read.");
  add_info(app);
  add_plan(app);
  add_shards(app);
  add_ops(app);
  add_ckpt(app);
  add_measure(app);
  int code = 0;
  add_cases(app, code);
  add_verify(app, code);
  try {
    app.parse(argc, argv);
    return code;
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return 0;
  } catch (const CLI::CallForAllHelp&) {
    print(app.help("", CLI::AppFormatMode::All));
    return 0;
  } catch (const CLI::ParseError& e) { return complain(std::string(e.what()) + "; see dtensor --help", kUsage); } catch (const UsageError& e) {
    return complain(e.what(), kUsage);
  } catch (const std::exception& e) { return complain(e.what(), kFailed); }
}

}  // namespace
}  // namespace dtensor::cli

int main(int argc, char** argv) { return dtensor::cli::program(argc, argv); }
