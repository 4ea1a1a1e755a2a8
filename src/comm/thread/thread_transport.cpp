// SPDX-License-Identifier: Apache-2.0
#include "comm/thread/thread_transport.h"

#include <algorithm>
#include <utility>

#include "comm/thread/collective.h"

namespace dtensor::comm {

namespace {

constexpr std::size_t kMostPosted = 64;  // beyond, a post does what can be done

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Hub> hub, std::shared_ptr<Rendezvous> home, int member, int world_rank)
      : Communicator(member, home->ranks()), hub_(std::move(hub)), home_(std::move(home)), world_rank_(world_rank) {}

  void exchange(const Call& call, const Tensor& in, const Tensor& out, const redistribute::TransferRef& transfer) override {
    post(Form::exchange, call, in, out, transfer, {});
  }
  void reduce(const Call& call, const Tensor& in, const Tensor& out, const redistribute::TransferRef& transfer, const Reduction& reduction) override {
    post(Form::reduce, call, in, out, transfer, reduction);
  }
  void all_reduce(const Call& call, const Tensor& in, const Tensor& out, const Reduction& reduction) override {
    post(Form::all_reduce, call, in, out, nullptr, reduction);
  }
  void barrier(const Call& call) override {
    check_over(call);
    hub_->progress(world_rank_);
    const CollectiveRef c = arrive(Form::barrier, call, {});
    wait_for(*hub_, *c, rank(), true);
  }

 private:
  void check_over(const Call& call) {
    if (hub_->over().load(std::memory_order_acquire)) hub_->throw_over(call.kind, world_rank_);
  }

  void post(Form form, const Call& call, const Tensor& in, const Tensor& out, const redistribute::TransferRef& transfer, const Reduction& reduction) {
    check_over(call);
    local::Storage* source = in.storage();
    local::Storage* target = out.storage();
    const bool in_place = source == target;
    if (target != nullptr) target->before_write();
    if (source != nullptr && !in_place) source->before_read();
    Post p;
    p.transfer = transfer;
    p.reduction = reduction;
    if (source != nullptr) {
      p.in = static_cast<const std::byte*>(in.raw());
      p.in_hold = source->buffer_ref();
      p.in_numel = in.numel();
    }
    if (target != nullptr) {
      p.out = static_cast<std::byte*>(out.raw());
      p.out_hold = target->buffer_ref();
      p.out_numel = out.numel();
    }
    p.has_dtype = source != nullptr || target != nullptr;
    p.dtype = target != nullptr ? out.dtype() : in.dtype();
    const CollectiveRef c = arrive(form, call, std::move(p));
    if (size() == 1) {
      c->run_own(0);
      if (c->broken()) hub_->throw_over(call.kind, world_rank_);
      return;
    }
    const base::Ref<local::PendingWork> work(new ThreadWork(hub_, c, rank()));
    if (target != nullptr) target->buffer().add_writer(work);
    if (source != nullptr && !in_place) source->buffer().add_reader(work);
    remember(*c);
  }

  CollectiveRef arrive(Form form, const Call& call, Post&& post) {
    post.here = true;
    post.form = form;
    post.fingerprint = call.fingerprint;
    post.kind.assign(call.kind);
    post.detail.assign(call.detail);
    {
      RankRecord& r = hub_->record(world_rank_);
      const std::lock_guard lock(r.mutex);
      r.last_kind.assign(call.kind);
      if (r.last_group != home_->name()) r.last_group = home_->name();
      r.last_sequence = sequence_;
    }
    return home_->arrive(*hub_, rank(), sequence_++, std::move(post));
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
