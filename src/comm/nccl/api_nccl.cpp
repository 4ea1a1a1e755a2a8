// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>

#include "base/environment.h"
#include "comm/nccl/nccl_api.h"
#include "dtensor/half.h"

namespace dtensor::comm::nccl {
namespace {

ncclComm_t of(Comm comm) { return static_cast<ncclComm_t>(comm); }
cudaStream_t of_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }

ncclDataType_t of(Type type) {
  static constexpr ncclDataType_t kTypes[] = {ncclUint8, ncclInt32, ncclInt64, ncclFloat16, ncclFloat32, ncclFloat64, ncclBfloat16};
  return kTypes[static_cast<std::size_t>(type)];
}
ncclRedOp_t of(Op op) { return static_cast<ncclRedOp_t>(op); }

static_assert(ncclSum == kSum && ncclProd == kProduct && ncclMax == kMax && ncclMin == kMin && ncclAvg == kAvg);
static_assert(sizeof(ncclUniqueId) == sizeof(UniqueId));

// NCCL_WIN_COLL_SYMMETRIC, NCCL_CTA_POLICY_EFFICIENCY, NCCL_CTA_POLICY_ZERO, which older headers do not have.
constexpr int kSymmetricWindow = 1;
[[maybe_unused]] constexpr int kEfficiencyPolicy = 1, kZeroPolicy = 2;
#ifdef NCCL_WIN_COLL_SYMMETRIC
static_assert(NCCL_WIN_COLL_SYMMETRIC == kSymmetricWindow);
#endif
#ifdef NCCL_CTA_POLICY_ZERO
static_assert(NCCL_CTA_POLICY_EFFICIENCY == kEfficiencyPolicy && NCCL_CTA_POLICY_ZERO == kZeroPolicy);
#endif

Result result(ncclResult_t code) { return code > ncclInProgress ? Result::internal_error : static_cast<Result>(code); }

// What has been there since kOldestVersion.
#define DTENSOR_NCCL_FUNCTIONS(X) \
  X(AllGather)                    \
  X(AllReduce)                    \
  X(Broadcast)                    \
  X(CommAbort)                    \
  X(CommCount)                    \
  X(CommCuDevice)                 \
  X(CommDestroy)                  \
  X(CommFinalize)                 \
  X(CommGetAsyncError)            \
  X(CommInitRankConfig)           \
  X(CommUserRank)                 \
  X(GetErrorString)               \
  X(GetLastError)                 \
  X(GetUniqueId)                  \
  X(GroupEnd)                     \
  X(GroupStart)                   \
  X(Recv)                         \
  X(RedOpCreatePreMulSum)         \
  X(RedOpDestroy)                 \
  X(ReduceScatter)                \
  X(Send)

// A program built with newer headers may meet an older library, and the other way round: what is newer is written out, and null where it is not.
struct Functions {
  Library facts;
// NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration takes none
#define DTENSOR_NCCL_MEMBER(name) decltype(&nccl##name) name = nullptr;
  DTENSOR_NCCL_FUNCTIONS(DTENSOR_NCCL_MEMBER)
#undef DTENSOR_NCCL_MEMBER
  ncclResult_t (*AlltoAll)(const void*, void*, std::size_t, ncclDataType_t, ncclComm_t, cudaStream_t) = nullptr;  // 2.28
  ncclResult_t (*MemAlloc)(void**, std::size_t) = nullptr;                                                        // this and what follows: 2.27
  ncclResult_t (*MemFree)(void*) = nullptr;
  ncclResult_t (*CommWindowRegister)(ncclComm_t, void*, std::size_t, void**, int) = nullptr;
  ncclResult_t (*CommWindowDeregister)(ncclComm_t, void*) = nullptr;
};

template <class F>
bool find(void* from, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(from, name));
  return function != nullptr;
}

// The library of an application's communicators is the one that it has loaded, wherever that lies.
void* opened(std::string& why_not) {
  const auto chosen = base::env("DTENSOR_NCCL_LIBRARY");
  if (void* const known = chosen ? nullptr : dlsym(RTLD_DEFAULT, "ncclCommInitRankConfig")) {
    // The default scope also holds what only this library was loaded with, as in a plugin; the program's handle does not.
    Dl_info where{};
    void* const library = dladdr(known, &where) != 0 && where.dli_fname != nullptr ? dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD) : nullptr;
    return library != nullptr ? library : dlopen(nullptr, RTLD_NOW);
  }
  const std::string name = chosen.value_or("libnccl.so.2");
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    why_not = name + " cannot be loaded (" + (reason != nullptr ? reason : "the system gives no reason") + ")";
  }
  return library;
}

Functions load() {
  Functions f;
  void* const from = opened(f.facts.why_not);
  if (from == nullptr) return f;
  decltype(&ncclGetVersion) get_version = nullptr;
  const char* lacks = find(from, "ncclGetVersion", get_version) ? nullptr : "ncclGetVersion";
  Dl_info where{};
  if (get_version != nullptr && dladdr(reinterpret_cast<void*>(get_version), &where) != 0 && where.dli_fname != nullptr)
    f.facts.path = where.dli_fname;
  if (get_version == nullptr || get_version(&f.facts.version) != ncclSuccess) f.facts.version = 0;
  if (f.facts.version != 0 && f.facts.version < kOldestVersion) return f;
#define DTENSOR_NCCL_FIND(name) \
  if (!find(from, "nccl" #name, f.name) && lacks == nullptr) lacks = "nccl" #name;
  DTENSOR_NCCL_FUNCTIONS(DTENSOR_NCCL_FIND)
#undef DTENSOR_NCCL_FIND
  if (lacks != nullptr)
    f.facts.why_not = (f.facts.path.empty() ? base::env("DTENSOR_NCCL_LIBRARY").value_or("libnccl.so.2") : f.facts.path) + " has no " + lacks;
  else if (f.facts.version == 0) f.facts.why_not = f.facts.path + " does not tell its version";
  find(from, "ncclAlltoAll", f.AlltoAll);
  find(from, "ncclMemAlloc", f.MemAlloc);
  find(from, "ncclMemFree", f.MemFree);
  find(from, "ncclCommWindowRegister", f.CommWindowRegister);
  find(from, "ncclCommWindowDeregister", f.CommWindowDeregister);
  return f;
}

const Functions& loaded() {
  static const Functions all = load();
  return all;
}

template <class T>
Result make_op(Op& op, T factor, Type type, Comm comm) {
  ncclRedOp_t made{};
  const Result done = result(loaded().RedOpCreatePreMulSum(&made, &factor, of(type), ncclScalarHostImmediate, of(comm)));
  op = static_cast<Op>(made);
  return done;
}

}  // namespace

Library library() { return loaded().facts; }
int version() noexcept { return loaded().facts.version; }
int built_version() noexcept { return NCCL_VERSION_CODE; }
bool has_all_to_all() noexcept { return loaded().AlltoAll != nullptr; }
bool has_windows() noexcept {
  const Functions& f = loaded();
  return f.MemAlloc != nullptr && f.MemFree != nullptr && f.CommWindowRegister != nullptr && f.CommWindowDeregister != nullptr;
}

std::string text_of(Result code, Comm comm) {
  std::string text = loaded().GetErrorString(static_cast<ncclResult_t>(code));
  // Of a communicator that has not been made there are details too.
  const char* last = loaded().GetLastError(of(comm));
  if (last != nullptr && *last != '\0') text += std::string(": ") + last;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  if (text.find("Duplicate GPU") != std::string::npos)
    text += "; ranks that share a GPU are threads without --backend nccl, or processes that were started with an NCCL_HOSTID each";
  return text;
}

Result make_unique_id(UniqueId& id) {
  ncclUniqueId made;
  const Result done = result(loaded().GetUniqueId(&made));
  std::memcpy(id.data(), &made, sizeof made);
  return done;
}

Result init(Comm& comm, int size, const UniqueId& id, int rank, const char* name, CtaPolicy policy) {
  ncclUniqueId of_all;
  std::memcpy(&of_all, id.data(), sizeof of_all);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  config.commName = name;
  if (policy != CtaPolicy::standard) config.CTAPolicy = policy == CtaPolicy::zero ? kZeroPolicy : kEfficiencyPolicy;
#else
  static_cast<void>(name);
  static_cast<void>(policy);
#endif
  ncclComm_t made = nullptr;
  const Result done = result(loaded().CommInitRankConfig(&made, size, of_all, rank, &config));
  comm = made;
  return done;
}

Result state(Comm comm) {
  ncclResult_t found = ncclSuccess;
  const ncclResult_t asked = loaded().CommGetAsyncError(of(comm), &found);
  return result(asked != ncclSuccess ? asked : found);
}

Result membership(Comm comm, int& rank, int& size, int& device) {
  if (const ncclResult_t code = loaded().CommUserRank(of(comm), &rank); code != ncclSuccess) return result(code);
  if (const ncclResult_t code = loaded().CommCount(of(comm), &size); code != ncclSuccess) return result(code);
  return result(loaded().CommCuDevice(of(comm), &device));
}

Result finalize(Comm comm) { return result(loaded().CommFinalize(of(comm))); }
Result destroy(Comm comm) { return result(loaded().CommDestroy(of(comm))); }
Result abort(Comm comm) { return result(loaded().CommAbort(of(comm))); }

Result allocate_memory(void*& memory, std::size_t bytes) { return result(loaded().MemAlloc(&memory, bytes)); }
Result free_memory(void* memory) { return result(loaded().MemFree(memory)); }
Result open_window(WindowHandle& window, void* memory, std::size_t bytes, Comm comm) {
  return result(loaded().CommWindowRegister(of(comm), memory, bytes, &window, kSymmetricWindow));
}
Result close_window(WindowHandle window, Comm comm) { return result(loaded().CommWindowDeregister(of(comm), window)); }

Result group_start() { return result(loaded().GroupStart()); }
Result group_end() { return result(loaded().GroupEnd()); }

Result all_gather(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream) {
  return result(loaded().AllGather(in, out, count, of(type), of(comm), of_stream(stream)));
}
Result reduce_scatter(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream) {
  return result(loaded().ReduceScatter(in, out, count, of(type), of(op), of(comm), of_stream(stream)));
}
Result all_reduce(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream) {
  return result(loaded().AllReduce(in, out, count, of(type), of(op), of(comm), of_stream(stream)));
}
Result broadcast(const void* in, void* out, std::size_t count, Type type, int root, Comm comm, Stream stream) {
  return result(loaded().Broadcast(in, out, count, of(type), root, of(comm), of_stream(stream)));
}
Result all_to_all(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream) {
  return result(loaded().AlltoAll(in, out, count, of(type), of(comm), of_stream(stream)));
}
Result send(const void* in, std::size_t count, Type type, int peer, Comm comm, Stream stream) {
  return result(loaded().Send(in, count, of(type), peer, of(comm), of_stream(stream)));
}
Result receive(void* out, std::size_t count, Type type, int peer, Comm comm, Stream stream) {
  return result(loaded().Recv(out, count, of(type), peer, of(comm), of_stream(stream)));
}

Result make_premul_sum(Op& op, double factor, Type type, Comm comm) {
  switch (type) {
    case Type::f64:
      return make_op(op, factor, type, comm);
    case Type::f16:
      return make_op(op, Half(static_cast<float>(factor)), type, comm);
    case Type::bf16:
      return make_op(op, BFloat16(static_cast<float>(factor)), type, comm);
    default:
      return make_op(op, static_cast<float>(factor), type, comm);
  }
}
Result destroy_op(Op op, Comm comm) { return result(loaded().RedOpDestroy(of(op), of(comm))); }

}  // namespace dtensor::comm::nccl
