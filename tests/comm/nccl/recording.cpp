// SPDX-License-Identifier: Apache-2.0
// A library that stands in the place of libnccl.so.2 and keeps what its functions receive. Signatures, numbers and layouts are written out as NCCL promises
// them to programs that are built already, so that what the caller's header makes of them shows.
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>

namespace {

std::string calls;
int answer = 0, asynchronous = 0;
std::string details;

struct UniqueId {
  char bytes[128];
};
struct Config {  // 2.28; older ones end earlier
  std::size_t size;
  unsigned magic, version;
  int blocking, cga_cluster_size, min_ctas, max_ctas;
  const char* net_name;
  int split_share, traffic_class;
  const char* comm_name;
  int collnet_enable, cta_policy, shrink_share, nvls_ctas, channels_per_net_peer, nvlink_centric_sched;
};

std::string text(const void* p) {
  char place[32];
  std::snprintf(place, sizeof place, "0x%llx", static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(p)));
  return place;
}
std::string text(int n) { return n == INT_MIN ? "unset" : std::to_string(n); }
std::string text(std::size_t n) { return std::to_string(n); }

template <class... Args>
int called(const char* function, const Args&... args) {
  calls += function;
  ((calls += " " + text(args)), ...);
  calls += "\n";
  return answer;
}

// The scalar of an operation as the number that its bytes are.
std::string bits(const void* scalar, int type) {
  const std::size_t size = type == 6 || type == 9 ? 2 : type == 7 ? 4 : type == 8 ? 8 : 0;
  std::uint64_t number = 0;
  std::memcpy(&number, scalar, size);
  char digits[32];
  std::snprintf(digits, sizeof digits, "%0*llx", static_cast<int>(2 * size), static_cast<unsigned long long>(number));
  return digits;
}

std::string describe(const Config& c) {
  std::string d = c.magic == 0xcafebeef ? "config of " + text(static_cast<int>(c.version)) : "no config";
  const auto add = [&](const char* name, const auto& field) {
    if (reinterpret_cast<const char*>(&field) + sizeof field > reinterpret_cast<const char*>(&c) + c.size) return;
    if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(field)>>) {
      if (field != nullptr) d += std::string(" ") + name + "=" + field;
    } else if (field != INT_MIN) {
      d += std::string(" ") + name + "=" + text(field);
    }
  };
  add("blocking", c.blocking);
  add("cga_cluster_size", c.cga_cluster_size);
  add("min_ctas", c.min_ctas);
  add("max_ctas", c.max_ctas);
  add("net_name", c.net_name);
  add("split_share", c.split_share);
  add("traffic_class", c.traffic_class);
  add("comm_name", c.comm_name);
  add("collnet_enable", c.collnet_enable);
  add("cta_policy", c.cta_policy);
  add("shrink_share", c.shrink_share);
  add("nvls_ctas", c.nvls_ctas);
  add("channels_per_net_peer", c.channels_per_net_peer);
  add("nvlink_centric_sched", c.nvlink_centric_sched);
  return d;
}

void* place(std::uintptr_t n) { return reinterpret_cast<void*>(n); }

}  // namespace

extern "C" {

/// What was called since the last time, a line each.
const char* recorded_calls() {
  static std::string taken;
  taken = calls;
  calls.clear();
  return taken.c_str();
}
/// From now on: of all functions; of communicators, when asked for their state; and in words.
void recorded_answers(int result, int state, const char* words) {
  answer = result;
  asynchronous = state;
  details = words;
}

int ncclGetVersion(int* version) {
  *version = 22809;
  return 0;
}
const char* ncclGetErrorString(int result) {
  static std::string words;
  words = "result " + text(result);
  return words.c_str();
}
const char* ncclGetLastError(void* comm) {
  called("GetLastError", comm);
  return details.c_str();
}

int ncclGetUniqueId(UniqueId* id) {
  for (int i = 0; i < 128; ++i) id->bytes[i] = static_cast<char>('!' + i % 90);
  return called("GetUniqueId");
}
int ncclCommInitRankConfig(void** comm, int size, UniqueId id, int rank, const Config* config) {
  called("CommInitRankConfig", size, rank);
  calls += "  id " + std::string(id.bytes, sizeof id.bytes) + "\n  " + describe(*config) + "\n";
  *comm = place(0xc0);
  return answer;
}
int ncclCommGetAsyncError(void* comm, int* state) {
  *state = asynchronous;
  return called("CommGetAsyncError", comm);
}
int ncclCommUserRank(void* comm, int* rank) {
  *rank = 2;
  return called("CommUserRank", comm);
}
int ncclCommCount(void* comm, int* size) {
  *size = 5;
  return called("CommCount", comm);
}
int ncclCommCuDevice(void* comm, int* device) {
  *device = 7;
  return called("CommCuDevice", comm);
}
int ncclCommFinalize(void* comm) { return called("CommFinalize", comm); }
int ncclCommDestroy(void* comm) { return called("CommDestroy", comm); }
int ncclCommAbort(void* comm) { return called("CommAbort", comm); }

int ncclMemAlloc(void** memory, std::size_t bytes) {
  *memory = place(0xd0);
  return called("MemAlloc", bytes);
}
int ncclMemFree(void* memory) { return called("MemFree", memory); }
int ncclCommWindowRegister(void* comm, void* memory, std::size_t bytes, void** window, int flags) {
  *window = place(0xe0);
  return called("CommWindowRegister", comm, memory, bytes, flags);
}
int ncclCommWindowDeregister(void* comm, void* window) { return called("CommWindowDeregister", comm, window); }

int ncclGroupStart() { return called("GroupStart"); }
int ncclGroupEnd() { return called("GroupEnd"); }

int ncclAllGather(const void* send, void* receive, std::size_t count, int type, void* comm, void* stream) {
  return called("AllGather", send, receive, count, type, comm, stream);
}
int ncclReduceScatter(const void* send, void* receive, std::size_t count, int type, int op, void* comm, void* stream) {
  return called("ReduceScatter", send, receive, count, type, op, comm, stream);
}
int ncclAllReduce(const void* send, void* receive, std::size_t count, int type, int op, void* comm, void* stream) {
  return called("AllReduce", send, receive, count, type, op, comm, stream);
}
int ncclBroadcast(const void* send, void* receive, std::size_t count, int type, int root, void* comm, void* stream) {
  return called("Broadcast", send, receive, count, type, root, comm, stream);
}
int ncclAlltoAll(const void* send, void* receive, std::size_t count, int type, void* comm, void* stream) {
  return called("AlltoAll", send, receive, count, type, comm, stream);
}
int ncclSend(const void* send, std::size_t count, int type, int peer, void* comm, void* stream) {
  return called("Send", send, count, type, peer, comm, stream);
}
int ncclRecv(void* receive, std::size_t count, int type, int peer, void* comm, void* stream) {
  return called("Recv", receive, count, type, peer, comm, stream);
}

int ncclRedOpCreatePreMulSum(int* op, const void* scalar, int type, int residence, void* comm) {
  *op = 9;
  called("RedOpCreatePreMulSum", type, residence, comm);
  calls += "  scalar " + bits(scalar, type) + "\n";
  return answer;
}
int ncclRedOpDestroy(int op, void* comm) { return called("RedOpDestroy", op, comm); }
}
