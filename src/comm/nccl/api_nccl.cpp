// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>

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

Result result(ncclResult_t code) { return code > ncclInProgress ? Result::internal_error : static_cast<Result>(code); }

// 2.28 has it; a program built with newer headers may meet an older library, and the other way round.
using AllToAll = ncclResult_t (*)(const void*, void*, std::size_t, ncclDataType_t, ncclComm_t, cudaStream_t);
AllToAll find_all_to_all() noexcept {
  static const auto found = reinterpret_cast<AllToAll>(dlsym(RTLD_DEFAULT, "ncclAlltoAll"));
  return version() >= 22800 ? found : nullptr;
}

template <class T>
Result make_op(Op& op, T factor, Type type, Comm comm) {
  ncclRedOp_t made{};
  const Result done = result(ncclRedOpCreatePreMulSum(&made, &factor, of(type), ncclScalarHostImmediate, of(comm)));
  op = static_cast<Op>(made);
  return done;
}

}  // namespace

int version() noexcept {
  static const int loaded = [] {
    int v = 0;
    return ncclGetVersion(&v) == ncclSuccess ? v : 0;
  }();
  return loaded;
}
bool has_all_to_all() noexcept { return find_all_to_all() != nullptr; }

std::string text_of(Result code, Comm comm) {
  std::string text = ncclGetErrorString(static_cast<ncclResult_t>(code));
  // Of a communicator that has not been made there are details too.
  const char* last = ncclGetLastError(of(comm));
  if (last != nullptr && *last != '\0') text += std::string(": ") + last;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

Result make_unique_id(UniqueId& id) {
  ncclUniqueId made;
  const Result done = result(ncclGetUniqueId(&made));
  std::memcpy(id.data(), &made, sizeof made);
  return done;
}

Result init(Comm& comm, int size, const UniqueId& id, int rank, const char* name) {
  ncclUniqueId of_all;
  std::memcpy(&of_all, id.data(), sizeof of_all);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  config.commName = name;
#else
  static_cast<void>(name);
#endif
  ncclComm_t made = nullptr;
  const Result done = result(ncclCommInitRankConfig(&made, size, of_all, rank, &config));
  comm = made;
  return done;
}

Result state(Comm comm) {
  ncclResult_t found = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(of(comm), &found);
  return result(asked != ncclSuccess ? asked : found);
}

Result membership(Comm comm, int& rank, int& size, int& device) {
  if (const ncclResult_t code = ncclCommUserRank(of(comm), &rank); code != ncclSuccess) return result(code);
  if (const ncclResult_t code = ncclCommCount(of(comm), &size); code != ncclSuccess) return result(code);
  return result(ncclCommCuDevice(of(comm), &device));
}

Result finalize(Comm comm) { return result(ncclCommFinalize(of(comm))); }
Result destroy(Comm comm) { return result(ncclCommDestroy(of(comm))); }
Result abort(Comm comm) { return result(ncclCommAbort(of(comm))); }

Result group_start() { return result(ncclGroupStart()); }
Result group_end() { return result(ncclGroupEnd()); }

Result all_gather(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream) {
  return result(ncclAllGather(in, out, count, of(type), of(comm), of_stream(stream)));
}
Result reduce_scatter(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream) {
  return result(ncclReduceScatter(in, out, count, of(type), of(op), of(comm), of_stream(stream)));
}
Result all_reduce(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream) {
  return result(ncclAllReduce(in, out, count, of(type), of(op), of(comm), of_stream(stream)));
}
Result broadcast(const void* in, void* out, std::size_t count, Type type, int root, Comm comm, Stream stream) {
  return result(ncclBroadcast(in, out, count, of(type), root, of(comm), of_stream(stream)));
}
Result all_to_all(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream) {
  return result(find_all_to_all()(in, out, count, of(type), of(comm), of_stream(stream)));
}
Result send(const void* in, std::size_t count, Type type, int peer, Comm comm, Stream stream) {
  return result(ncclSend(in, count, of(type), peer, of(comm), of_stream(stream)));
}
Result receive(void* out, std::size_t count, Type type, int peer, Comm comm, Stream stream) {
  return result(ncclRecv(out, count, of(type), peer, of(comm), of_stream(stream)));
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
Result destroy_op(Op op, Comm comm) { return result(ncclRedOpDestroy(of(op), of(comm))); }

}  // namespace dtensor::comm::nccl
