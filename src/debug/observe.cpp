// SPDX-License-Identifier: Apache-2.0
// Observers of steps: the counter, the trace and the policies on implicit communication.
#include <algorithm>

#include "base/error_text.h"
#include "dtensor/debug.h"
#include "tensor/state.h"

namespace dtensor {
namespace debug {

class Observer final : public tensor::StepObserver {
 public:
  explicit Observer(bool trace) : trace_(trace) { tensor::call_state().observers.push_back(this); }
  ~Observer() override {
    if (base::current_rank() == nullptr) return;
    auto& list = tensor::call_state().observers;
    list.erase(std::remove(list.begin(), list.end(), this), list.end());
  }
  Observer(const Observer&) = delete;

  void on_step(const tensor::StepEvent& e) override {
    if (e.moves.empty()) {
      if (trace_) lines.push_back(fmt::format("{}: {}", e.op.name, tensor::to_string(e.kind)));
      return;
    }
    const redistribute::PreparedMove& first = *e.moves[0];
    const auto kind = redistribute::to_string(first.move.kind);
    std::int64_t bytes = 0;
    for (const redistribute::PreparedMove* m : e.moves) bytes += m->bytes_received;
    if (trace_) {
      const std::string what = e.moves.size() == 1 ? first.detail : fmt::format("of {} tensors", e.moves.size());
      lines.push_back(fmt::format("{}: {} {}{}, {} bytes received", e.op.name, kind, what, e.implicit ? " (implicit)" : "", bytes));
      return;
    }
    if (!first.communicates()) return;
    auto it = std::find_if(counts.begin(), counts.end(), [&](const CommCount& c) { return c.kind == kind; });
    if (it == counts.end()) it = counts.insert(counts.end(), CommCount{std::string(kind), 0, 0, 0});
    ++it->launches;
    it->bytes_received += bytes;
    if (e.implicit) ++it->implicit;
  }

  std::vector<CommCount> counts;
  std::vector<std::string> lines;

 private:
  bool trace_;
};

namespace {

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  if (bytes < 1024 * 1024) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1024 * 1024));
}

int exchange_policy(tensor::ImplicitPolicy policy) {
  auto& state = tensor::call_state();
  const int was = static_cast<int>(state.implicit);
  state.implicit = policy;
  return was;
}

}  // namespace
}  // namespace debug

CommCounter::CommCounter() : observer_(std::make_unique<debug::Observer>(false)) {}
CommCounter::~CommCounter() = default;
const std::vector<CommCount>& CommCounter::counts() const { return observer_->counts; }
void CommCounter::reset() { observer_->counts.clear(); }

std::int64_t CommCounter::launches() const {
  std::int64_t n = 0;
  for (const CommCount& c : counts()) n += c.launches;
  return n;
}
std::int64_t CommCounter::launches(std::string_view kind) const {
  for (const CommCount& c : counts())
    if (c.kind == kind) return c.launches;
  return 0;
}
std::int64_t CommCounter::implicit_launches() const {
  std::int64_t n = 0;
  for (const CommCount& c : counts()) n += c.implicit;
  return n;
}
std::int64_t CommCounter::bytes_received() const {
  std::int64_t n = 0;
  for (const CommCount& c : counts()) n += c.bytes_received;
  return n;
}

std::string to_string(const CommCounter& counter) {
  std::string text;
  for (const CommCount& c : counter.counts())
    text += fmt::format("{}{} {} ({})", text.empty() ? "" : ", ", c.kind, c.launches, debug::bytes_text(c.bytes_received));
  return text.empty() ? "no communication" : text;
}

Trace::Trace() : observer_(std::make_unique<debug::Observer>(true)) {}
Trace::~Trace() = default;
const std::vector<std::string>& Trace::lines() const { return observer_->lines; }
std::string to_string(const Trace& trace) { return fmt::format("{}", fmt::join(trace.lines(), "\n")); }

RefuseImplicit::RefuseImplicit() : was_(debug::exchange_policy(tensor::ImplicitPolicy::refuse)) {}
RefuseImplicit::~RefuseImplicit() { debug::exchange_policy(static_cast<tensor::ImplicitPolicy>(was_)); }
WarnImplicit::WarnImplicit() : was_(debug::exchange_policy(tensor::ImplicitPolicy::warn)) {}
WarnImplicit::~WarnImplicit() { debug::exchange_policy(static_cast<tensor::ImplicitPolicy>(was_)); }

PlanCacheStats plan_cache_stats() {
  const auto& cache = tensor::call_state().plans;
  return {cache.hits, cache.misses, cache.size(), tensor::interned_specs()};
}

}  // namespace dtensor
