// SPDX-License-Identifier: Apache-2.0
// A library that stands in the place of libnccl.so.2: it can be loaded and asked for its version, and does nothing.
#if defined(STAND_IN_full) || defined(STAND_IN_plain)
#define FUNCTIONS(X)      \
  X(AllGather)            \
  X(AllReduce)            \
  X(Broadcast)            \
  X(CommAbort)            \
  X(CommCount)            \
  X(CommCuDevice)         \
  X(CommDestroy)          \
  X(CommFinalize)         \
  X(CommGetAsyncError)    \
  X(CommInitRankConfig)   \
  X(CommUserRank)         \
  X(GetErrorString)       \
  X(GetLastError)         \
  X(GetUniqueId)          \
  X(GroupEnd)             \
  X(GroupStart)           \
  X(Recv)                 \
  X(RedOpCreatePreMulSum) \
  X(RedOpDestroy)         \
  X(ReduceScatter)        \
  X(Send)
#else
#define FUNCTIONS(X) X(AllGather)
#endif
#ifdef STAND_IN_full
#define NEWER(X) X(AlltoAll) X(CommWindowRegister) X(CommWindowDeregister) X(MemAlloc) X(MemFree)
#else
#define NEWER(X)
#endif
#define DEFINE(name) \
  int nccl##name() { return 3; }

extern "C" {
int ncclGetVersion(int* version) {
  *version = STAND_IN_VERSION;
  return 0;
}
FUNCTIONS(DEFINE)
NEWER(DEFINE)
}
