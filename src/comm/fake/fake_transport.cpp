// SPDX-License-Identifier: Apache-2.0
#include "comm/fake/fake_transport.h"

#include <algorithm>

#include "local/copy.h"
#include "local/device.h"
#include "local/storage.h"

namespace dtensor::comm {

namespace {

using redistribute::Piece;
using redistribute::Transfer;

const Piece* find_send(const Transfer& transfer, const Piece& receive, int self, std::size_t number) {
  const Piece* own = nullptr;
  const Piece* theirs = nullptr;
  const Piece* any = nullptr;
  std::size_t seen = 0;
  for (const Piece& send : transfer.sends) {
    const bool fits = send.sizes == receive.sizes;
    if (send.peer == self && (seen++ == number || own == nullptr) && fits) own = &send;
    if (send.peer == receive.peer && fits && theirs == nullptr) theirs = &send;
    if (fits && any == nullptr) any = &send;
  }
  return own != nullptr ? own : theirs != nullptr ? theirs : any;
}

class FakeCommunicator final : public Communicator {
 public:
  FakeCommunicator(int rank, std::span<const int> ranks) : Communicator(rank, std::vector<int>(ranks.begin(), ranks.end())) {}

  void launch(std::string_view, std::span<const Operation> operations) override {
    const Tensor none;
    for (const Operation& o : operations) {
      const Tensor &in = o.in != nullptr ? *o.in : none, &out = o.out != nullptr ? *o.out : none;
      if (o.form == Form::all_reduce) copy(in, out);
      else fill(in, out, **o.transfer);
    }
  }
  void barrier(const Call&) override {}

 private:
  static void copy(const Tensor& in, const Tensor& out) {
    if (!out || out.storage() == in.storage() || out.device().kind == DeviceKind::meta) return;
    out.storage()->before_write();
    in.storage()->before_read();
    const Shape strides = contiguous_strides(out.shape());
    copy_box(out, out.raw(), strides, in.raw(), strides, out.shape());
  }
  static void copy_box(const Tensor& out, void* to, const Shape& to_strides, const void* from, const Shape& from_strides, const Shape& sizes) {
    if (out.device().kind == DeviceKind::cuda)
      local::require_cuda(out.device(), "fake").convert_box(to, out.dtype(), to_strides, from, out.dtype(), from_strides, sizes, out.device());
    else local::copy_box(to, to_strides, from, from_strides, sizes, static_cast<std::size_t>(info(out.dtype()).bytes));
  }
  static void fill_box(const Tensor& out, void* to, const Shape& strides, const Shape& sizes) {
    if (out.device().kind == DeviceKind::cuda) local::require_cuda(out.device(), "fake").fill_box(to, out.dtype(), strides, sizes, 0, out.device());
    else local::fill_box(to, out.dtype(), strides, sizes, 0);
  }

  // Contributions to one box write the same bytes: the last one stays.
  void fill(const Tensor& in, const Tensor& out, const Transfer& transfer) {
    if (!out || out.device().kind == DeviceKind::meta) return;
    out.storage()->before_write();
    if (in) in.storage()->before_read();
    const std::int64_t bytes = info(out.dtype()).bytes;
    std::vector<std::size_t> numbers(static_cast<std::size_t>(size()), 0);
    for (const Piece& piece : transfer.receives) {
      const Piece* send = find_send(transfer, piece, rank(), numbers[static_cast<std::size_t>(piece.peer)]++);
      auto* to = static_cast<std::byte*>(out.raw()) + piece.offset * bytes;
      if (send == nullptr || !in || in.dtype() != out.dtype()) {
        fill_box(out, to, piece.strides, piece.sizes);
      } else {
        copy_box(out, to, piece.strides, static_cast<const std::byte*>(in.raw()) + send->offset * bytes, send->strides, piece.sizes);
      }
    }
  }
};

class FakeTransport final : public Transport {
 public:
  explicit FakeTransport(int rank) : rank_(rank) {}
  std::unique_ptr<Communicator> make(std::span<const int> ranks, std::string_view) override {
    return std::make_unique<FakeCommunicator>(static_cast<int>(std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin()), ranks);
  }

 private:
  int rank_;
};

}  // namespace

std::unique_ptr<Transport> fake_transport(int rank) { return std::make_unique<FakeTransport>(rank); }

}  // namespace dtensor::comm
