// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/recorder.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "comm/nccl/meetings.h"
#include "cuda/emulator.h"
#include "local/reduce_boxes.h"

namespace dtensor::comm::nccl {
namespace {

namespace emulated = local::cuda::emulated;

constexpr const char* kTypeNames[] = {"u8", "i32", "i64", "f16", "f32", "f64", "bf16"};
constexpr Dtype kDtypes[] = {Dtype::u8, Dtype::i32, Dtype::i64, Dtype::f16, Dtype::f32, Dtype::f64, Dtype::bf16};
constexpr std::array<const char*, 5> kOpNames{"sum", "product", "max", "min", "avg"};

struct Member;
struct Posted {
  recorded::Call call;
  const void* in = nullptr;
  void* out = nullptr;
  bool done = false;
  std::pair<std::int64_t, std::int64_t> offsets;  // in windows
};
struct Batch {
  std::vector<Posted> operations;
  bool started = false;
  Stream stream = nullptr;
  std::uint64_t number = 0;  // of the stream's works
  bool is_done() const {
    for (const Posted& p : operations)
      if (!p.done) return false;
    return true;
  }
};
using BatchRef = std::shared_ptr<Batch>;
struct Clique;
struct Member {
  Clique* clique = nullptr;
  int rank = 0, groups = 0, lingers = 0;
  std::string name;
  Result error = Result::success;
  CtaPolicy policy = CtaPolicy::standard;
  bool aborted = false, finalizing = false;
  // Of each launch that a graph would make again. Neither finalize() nor abort() ends before the graphs do.
  std::shared_ptr<char> recorded = std::make_shared<char>();
  bool has_graphs() const { return recorded.use_count() > 1; }
  std::map<Op, double> factors;
  std::vector<BatchRef> batches;
  std::vector<std::pair<BatchRef, Posted*>> collectives;
  std::map<int, std::deque<std::pair<BatchRef, Posted*>>> sends, receives;  // by peer
  std::map<int, std::vector<int>> sent, received;                           // of each, the group it was in
  struct Opened {
    std::byte* memory = nullptr;
    std::size_t bytes = 0, after = 0;  // how many collectives came before
    WindowHandle* handle = nullptr;    // to be written
    bool open = true;
  };
  std::deque<Opened> windows;
  bool ended = false;
  // Where in which window; -1: in none.
  std::int64_t offset_of(const void* memory) const {
    const auto* at = static_cast<const std::byte*>(memory);
    for (std::size_t w = 0; w < windows.size(); ++w)
      if (windows[w].open && at >= windows[w].memory && at < windows[w].memory + windows[w].bytes)
        return static_cast<std::int64_t>(w << 40) + (at - windows[w].memory);
    return -1;
  }
};
struct Clique {
  int size = 0;
  std::vector<Member*> members;
  std::size_t next = 0;  // collective
  recorded::Meetings meetings = {};
  bool asking = false;
  bool complete() const {
    for (const Member* m : members)
      if (m == nullptr) return false;
    return true;
  }
};
struct World {
  recorded::Settings settings;
  std::map<UniqueId, std::unique_ptr<Clique>> cliques;
  std::vector<std::unique_ptr<Member>> members;  // never freed: streams may still speak of them
  std::vector<recorded::Call> calls;
  std::vector<std::string> mismatches, starts;
  recorded::Lives lives;
  std::uint64_t ids = 0;
};
World& world() {
  static auto* const w = new World;
  return *w;
}
Member& of(Comm comm) { return *static_cast<Member*>(comm); }

std::size_t bytes_of(const Posted& p) {
  return static_cast<std::size_t>(p.call.count) * static_cast<std::size_t>(info(kDtypes[static_cast<std::size_t>(p.call.type)]).bytes);
}
void mismatch(const Posted& a, const Posted& b) {
  world().mismatches.push_back(a.call.comm + ": member " + std::to_string(a.call.member) + " " + a.call.text() + ", member " +
                               std::to_string(b.call.member) + " " + b.call.text());
}

void reduce(const std::vector<const void*>& sources, void* to, const Posted& p, std::int64_t members) {
  const Dtype dtype = kDtypes[static_cast<std::size_t>(p.call.type)];
  static constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::product, ReduceOp::max, ReduceOp::min, ReduceOp::sum};
  const ReduceOp op = p.call.op <= kAvg ? kOps[p.call.op] : ReduceOp::sum;
  if (info(dtype).floating && (op == ReduceOp::max || op == ReduceOp::min)) world().mismatches.push_back(p.call.text() + " drops a NaN");
  const std::int64_t divisor = p.call.op == kAvg ? members : p.call.op > kAvg ? static_cast<std::int64_t>(1 / p.call.factor + 0.5) : 1;
  const Shape one{1}, strides[] = {one}, sizes{p.call.count};
  local::reduce_box(to, one, sources, strides, sizes, dtype, op, divisor);
}

// All members have come to it: what each had given is read before anything is written.
void perform(Clique& clique, std::size_t number) {
  const auto n = static_cast<std::size_t>(clique.size);
  const Posted& first = *clique.members[0]->collectives[number].second;
  const std::string& verb = first.call.verb;
  const std::size_t bytes = bytes_of(first), given = verb == "ReduceScatter" || verb == "AlltoAll" ? bytes * n : bytes;
  std::vector<std::vector<std::byte>> inputs;
  for (const Member* m : clique.members) {
    const auto* in = static_cast<const std::byte*>(m->collectives[number].second->in);
    if (verb == "Broadcast" && m->rank != first.call.peer) inputs.emplace_back();
    else inputs.emplace_back(in, in + given);
  }
  for (std::size_t r = 0; r < n; ++r) {
    Posted& mine = *clique.members[r]->collectives[number].second;
    auto* out = static_cast<std::byte*>(mine.out);
    std::vector<const void*> sources;
    for (std::size_t p = 0; p < n; ++p) {
      if (verb == "AllGather") std::memcpy(out + p * bytes, inputs[p].data(), bytes);
      else if (verb == "AlltoAll") std::memcpy(out + p * bytes, inputs[p].data() + r * bytes, bytes);
      else sources.push_back(inputs[p].data() + (verb == "ReduceScatter" ? r * bytes : 0));
    }
    if (verb == "Broadcast") std::memcpy(out, inputs[static_cast<std::size_t>(first.call.peer)].data(), bytes);
    else if (verb == "ReduceScatter" || verb == "AllReduce") reduce(sources, out, mine, clique.size);
    mine.done = true;
  }
}

bool all_started(const Clique& clique, std::size_t number) {
  for (const Member* m : clique.members)
    if (m == nullptr || m->aborted || m->collectives.size() <= number || !m->collectives[number].first->started) return false;
  return true;
}

void move_pairs(Clique& clique) {
  for (Member* from : clique.members)
    for (auto& [peer, sends] : from->sends) {
      Member* const to = clique.members[static_cast<std::size_t>(peer)];
      if (to == nullptr) continue;
      auto& receives = to->receives[from->rank];
      while (!sends.empty() && !receives.empty() && sends.front().first->started && receives.front().first->started) {
        Posted &give = *sends.front().second, &get = *receives.front().second;
        if (give.call.count != get.call.count || give.call.type != get.call.type) mismatch(give, get);
        else std::memcpy(get.out, give.in, bytes_of(give));
        give.done = get.done = true;
        sends.pop_front();
        receives.pop_front();
      }
    }
}

void progress(Clique& clique) {
  if (!clique.complete()) return;
  while (all_started(clique, clique.next)) perform(clique, clique.next++);
  move_pairs(clique);
}

// The work on a member's stream.
bool try_batch(Member& m, Batch& batch) {
  if (!std::exchange(batch.started, true)) world().starts.push_back(batch.operations.front().call.text());
  if (m.aborted) return true;
  progress(*m.clique);
  if (batch.is_done()) return true;
  // Who asks first brings all members on.
  if (m.clique->asking) return false;
  m.clique->asking = true;
  for (Member* peer : m.clique->members) {
    if (peer == nullptr || peer == &m) continue;
    for (std::size_t i = 0; i < peer->batches.size(); ++i)
      if (!peer->batches[i]->is_done()) emulated::run_up_to(peer->batches[i]->stream, peer->batches[i]->number);
  }
  m.clique->asking = false;
  progress(*m.clique);
  return batch.is_done();
}

// All whom the member's operations need have come to theirs.
bool is_connected(const Member& m) {
  for (const Member* peer : m.clique->members) {
    if (peer->collectives.size() < m.collectives.size()) return false;
    const auto count = [](const auto& posted, int rank) {
      const auto at = posted.find(rank);
      return at == posted.end() ? std::size_t{0} : at->second.size();
    };
    if (count(m.sent, peer->rank) > count(peer->received, m.rank) || count(m.received, peer->rank) > count(peer->sent, m.rank)) return false;
  }
  return true;
}

// Opening a window is collective.
bool have_opened(Member& m) {
  for (const Member* peer : m.clique->members)
    if (peer->windows.size() < m.windows.size()) return false;
  for (Member::Opened& w : m.windows)
    if (w.handle != nullptr) {
      w.open = world().settings.takes_windows;
      *std::exchange(w.handle, nullptr) = w.open ? &w : nullptr;
    }
  return true;
}

void meet(const Member& m, int group, const Member& other, int theirs) {
  const std::string text = m.clique->meetings.join({m.rank, group}, {other.rank, theirs});
  if (!text.empty()) world().mismatches.push_back(m.name + ": " + text);
}

// The member's last operation with a peer, and the peer's that it is done with, if that is there.
void compare(const Member& m, int peer, bool sends) {
  const Member* const other = m.clique->members[static_cast<std::size_t>(peer)];
  if (other == nullptr || other == &m) return;
  const std::vector<int>& mine = (sends ? m.sent : m.received).at(peer);
  const auto& all = sends ? other->received : other->sent;
  const auto theirs = all.find(m.rank);
  if (theirs != all.end() && theirs->second.size() >= mine.size()) meet(m, mine.back(), *other, theirs->second[mine.size() - 1]);
}

void compare(Member& m) {
  const std::size_t number = m.collectives.size() - 1;
  const Posted& mine = *m.collectives[number].second;
  for (const Member* other : m.clique->members) {
    if (other == nullptr || other == &m || other->collectives.size() <= number) continue;
    const recorded::Call &a = mine.call, &b = other->collectives[number].second->call;
    if (a.verb != b.verb || a.count != b.count || a.type != b.type || a.op != b.op || a.factor != b.factor || a.peer != b.peer ||
        a.in_windows != b.in_windows || (a.in_windows && mine.offsets != other->collectives[number].second->offsets))
      mismatch(mine, *other->collectives[number].second);
    meet(m, a.group, *other, b.group);
  }
}

struct Open {
  int depth = 0, calls = 0;
  std::vector<std::pair<Member*, std::pair<Stream, Posted>>> posted;
  std::vector<Member*> aborted;
};
thread_local Open open;
std::atomic<int> open_groups{0};

// The members' lists know of it from now on.
void begin(Member& m, const BatchRef& batch) {
  ++m.groups;
  for (Posted& p : batch->operations) {
    p.call.group = m.groups - 1;
    p.offsets = {m.offset_of(p.in), m.offset_of(p.out)};
    p.call.in_windows = p.offsets.first >= 0 && p.offsets.second >= 0;
    world().calls.push_back(p.call);
    if (p.call.verb == "Send") {
      m.sends[p.call.peer].emplace_back(batch, &p);
      m.sent[p.call.peer].push_back(p.call.group);
      compare(m, p.call.peer, true);
    } else if (p.call.verb == "Recv") {
      m.receives[p.call.peer].emplace_back(batch, &p);
      m.received[p.call.peer].push_back(p.call.group);
      compare(m, p.call.peer, false);
    } else {
      m.collectives.emplace_back(batch, &p);
      compare(m);
    }
  }
  std::erase_if(m.batches, [](const BatchRef& b) { return b->is_done(); });
  m.batches.push_back(batch);
}

void close_group() {
  const auto lock = emulated::stopped();
  std::map<Member*, std::pair<Stream, std::vector<Posted>>> groups;
  std::vector<Member*> order;
  for (auto& [member, what] : std::exchange(open.posted, {})) {
    const auto [at, added] = groups.try_emplace(member, what.first, std::vector<Posted>());
    if (added) order.push_back(member);
    if (at->second.first != what.first) world().mismatches.push_back(member->name + ": a group on two streams");
    at->second.second.push_back(std::move(what.second));
  }
  for (Member* m : order) {
    auto& [stream, operations] = groups[m];
    m->lingers = world().settings.lingers;
    emulated::queue_made(stream, [m, graph = m->recorded, posted = std::move(operations)](Stream on, std::uint64_t number) {
      auto batch = std::make_shared<Batch>();
      batch->operations = posted;
      batch->stream = on;
      batch->number = number;
      begin(*m, batch);
      return [m, batch] { return try_batch(*m, *batch); };
    });
  }
}

// Of communicators that are aborted: their kernels end at once.
void wait_for_graphs() {
  if (open.aborted.empty()) return;
  std::this_thread::sleep_for(std::chrono::milliseconds([] {
    const auto lock = emulated::stopped();
    return world().settings.abort_ms;
  }()));
  for (Member* m : std::exchange(open.aborted, {})) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    for (;; std::this_thread::sleep_for(std::chrono::milliseconds(1))) {
      const auto lock = emulated::stopped();
      if (m->has_graphs() && std::chrono::steady_clock::now() < until) continue;
      if (m->has_graphs()) world().mismatches.push_back(m->name + ": an abort waits for a graph for ever");
      m->ended = true;
      ++world().lives.aborts_ended;
      break;
    }
  }
}

Result post(Comm comm, Stream stream, const char* verb, std::size_t count, Type type, const void* in, void* out, Op op = kSum, int peer = -1) {
  Member& m = of(comm);
  if (m.aborted) return Result::invalid_usage;
  if (open.depth > 0 && open.calls++ == world().settings.fails_at) return Result::system_error;
  Posted p;
  p.call = {m.name, m.rank, verb, static_cast<std::int64_t>(count), type, op, m.factors.contains(op) ? m.factors[op] : 1.0, peer, 0, false, stream};
  p.in = in;
  p.out = out;
  open.posted.emplace_back(&m, std::pair(stream, std::move(p)));
  if (open.depth == 0) close_group();
  return Result::success;
}

}  // namespace

namespace recorded {
std::string Call::text() const {
  std::string s = verb + " " + std::to_string(count) + " " + kTypeNames[static_cast<std::size_t>(type)];
  if (verb == "Send") s += " to " + std::to_string(peer);
  if (verb == "Recv" || verb == "Broadcast") s += " from " + std::to_string(peer);
  if (verb == "AllReduce" || verb == "ReduceScatter") s += op <= kAvg ? std::string(" ") + kOpNames[static_cast<std::size_t>(op)] : " premul";
  return s;
}
std::vector<Call> taken_calls() {
  const auto lock = emulated::stopped();
  return std::exchange(world().calls, {});
}
std::vector<std::string> taken_mismatches() {
  const auto lock = emulated::stopped();
  return std::exchange(world().mismatches, {});
}
void set(const Settings& settings) {
  const auto lock = emulated::stopped();
  world().settings = settings;
}
int open_groups() { return nccl::open_groups.load(); }
CtaPolicy policy_of(std::string_view name) {
  const auto lock = emulated::stopped();
  for (const auto& m : world().members)
    if (m->name == name) return m->policy;
  return CtaPolicy::standard;
}
void break_comm(std::string_view name, Result error) {
  const auto lock = emulated::stopped();
  for (const auto& m : world().members)
    if (m->name == name) m->error = error;
}
std::vector<std::string> taken_starts() {
  const auto lock = emulated::stopped();
  return std::exchange(world().starts, {});
}
Lives taken_lives() {
  const auto lock = emulated::stopped();
  return std::exchange(world().lives, {});
}
}  // namespace recorded

Library library() { return {.version = world().settings.version, .path = "recorder", .why_not = {}}; }
int version() noexcept { return world().settings.version; }
int built_version() noexcept { return 22809; }
bool has_all_to_all() noexcept { return version() >= 22800; }
bool has_windows() noexcept { return version() >= 22700 && world().settings.windows; }
std::string text_of(Result result, Comm /*comm*/) {
  static constexpr const char* kTexts[] = {"no error",
                                           "unhandled cuda error",
                                           "unhandled system error",
                                           "internal error",
                                           "invalid argument",
                                           "invalid usage",
                                           "remote process exited or there was a network error",
                                           "NCCL operation in progress"};
  return kTexts[static_cast<std::size_t>(result)];
}

Result make_unique_id(UniqueId& id) {
  const auto lock = emulated::stopped();
  id = {};
  const std::uint64_t number = ++world().ids;
  std::memcpy(id.data(), &number, sizeof number);
  return Result::success;
}

Result init(Comm& comm, int size, const UniqueId& id, int rank, const char* name, CtaPolicy policy) {
  const auto lock = emulated::stopped();
  if (world().settings.init != Result::in_progress) return world().settings.init;
  auto& clique = world().cliques[id];
  if (!clique) clique = std::make_unique<Clique>(Clique{size, std::vector<Member*>(static_cast<std::size_t>(size))});
  if (clique->size != size || clique->members.at(static_cast<std::size_t>(rank)) != nullptr) return Result::invalid_usage;
  auto member = std::make_unique<Member>();
  member->clique = clique.get();
  member->rank = rank;
  member->name = name;
  member->policy = policy;
  clique->members[static_cast<std::size_t>(rank)] = member.get();
  comm = member.get();
  world().members.push_back(std::move(member));
  ++world().lives.made;
  return Result::in_progress;
}

Result state(Comm comm) {
  const auto lock = emulated::stopped();
  Member& m = of(comm);
  if (m.error != Result::success) return m.error;
  if (!m.clique->complete()) return Result::in_progress;
  if (!have_opened(m)) return Result::in_progress;
  if (m.lingers > 0 && m.lingers-- > 0) return Result::in_progress;
  if (world().settings.connects && !is_connected(m)) return Result::in_progress;
  if (!m.finalizing) return Result::success;
  bool done = !m.has_graphs();
  for (const BatchRef& b : m.batches) {
    if (!b->is_done()) emulated::run_up_to(b->stream, b->number);
    done = done && b->is_done();
  }
  return done ? Result::success : Result::in_progress;
}

Result membership(Comm comm, int& rank, int& size, int& device) {
  rank = of(comm).rank;
  size = of(comm).clique->size;
  device = 0;
  return Result::success;
}
Result finalize(Comm comm) {
  const auto lock = emulated::stopped();
  of(comm).finalizing = true;
  for (const auto& w : of(comm).windows)
    if (w.open) world().mismatches.push_back(of(comm).name + ": finalized with an open window");
  return Result::in_progress;
}
Result destroy(Comm comm) {
  const auto lock = emulated::stopped();
  if (of(comm).has_graphs()) world().mismatches.push_back(of(comm).name + ": destroyed while there are graphs of it");
  of(comm).ended = true;
  ++world().lives.destroyed;
  return Result::success;
}
Result abort(Comm comm) {
  {
    const auto lock = emulated::stopped();
    if (of(comm).aborted) world().mismatches.push_back(of(comm).name + ": aborted twice");
    of(comm).aborted = true;
    ++world().lives.aborted;
    if (open.depth > 0) ++world().lives.aborted_together;
  }
  open.aborted.push_back(&of(comm));
  if (open.depth == 0) wait_for_graphs();
  return Result::success;
}

Result allocate_memory(void*& memory, std::size_t bytes) {
  memory = local::cuda::device_malloc(0, bytes);
  return memory == nullptr ? Result::unhandled_cuda_error : Result::success;
}
Result free_memory(void* memory) {
  {
    const auto lock = emulated::stopped();
    for (const auto& m : world().members)
      for (const Member::Opened& w : m->windows)
        if (w.memory == memory && w.open && !m->ended) world().mismatches.push_back(m->name + ": memory of an open window is freed");
  }
  local::cuda::device_free(0, memory);
  return Result::success;
}
Result open_window(WindowHandle& window, void* memory, std::size_t bytes, Comm comm) {
  const auto lock = emulated::stopped();
  Member& m = of(comm);
  m.windows.push_back({static_cast<std::byte*>(memory), bytes, m.collectives.size(), &window});
  ++world().lives.opened;
  const std::size_t number = m.windows.size() - 1;
  for (const Member* other : m.clique->members)
    if (other != nullptr && other->windows.size() > number &&
        (other->windows[number].bytes != bytes || other->windows[number].after != m.windows[number].after))
      world().mismatches.push_back(m.name + ": members open windows of other sizes, or at other calls");
  return Result::in_progress;
}
Result close_window(WindowHandle window, Comm comm) {
  const auto lock = emulated::stopped();
  auto& w = *static_cast<Member::Opened*>(window);
  if (!w.open || of(comm).finalizing || of(comm).ended) world().mismatches.push_back(of(comm).name + ": a window is closed late or twice");
  for (const BatchRef& b : of(comm).batches)
    if (!b->is_done()) world().mismatches.push_back(of(comm).name + ": a window is closed while it is used");
  w.open = false;
  ++world().lives.closed;
  return Result::success;
}

Result group_start() {
  if (open.depth++ == 0) {
    open.calls = 0;
    ++open_groups;
  }
  return Result::success;
}
Result group_end() {
  if (--open.depth == 0) {
    --open_groups;
    close_group();
    wait_for_graphs();
  }
  return world().settings.lingers > 0 || world().settings.connects ? Result::in_progress : Result::success;
}

Result all_gather(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream) {
  return post(comm, stream, "AllGather", count, type, in, out);
}
Result reduce_scatter(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream) {
  return post(comm, stream, "ReduceScatter", count, type, in, out, op);
}
Result all_reduce(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream) {
  return post(comm, stream, "AllReduce", count, type, in, out, op);
}
Result broadcast(const void* in, void* out, std::size_t count, Type type, int root, Comm comm, Stream stream) {
  return post(comm, stream, "Broadcast", count, type, in, out, kSum, root);
}
Result all_to_all(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream) {
  return post(comm, stream, "AlltoAll", count, type, in, out);
}
Result send(const void* in, std::size_t count, Type type, int peer, Comm comm, Stream stream) {
  return post(comm, stream, "Send", count, type, in, nullptr, kSum, peer);
}
Result receive(void* out, std::size_t count, Type type, int peer, Comm comm, Stream stream) {
  return post(comm, stream, "Recv", count, type, nullptr, out, kSum, peer);
}

Result make_premul_sum(Op& op, double factor, Type /*type*/, Comm comm) {
  const auto lock = emulated::stopped();
  op = kAvg + 1 + static_cast<Op>(of(comm).factors.size());
  of(comm).factors[op] = factor;
  return Result::success;
}
Result destroy_op(Op /*op*/, Comm /*comm*/) { return Result::success; }

}  // namespace dtensor::comm::nccl
