// SPDX-License-Identifier: Apache-2.0
// World: this rank's view of the job. run() starts a program on all ranks; inside, each rank has its own World.
//
// Ranks are threads of this process: globals and statics are shared by all of them (use RankLocal), the body is one object called by all at once, and
// std::exit would run static destructors under live threads (return instead). `fork`, `setenv` and `chdir` act on the whole process: before run().
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/mesh.h"
#include "dtensor/text.h"
#include "dtensor/values.h"

namespace dtensor {

class Communicator;
class ThreadGroup;
struct Topology;
namespace world {
struct WorldData;
}

/// What carries tensors between ranks that are threads of one process.
enum class Backend : std::uint8_t {
  threads,  ///< memory that all of them see, of the CPU or of GPUs
  nccl,     ///< NCCL; every rank has a GPU to itself
};
/// For RunOptions::device: rank i has GPU i, counted around; under a launcher, the GPU of its number on its machine.
inline constexpr Device kOwnCuda{DeviceKind::cuda, -1};

struct RunOptions {
  int ranks = 0;                       ///< 0: one, or what --ranks says
  std::optional<Device> device = {};   ///< of World::device(); none: the CPU
  double time_limit_s = 300;           ///< of a wait in which no other rank arrives; 0: none. DTENSOR_TIME_LIMIT and --time-limit win
  int threads_per_rank = 0;            ///< for kernels; 0: cores / ranks, at least one
  double grace_s = -1;                 ///< after an error, how long a rank may go on without a library call before the process leaves by
                                       ///< _Exit(1); negative: the time limit; 0: for ever
  Backend backend = Backend::threads;  ///< --backend wins. Under a launcher ranks are processes, over NCCL
};

/// Bound to one thread at a time: run(), join() and fake() bind the calling thread. Destroyed on any thread, never throws.
class DTENSOR_EXPORT World {
 public:
  World(World&& other) noexcept;
  World& operator=(World&& other) noexcept;
  ~World();

  // Local.
  int rank() const noexcept;
  int size() const noexcept;
  Device device() const noexcept;
  /// argv without the options that run() took; args()[0] is the program.
  std::span<const std::string> args() const noexcept;
  /// A mesh over `ranks` (empty: 0 .. product-1, row-major). One size may be -1: what is left of the world. Every rank makes it alike.
  /// @throws InvalidArgument: "mesh: ...".
  DeviceMesh mesh(std::initializer_list<MeshAxis> axes, std::span<const int> ranks = {}) const;
  DeviceMesh mesh(std::span<const MeshAxis> axes, std::span<const int> ranks = {}) const;
  /// Collectives among the ranks along `axes` of the mesh (see dtensor/comm.h).
  Communicator communicator(const DeviceMesh& mesh, const AxisNames& axes) const;
  /// The texts and a line end if there is none, on rank 0 only, in one write to standard output. Arguments are evaluated on all ranks, so that one of
  /// them may be a collective.
  void print(std::initializer_list<Text> texts) const;
  /// Under which redistribute plans its moves; Topology() until set_topology.
  const Topology& topology() const;
  /// On every rank, "[rank 2] " in front of each line, in one write to standard output.
  void log(std::initializer_list<Text> texts) const;

  // Collective over all ranks.
  /// Returns when all ranks have come.
  void barrier();
  /// True on all ranks when `here` is true on any.
  bool any(bool here);
  /// True on all ranks, at the same call, once the process has got SIGINT or SIGTERM. The first call installs the handlers (for the rest of the
  /// world's life); a second signal ends the process.
  bool stop_requested();
  /// From here on redistribute plans its moves under this topology (see dtensor/topology.h), the same on all ranks. Placements that ops give do not depend
  /// on it. @throws InvalidArgument on all ranks for ranks that give different ones (showing two), bad figures, or fewer hosts than the world has.
  void set_topology(const Topology& topology);
  /// f() on rank 0, then on rank 1, ...: for files and downloads.
  template <class F>
  void in_turn(F&& f) {
    for (int turn = 0; turn < size(); ++turn) {
      if (turn == rank()) f();
      barrier();
    }
  }

  /// While it lives, the calling thread is this rank. Entered and left in stack order.
  class DTENSOR_EXPORT Entered {
   public:
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;
    ~Entered();

   private:
    friend class World;
    explicit Entered(world::WorldData* data);
    world::WorldData* data_;
    void* before_;
  };
  /// Rank state (meshes' coordinates, caches, RankLocal values, scopes) follows. @throws InvalidArgument when another thread is inside.
  [[nodiscard]] Entered enter();

  /// The calling thread becomes `rank` of the group. Destroying the World while an exception unwinds ends the group's run.
  /// @throws InvalidArgument when the rank is out of range or taken, or the thread is a rank already.
  static World join(ThreadGroup& group, int rank);
  /// Rank `rank` of a world of `size`, alone: collectives end at once and fill their results deterministically from this rank's input; tensors on the
  /// meta device carry shapes only. For planning and dry runs.
  static World fake(int rank, int size);

 private:
  friend struct world::WorldData;
  explicit World(std::unique_ptr<world::WorldData> data) noexcept;
  std::unique_ptr<world::WorldData> data_;
};

/// Ranks that are threads of the application: each calls World::join with a rank of its own.
class DTENSOR_EXPORT ThreadGroup {
 public:
  /// options.ranks ranks. @throws InvalidArgument for less than one.
  explicit ThreadGroup(const RunOptions& options);
  ThreadGroup(const ThreadGroup&) = delete;
  ThreadGroup& operator=(const ThreadGroup&) = delete;
  ~ThreadGroup();
  int size() const noexcept;
  /// Throws the first error of the group's ranks, if there was one.
  void rethrow() const;

 private:
  friend class World;
  struct Data;
  std::unique_ptr<Data> data_;
};

/// Refers to int(World&) or void(World&) and owns nothing. It is called by all ranks at the same time, so it must be callable as const: a mutable
/// lambda does not compile.
class RankBody {
 public:
  template <class F>
  requires(!std::is_same_v<F, RankBody> && std::is_invocable_v<const F&, World&> &&
           (std::is_void_v<std::invoke_result_t<const F&, World&>> || std::is_same_v<std::invoke_result_t<const F&, World&>, int>))
      RankBody(const F& body)  // NOLINT(google-explicit-constructor)
      : call_([](const Target& target, World& world) {
          const F& f = *[&] {
            if constexpr (std::is_function_v<F>) return reinterpret_cast<F*>(target.function);
            else return static_cast<const F*>(target.object);
          }();
          if constexpr (std::is_void_v<std::invoke_result_t<const F&, World&>>) {
            f(world);
            return 0;
          } else {
            return f(world);
          }
        }) {
    if constexpr (std::is_function_v<F>) target_.function = reinterpret_cast<void (*)()>(&body);
    else target_.object = std::addressof(body);
  }
  int operator()(World& world) const { return call_(target_, world); }

 private:
  union Target {
    const void* object;
    void (*function)();
  };
  Target target_{};
  int (*call_)(const Target&, World&);
};

/// For main(): runs body on `--ranks N` threads (rank 0 is the calling thread) and returns the largest code; on an error prints the first one once and
/// returns 1. Takes --ranks N, --threads N (per rank), --time-limit S, --device cpu|cuda|cuda:N (cuda: kOwnCuda; cuda:N: of all ranks) and
/// --backend threads|nccl from the arguments, up to "--".
DTENSOR_EXPORT int run(int argc, char** argv, RankBody body, const RunOptions& defaults = {}) noexcept;
/// The same for tests and embedding: no arguments; throws the first error once all ranks have ended.
/// @throws InvalidArgument when called on a rank.
DTENSOR_EXPORT void run_ranks(const RunOptions& options, RankBody body);
/// run_ranks with one result per rank, in rank order.
template <class F>
auto collect(const RunOptions& options, const F& body) {
  using Result = std::invoke_result_t<const F&, World&>;
  std::vector<std::optional<Result>> slots(static_cast<std::size_t>(options.ranks > 0 ? options.ranks : 1));
  run_ranks(options, [&](World& world) { slots[static_cast<std::size_t>(world.rank())].emplace(body(world)); });
  std::vector<Result> results;
  for (std::optional<Result>& slot : slots) results.push_back(std::move(*slot));
  return results;
}

namespace world {
/// The calling rank's value of a RankLocal: made by `make` at first use. @throws InvalidArgument on a thread that is no rank.
DTENSOR_EXPORT void* rank_local(std::uint64_t key, std::shared_ptr<void> (*make)());
DTENSOR_EXPORT std::uint64_t next_rank_local() noexcept;
}  // namespace world

/// One T per rank, default-constructed at the rank's first use and destroyed with the rank. May be a global or static; follows World::enter.
template <class T>
class RankLocal {
 public:
  RankLocal() : key_(world::next_rank_local()) {}
  RankLocal(const RankLocal&) = delete;
  RankLocal& operator=(const RankLocal&) = delete;
  T& get() const {
    return *static_cast<T*>(world::rank_local(key_, [] { return std::shared_ptr<void>(std::make_shared<T>()); }));
  }
  T& operator*() const { return get(); }
  T* operator->() const { return &get(); }

 private:
  std::uint64_t key_;
};

}  // namespace dtensor
