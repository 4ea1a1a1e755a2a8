// SPDX-License-Identifier: Apache-2.0
// The part of NCCL that the library uses, as functions. api_nccl.cpp is the real one; tests link what stands in its place.
// No function blocks: communicators are made with config.blocking = 0, and what is not done yet is in_progress, to be asked for with state().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "comm/job.h"
#include "dtensor/values.h"

namespace dtensor::comm::nccl {

/// Opaque: ncclComm_t, cudaStream_t.
using Comm = void*;
using Stream = void*;
using UniqueId = std::array<char, 128>;

enum class Result : std::uint8_t {
  success,
  unhandled_cuda_error,
  system_error,
  internal_error,
  invalid_argument,
  invalid_usage,
  remote_error,
  in_progress
};
/// Elements as NCCL names them; bool travels as u8.
enum class Type : std::uint8_t { u8, i32, i64, f16, f32, f64, bf16 };
/// Of a reduction: five built in, or a number from make_premul_sum().
using Op = int;
inline constexpr Op kSum = 0, kProduct = 1, kMax = 2, kMin = 3, kAvg = 4;

/// What is loaded at first use: DTENSOR_NCCL_LIBRARY, else what the program has loaded, else libnccl.so.2.
struct Library {
  int version = 0;      ///< 22809 is 2.28.9; 0: not known
  std::string path;     ///< of the file
  std::string why_not;  ///< why it cannot be called; empty: it can
};
Library library();
/// Of library(); the functions below may be called when it is kOldestVersion or more and library().why_not is empty.
int version() noexcept;
/// Of the header.
int built_version() noexcept;
/// The oldest that the library works with.
inline constexpr int kOldestVersion = 22000;
/// Whether the loaded NCCL has all_to_all (2.28).
bool has_all_to_all() noexcept;
/// Whether it has the functions of memory and of windows below (2.27).
bool has_windows() noexcept;
/// NCCL's words for a result, and the way out for ranks that share a GPU; `comm` may be null.
std::string text_of(Result result, Comm comm);

Result make_unique_id(UniqueId& id);
/// Of the calling thread's device. `name` is for NCCL's own log.
Result init(Comm& comm, int size, const UniqueId& id, int rank, const char* name, CtaPolicy policy = CtaPolicy::standard);
/// success, in_progress, or the error that the communicator has met since.
Result state(Comm comm);
Result membership(Comm comm, int& rank, int& size, int& device);
Result finalize(Comm comm);
Result destroy(Comm comm);
/// Stops what is queued and frees the communicator; any thread. May wait for kernels of the device's other communicators.
Result abort(Comm comm);
/// From this version on, aborts within a group are done together.
inline constexpr int kGroupsAborts = 22200;

/// Memory of the calling thread's device that windows can lie in.
Result allocate_memory(void*& memory, std::size_t bytes);
Result free_memory(void* memory);
/// Of a piece of memory and a communicator.
using WindowHandle = void*;
/// Collective, in the order of the communicator's other calls; symmetric: members have equal sizes, and use equal offsets. `window` is written when the
/// communicator is in progress no more; null then: NCCL has no use for it here.
Result open_window(WindowHandle& window, void* memory, std::size_t bytes, Comm comm);
/// When nothing that is queued uses it.
Result close_window(WindowHandle window, Comm comm);

Result group_start();
Result group_end();

// Queued on the stream. Counts in elements; `count` of all_gather is what a member gives, of reduce_scatter what it gets, of all_to_all what a pair
// exchanges.
Result all_gather(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream);
Result reduce_scatter(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream);
Result all_reduce(const void* in, void* out, std::size_t count, Type type, Op op, Comm comm, Stream stream);
Result broadcast(const void* in, void* out, std::size_t count, Type type, int root, Comm comm, Stream stream);
/// @pre has_all_to_all().
Result all_to_all(const void* in, void* out, std::size_t count, Type type, Comm comm, Stream stream);
Result send(const void* in, std::size_t count, Type type, int peer, Comm comm, Stream stream);
Result receive(void* out, std::size_t count, Type type, int peer, Comm comm, Stream stream);

/// An operation that multiplies every contribution by `factor` and sums. Of this communicator and type. @pre a floating type.
Result make_premul_sum(Op& op, double factor, Type type, Comm comm);
Result destroy_op(Op op, Comm comm);

}  // namespace dtensor::comm::nccl
