// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/nccl_transport.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/error_text.h"
#include "base/hash.h"
#include "comm/nccl/group.h"
#include "comm/polled_work.h"
#include "local/storage.h"

namespace dtensor::comm::nccl {
namespace {

constexpr std::size_t kKept = 1024;  // lowered operations of a group

/// A result that belongs to the host.
struct HostResult {
  void* to = nullptr;
  base::Ref<local::Buffer> memory, staged;
  std::size_t bytes = 0;
};

class NcclWork final : public PolledWork {
 public:
  NcclWork(std::shared_ptr<NcclJob> job, std::shared_ptr<Launch> launch, std::vector<HostResult> results)
      : job_(std::move(job)), launch_(std::move(launch)), results_(std::move(results)) {}

  bool done() noexcept override { return results_.empty() && is_finished(); }
  void poll() override {
    if (!results_.empty() && is_finished()) finish();
  }
  void wait_output() override {
    order();
    if (results_.empty()) return;
    job_->wait_until(launch_->kind, [this] { return launch_->finished->done(); });
    finish();
  }
  void wait_input() override { order(); }

 private:
  bool is_finished() const noexcept { return launch_->issued.load(std::memory_order_acquire) && launch_->finished->done() && !job_->over().load(); }
  local::DeviceBackend& backend() const { return local::require_cuda(job_->options().device, "wait"); }

  // What the rank queues from now on comes after the launch; the host goes on.
  void order() {
    job_->check_over(launch_->kind);
    if (!launch_->issued.load(std::memory_order_acquire)) job_->wait_until(launch_->kind, [this] { return launch_->issued.load(); });
    backend().order_after(*backend().current_stream(job_->options().device), *launch_->finished);
  }
  void finish() {
    for (const HostResult& r : results_) backend().copy(r.to, Device::cpu(), r.staged->data(), job_->options().device, r.bytes);
    results_.clear();
  }

  std::shared_ptr<NcclJob> job_;
  std::shared_ptr<Launch> launch_;
  std::vector<HostResult> results_;
};

// Lowered operations by what they depend on. A transfer is kept, so that its address stays its own.
class Cache {
 public:
  std::shared_ptr<const Lowered> find(const Case& c, const redistribute::TransferRef* transfer) {
    std::uint64_t key = base::mix(reinterpret_cast<std::uintptr_t>(c.transfer), static_cast<std::uint64_t>(c.numel));
    for (const int n :
         {static_cast<int>(c.form), static_cast<int>(c.pattern), static_cast<int>(c.dtype), static_cast<int>(c.reduction.op), c.in_place ? 1 : 0})
      key = base::mix(key, static_cast<std::uint64_t>(n));
    key = base::mix(key, static_cast<std::uint64_t>(c.reduction.divisor));
    if (entries_.size() >= kKept) entries_.clear();
    auto& list = entries_[key];
    for (const Entry& e : list)
      if (e.same(c)) return e.lowered;
    list.push_back({c, transfer != nullptr ? *transfer : nullptr, std::make_shared<const Lowered>(lower(c))});
    return list.back().lowered;
  }

 private:
  struct Entry {
    Case c;
    redistribute::TransferRef transfer;
    std::shared_ptr<const Lowered> lowered;
    bool same(const Case& o) const {
      return c.transfer == o.transfer && c.numel == o.numel && c.form == o.form && c.pattern == o.pattern && c.dtype == o.dtype &&
             c.in_place == o.in_place && c.reduction.op == o.reduction.op && c.reduction.divisor == o.reduction.divisor;
    }
  };
  std::unordered_map<std::uint64_t, std::vector<Entry>> entries_;
};

// Elements from the first to the last of a tensor, whatever its strides.
std::int64_t extent(const Tensor& t) {
  if (t.numel() == 0) return 0;
  std::int64_t last = 0;
  for (int d = 0; d < t.ndim(); ++d) last += (t.shape()[d] - 1) * t.strides()[d];
  return last + 1;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclJob> job, std::span<const int> ranks, int member, std::string_view role)
      : Communicator(member, std::vector<int>(ranks.begin(), ranks.end())), job_(std::move(job)), device_(job_->options().device) {
    if (size() == 1) return;
    const RankLock lock(*job_);
    group_.emplace(*job_, std::vector<int>(ranks.begin(), ranks.end()), member, std::string(role));
    job_->add(*group_);
    side_ = std::make_shared<local::SideStream>(local::SideStream{group_->stream(), [this] { settle(); }});
    backend().add_side_stream(side_);
  }
  ~NcclCommunicator() override {
    if (!group_) return;
    side_.reset();
    try {
      settle();
    } catch (const Error&) {}  // the world is over: nothing is queued any more
    {
      const RankLock lock(*job_);
      job_->remove(*group_);
    }
    group_.reset();
  }

  void launch(std::string_view kind, std::span<const Operation> operations) override {
    job_->check_over(kind);
    check_devices(kind, operations);
    auto launch = std::make_shared<Launch>();
    launch->kind.assign(kind);
    std::vector<HostResult> results;
    for (const Operation& o : operations) prepare(o, *launch, results);
    for (const Operation& o : operations) {
      if (launch->detail.empty()) launch->detail.assign(o.detail);
      launch->fingerprint = base::mix(launch->fingerprint, o.fingerprint);
    }
    if (!group_) return run_alone(*launch, results);
    start(launch);
    const base::Ref<local::PendingWork> work(new NcclWork(job_, launch, std::move(results)));
    for (const Operation& o : operations) {
      local::Storage *source = storage_of(o.in), *target = storage_of(o.out);
      if (target != nullptr) target->buffer().add_writer(work);
      // What the host had has been copied.
      if (source != nullptr && source != target && source->buffer().device().kind == DeviceKind::cuda) source->buffer().add_reader(work);
    }
  }

  void barrier(const Call& call) override {
    job_->check_over(call.kind);
    if (!group_) return;
    if (local::is_recording(device_))
      base::fail<InvalidArgument>("{}: the host waits for other ranks, which no replay of a CUDA graph repeats; do it outside the body", call.kind);
    if (!token_) token_ = Tensor::zeros({1}, Dtype::i32, device_);
    const Operation o{.form = Form::all_reduce, .in = &token_, .out = &token_};
    auto launch = std::make_shared<Launch>();
    launch->kind.assign(call.kind);
    std::vector<HostResult> none;
    prepare(o, *launch, none);
    start(launch);
    job_->wait_until(call.kind, [&] { return launch->issued.load(std::memory_order_acquire) && launch->finished->done(); });
  }

 private:
  static local::Storage* storage_of(const Tensor* t) noexcept { return t != nullptr ? t->storage() : nullptr; }
  local::DeviceBackend& backend() const { return local::require_cuda(device_, "nccl"); }
  // Until all that was launched is queued.
  void settle() {
    job_->wait_until("end", [this] {
      const RankLock lock(*job_);
      return !group_->is_busy();
    });
  }

  void check_devices(std::string_view kind, std::span<const Operation> operations) const {
    for (const Operation& o : operations)
      for (const Tensor* t : {o.in, o.out}) {
        if (storage_of(t) == nullptr || t->device().kind == DeviceKind::cpu || t->device() == device_) continue;
        base::fail<InvalidArgument>("{}: a tensor is on {} and this rank communicates from {}; move it with to({})", kind, to_string(t->device()),
                                    to_string(device_), to_string(device_));
      }
  }

  void prepare(const Operation& o, Launch& launch, std::vector<HostResult>& results) {
    local::Storage *source = storage_of(o.in), *target = storage_of(o.out);
    if (target != nullptr) target->before_write();
    if (source != nullptr && source != target) source->before_read();
    if (source == nullptr && target == nullptr) return;
    Prepared p;
    p.dtype = target != nullptr ? o.out->dtype() : o.in->dtype();
    Case c{.form = o.form, .pattern = o.pattern, .dtype = p.dtype, .reduction = o.reduction, .rank = rank(), .size = size()};
    c.in_rank_order = job_->options().in_rank_order;
    c.all_to_all = job_->options().all_to_all;
    if (o.transfer != nullptr) c.transfer = o.transfer->get();
    else c.numel = o.out->numel();
    c.in_place = source == target && o.form == Form::all_reduce;
    p.lowered = lowered_.find(c, o.transfer);
    p.reduction = o.reduction;
    const std::int64_t bytes = info(p.dtype).bytes;
    if (target != nullptr) {
      p.places[1] = on_device(*o.out, launch);
      if (o.out->device().kind == DeviceKind::cpu && o.out->numel() > 0)
        results.push_back({o.out->raw(), target->buffer_ref(), launch.memory.back(), static_cast<std::size_t>(o.out->bytes())});
    }
    if (source != nullptr) p.places[0] = source == target && o.in->raw() == o.out->raw() ? p.places[1] : on_device(*o.in, launch);
    p.places[2] = scratch(p.lowered->packed * bytes, launch);
    p.places[3] = scratch(p.lowered->received * bytes, launch);
    launch.operations.push_back(std::move(p));
  }

  // Memory of the device with the tensor's elements: its own, or a copy of what the host has.
  std::byte* on_device(const Tensor& t, Launch& launch) {
    if (t.device().kind == DeviceKind::cuda) {
      launch.memory.push_back(t.storage()->buffer_ref());
      return static_cast<std::byte*>(t.raw());
    }
    const std::int64_t bytes = extent(t) * info(t.dtype()).bytes;
    std::byte* const memory = scratch(bytes, launch);
    if (bytes != 0) backend().copy(memory, device_, t.raw(), Device::cpu(), static_cast<std::size_t>(bytes));
    return memory;
  }
  std::byte* scratch(std::int64_t bytes, Launch& launch) {
    if (bytes == 0) return nullptr;
    launch.memory.push_back(backend().allocate(static_cast<std::size_t>(bytes), device_));
    return static_cast<std::byte*>(launch.memory.back()->data());
  }

  void run_alone(Launch& launch, std::vector<HostResult>& results) {
    const local::DeviceStreamRef stream = backend().current_stream(device_);
    queue_packs(launch, backend(), *stream);
    queue_combinations(launch, backend(), *stream);
    queue_unpacks(launch, backend(), *stream);
    for (const HostResult& r : results) backend().copy(r.to, Device::cpu(), r.staged->data(), device_, r.bytes);
  }

  void start(const std::shared_ptr<Launch>& launch) {
    launch->ready = backend().record(*backend().current_stream(device_));
    if (local::is_recording(device_)) launch->recorder = std::this_thread::get_id();
    {
      const RankLock lock(*job_);
      if (!job_->over().load()) try {
          launch->sequence = group_->next_sequence();
          job_->note_launch(launch, group_->name());
          job_->queue(*group_, launch);
        } catch (const std::exception& e) { job_->end(e.what()); }
    }
    job_->check_over(launch->kind);
    if (launch->issued.load(std::memory_order_relaxed)) return;
    if (launch->recorder == std::thread::id()) return job_->hurry();
    // What the body queues next may wait for it.
    job_->wait_until(launch->kind, [&] { return launch->issued.load(std::memory_order_acquire); });
  }

  std::shared_ptr<NcclJob> job_;
  Device device_;
  std::optional<Group> group_;
  std::shared_ptr<local::SideStream> side_;
  Cache lowered_;
  Tensor token_;
};

class NcclTransport final : public Transport {
 public:
  explicit NcclTransport(std::shared_ptr<NcclJob> job) : job_(std::move(job)) {}
  std::unique_ptr<Communicator> make(std::span<const int> ranks, std::string_view role) override {
    const auto member = static_cast<int>(std::find(ranks.begin(), ranks.end(), job_->options().rank) - ranks.begin());
    return std::make_unique<NcclCommunicator>(job_, ranks, member, role);
  }

 private:
  std::shared_ptr<NcclJob> job_;
};

}  // namespace

std::unique_ptr<Transport> nccl_transport(std::shared_ptr<NcclJob> job) { return std::make_unique<NcclTransport>(std::move(job)); }

}  // namespace dtensor::comm::nccl
