// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/thread_transport.h"

#include <algorithm>
#include <utility>

#include "base/error_text.h"
#include "comm/thread/collective.h"

namespace dtensor::comm {

namespace {

constexpr std::size_t kMostPosted = 64;  // beyond, a post does what can be done

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Hub> hub, std::shared_ptr<Rendezvous> home, int member, int world_rank)
      : Communicator(member, home->ranks()), hub_(std::move(hub)), home_(std::move(home)), world_rank_(world_rank) {}

  void launch(std::string_view kind, std::span<const Operation> operations) override {
    check_over(kind);
    mine_.posts.resize(operations.size());
    for (std::size_t i = 0; i < operations.size(); ++i) fill(mine_.posts[i], operations[i]);
    const Device device = mine_.device();
    const bool on_device = device.kind == DeviceKind::cuda;
    if (on_device) make_ready(device);
    const CollectiveRef c = arrive(kind);
    if (size() == 1) {
      c->run_own(0);
      if (c->broken()) hub_->throw_over(kind, world_rank_);
      return;
    }
    const base::Ref<local::PendingWork> work(new ThreadWork(hub_, c, rank()));
    for (const Operation& o : operations) {
      local::Storage *source = storage_of(o.in), *target = storage_of(o.out);
      if (target != nullptr) target->buffer().add_writer(work);
      if (source != nullptr && source != target) source->buffer().add_reader(work);
    }
    if (!on_device) return remember(*c);
    // Whoever comes last queues all, so that devices need no rank any more.
    while (c->ready() && c->run_any(rank())) {}
  }
  void barrier(const Call& call) override {
    check_over(call.kind);
    hub_->progress(world_rank_);
    mine_.posts.clear();
    wait_for(*hub_, *arrive(call.kind), rank(), true);
  }

 private:
  void check_over(std::string_view kind) {
    if (hub_->over().load(std::memory_order_acquire)) hub_->throw_over(kind, world_rank_);
  }

  [[noreturn]] static void refuse_devices(Device one, Device other) {
    base::fail<InvalidArgument>("collective: its tensors are on several devices ({} and {}); move them to one with to() first", to_string(one),
                                to_string(other));
  }
  void make_ready(Device device) {
    for (const Post& p : mine_.posts)
      if (p.has_dtype && !(p.device == device)) refuse_devices(p.device, device);
    if (size() == 1) return;
    if (local::is_recording(device))
      base::fail<Unsupported>(
          "CudaGraph::record: ranks that are threads of one process order their devices by events of each other, which a graph cannot hold; record "
          "on one "
          "rank, or run one process per rank with NCCL");
    local::DeviceBackend& backend = local::require_cuda(device, "launch");
    mine_.ready = backend.record(*backend.current_stream(device));
  }

  static local::Storage* storage_of(const Tensor* t) noexcept { return t != nullptr ? t->storage() : nullptr; }

  static void fill(Post& p, const Operation& o) {
    local::Storage *source = storage_of(o.in), *target = storage_of(o.out);
    if (target != nullptr) target->before_write();
    if (source != nullptr && source != target) source->before_read();
    p.in = source != nullptr ? static_cast<const std::byte*>(o.in->raw()) : nullptr;
    p.in_hold = source != nullptr ? source->buffer_ref() : base::Ref<local::Buffer>();
    p.in_numel = source != nullptr ? o.in->numel() : 0;
    p.out = target != nullptr ? static_cast<std::byte*>(o.out->raw()) : nullptr;
    p.out_hold = target != nullptr ? target->buffer_ref() : base::Ref<local::Buffer>();
    p.out_numel = target != nullptr ? o.out->numel() : 0;
    p.has_dtype = source != nullptr || target != nullptr;
    if (p.has_dtype) p.dtype = target != nullptr ? o.out->dtype() : o.in->dtype();
    p.device = p.has_dtype ? (target != nullptr ? target : source)->buffer().device() : Device();
    if (target != nullptr && source != nullptr && !(source->buffer().device() == p.device)) refuse_devices(source->buffer().device(), p.device);
    if (o.transfer != nullptr) p.transfer = *o.transfer;
    else p.transfer.reset();
    p.reduction = o.reduction;
    p.form = o.form;
    p.fingerprint = o.fingerprint;
    p.detail.assign(o.detail);
  }

  CollectiveRef arrive(std::string_view kind) {
    mine_.kind.assign(kind);
    {
      RankRecord& r = hub_->record(world_rank_);
      const std::lock_guard lock(r.mutex);
      r.last_kind.assign(kind);
      if (r.last_group != home_->name()) r.last_group = home_->name();
      r.last_sequence = sequence_;
    }
    return home_->arrive(*hub_, rank(), sequence_++, mine_);
  }

  void remember(Collective& c) {
    RankRecord& r = hub_->record(world_rank_);
    if (r.posted.size() >= kMostPosted) hub_->progress(world_rank_);
    c.retain();
    r.posted.push_back({&c, rank()});
  }

  std::shared_ptr<Hub> hub_;
  std::shared_ptr<Rendezvous> home_;
  int world_rank_;
  std::uint64_t sequence_ = 0;
  Arrival mine_;  // filled, then swapped for one that was used before
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<Hub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}
  std::unique_ptr<Communicator> make(std::span<const int> ranks, std::string_view role) override {
    const auto member = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin());
    return std::make_unique<ThreadCommunicator>(hub_, hub_->meet(ranks, role), member, rank_);
  }

 private:
  std::shared_ptr<Hub> hub_;
  int rank_;
};

}  // namespace

std::unique_ptr<Transport> thread_transport(std::shared_ptr<Hub> hub, int rank) { return std::make_unique<ThreadTransport>(std::move(hub), rank); }

}  // namespace dtensor::comm
