// SPDX-License-Identifier: Apache-2.0
#include "train/options.h"

#include <charconv>
#include <sstream>

#include <dtensor/error.h>
#include <CLI/CLI.hpp>

namespace train {
namespace {

void add_options(CLI::App& app, Options& o) {
  const auto positive = CLI::PositiveNumber;
  app.add_option("--mesh", o.mesh, "Axes and sizes: dp=2,tp=2 or 2x2; dp shards data and parameters, tp the layers (default: all ranks on dp)");
  app.add_option("--layers", o.model.layers, "Blocks")->check(positive)->capture_default_str();
  app.add_option("--hidden", o.model.hidden, "Width")->check(positive)->capture_default_str();
  app.add_option("--heads", o.model.heads, "Query heads")->check(positive)->capture_default_str();
  app.add_option("--kv-heads", o.model.kv_heads, "Key and value heads; divides --heads")->check(positive)->capture_default_str();
  app.add_option("--ffn", o.model.intermediate, "Width of the feed-forward part")->check(positive)->capture_default_str();
  app.add_option("--seq", o.sequence, "Tokens (bytes) per sequence")->check(positive)->capture_default_str();
  app.add_option("--batch", o.batch, "Sequences per step, over all ranks")->check(positive)->capture_default_str();
  app.add_option("--lr", o.lr, "Highest learning rate")->check(positive)->capture_default_str();
  app.add_option("--warmup", o.warmup, "Steps of linear warm-up; a cosine down to a tenth follows")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--steps", o.steps, "Steps in all; a resumed run goes on up to here")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--data", o.data, "A file of text or a folder (default: the source text of this repository)");
  app.add_option("--precision", o.precision, "f32, or bf16 for computation with f32 parameters and gradient sums")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_flag("--sequence-parallel", o.sequence_parallel, "Split norms and residuals along the sequence over tp");
  app.add_option("--save", o.save, "Folder for checkpoints; written at the end, on Ctrl-C and SIGTERM");
  app.add_option("--save-every", o.save_every, "Also save every so many steps")->check(CLI::NonNegativeNumber);
  app.add_option("--resume", o.resume, "Checkpoint to go on from, saved on any mesh; it brings the model's sizes, --seq, --batch and --seed");
  app.add_flag("--eval-only", o.eval_only, "No training: validation loss (and --sample) only");
  app.add_option("--sample", o.sample, "Write so many bytes of text at the end")->check(CLI::NonNegativeNumber);
  app.add_option("--prompt", o.prompt, "What the sample continues")->capture_default_str();
  app.add_option("--temperature", o.temperature, "Of the sample; 0: always the most likely byte")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", o.seed, "Of parameters, batches and sample")->capture_default_str();
  app.add_option("--svg", o.svg, "Loss curve (with --save also FOLDER.svg)");
}

std::string complaint(const Options& o) {
  if (o.model.hidden % o.model.heads != 0) return "--hidden must be a multiple of --heads";
  if (o.model.heads % o.model.kv_heads != 0) return "--heads must be a multiple of --kv-heads";
  if ((o.model.hidden / o.model.heads) % 2 != 0) return "--hidden / --heads must be even";
  if (o.prompt.empty()) return "--prompt is empty";
  if (o.eval_only && o.resume.empty()) return "--eval-only needs --resume FOLDER";
  try {
    parse_mesh(o.mesh, 1);
  } catch (const dtensor::InvalidArgument& e) { return e.what(); }
  return {};
}

}  // namespace

Parsed parse(std::span<const std::string> arguments) {
  Parsed parsed;
  CLI::App app("Trains a byte-level Llama on any mesh: tensor parallel over tp, fully sharded over dp.", "train_llama");
  app.footer(
      "Examples:\n"
      "  train_llama --ranks 4 --mesh dp=2,tp=2 --steps 300 --save ckpt --svg loss.svg\n"
      "  train_llama --ranks 2 --mesh tp=2 --resume ckpt --eval-only --sample 300\n"
      "  train_llama --ranks 4 --mesh dp=4 --resume ckpt --steps 600 --save ckpt\n"
      "--ranks N starts N ranks as threads of this process.");
  add_options(app, parsed.options);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
    const std::string wrong = complaint(parsed.options);
    if (!wrong.empty()) throw CLI::ValidationError(wrong);
    parsed.options.model.head_dim = parsed.options.model.hidden / parsed.options.model.heads;
  } catch (const CLI::ParseError& e) {
    std::ostringstream out, err;
    parsed.code = app.exit(e, out, err) == 0 ? 0 : 2;
    parsed.stop = true;
    parsed.text = parsed.code == 0 ? out.str() : std::string("train_llama: ") + e.what() + "; see --help";
  }
  return parsed;
}

std::vector<Axis> parse_mesh(const std::string& text, int ranks) {
  std::vector<Axis> axes;
  if (text.empty()) return {{"dp", ranks}};
  const bool named = text.find('=') != std::string::npos;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, named ? ',' : 'x');) {
    const std::size_t equal = part.find('=');
    const std::string name = named ? part.substr(0, std::min(equal, part.size())) : axes.empty() ? "dp" : "tp";
    const std::string size = named && equal != std::string::npos ? part.substr(equal + 1) : part;
    int value = 0;
    const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), value);
    if (error != std::errc() || end != size.data() + size.size() || (name != "dp" && name != "tp") || axes.size() == 2)
      throw dtensor::InvalidArgument("--mesh: cannot read '" + text + "'; write dp=2,tp=2, tp=4 or 2x2");
    axes.push_back({name, value});
  }
  return axes;
}

}  // namespace train
