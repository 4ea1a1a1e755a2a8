// SPDX-License-Identifier: Apache-2.0
// The public verbs: each builds the pieces of one exchange or reduction.
#include <algorithm>
#include <utility>

#include "base/error_text.h"
#include "base/hash.h"
#include "comm/communicator.h"
#include "comm/polled_work.h"
#include "dtensor/comm.h"
#include "local/reduce_boxes.h"
#include "local/storage.h"

namespace dtensor {

namespace comm {

struct WorkData {
  struct Pending {
    base::Ref<local::PendingWork> work;
    Tensor tensor;
  };
  std::vector<Pending> pending;
};

namespace {

using redistribute::Piece;
using redistribute::Transfer;

constexpr std::string_view kRole = "user";

std::shared_ptr<const Transfer> shared(Transfer&& transfer) { return std::make_shared<const Transfer>(std::move(transfer)); }

std::uint64_t fingerprint(std::initializer_list<std::int64_t> numbers, const Tensor& tensor, int without_dim = -1) {
  std::uint64_t h = static_cast<std::uint64_t>(tensor.dtype());
  for (const std::int64_t n : numbers) h = base::mix(h, static_cast<std::uint64_t>(n));
  for (int d = 0; d < tensor.ndim(); ++d)
    if (d != without_dim) h = base::mix(h, static_cast<std::uint64_t>(tensor.shape()[d]));
  return h;
}

std::string described(const Tensor& tensor) { return to_string(tensor.dtype()) + to_string(tensor.shape()); }

Shape with_size(Shape shape, int dim, std::int64_t size) {
  shape[dim] = size;
  return shape;
}

// The slice [begin, begin + size) along `dim` of a row-major tensor.
Piece slice(int peer, const Shape& shape, int dim, std::int64_t begin, std::int64_t size) {
  const Shape strides = contiguous_strides(shape);
  return {.peer = peer, .offset = begin * strides[dim], .sizes = with_size(shape, dim, size), .strides = strides};
}

Piece whole(int peer, const Shape& shape) { return {.peer = peer, .offset = 0, .sizes = shape, .strides = contiguous_strides(shape)}; }

std::vector<std::int64_t> chunks(std::int64_t n, int parts) {
  std::vector<std::int64_t> sizes;
  const std::int64_t chunk = (n + parts - 1) / parts;
  for (int p = 0; p < parts; ++p) sizes.push_back(std::min(n, (p + 1) * chunk) - std::min(n, p * chunk));
  return sizes;
}

std::vector<std::int64_t> checked_sizes(const char* op, const std::vector<std::int64_t>& sizes, int members, std::int64_t total) {
  if (sizes.empty()) return chunks(total, members);
  if (static_cast<int>(sizes.size()) != members)
    base::fail<InvalidArgument>("{}: one size per member ({} sizes, {} members); give as many as the group has", op, sizes.size(), members);
  std::int64_t sum = 0;
  for (const std::int64_t size : sizes) {
    if (size < 0) base::fail<InvalidArgument>("{}: a size is negative ([{}]); sizes are at least 0", op, fmt::join(sizes, ", "));
    sum += size;
  }
  if (sum != total)
    base::fail<InvalidArgument>("{}: sizes do not add up to the dimension ([{}] is {}, the dimension has {}); correct the sizes", op,
                                fmt::join(sizes, ", "), sum, total);
  return sizes;
}

void check_tensor(const char* op, const Tensor& tensor) {
  if (!tensor) base::fail<InvalidArgument>("{}: the tensor is empty; pass one with a shape and a dtype", op);
}
void check_row_major(const char* op, const Tensor& tensor) {
  check_tensor(op, tensor);
  if (!tensor.is_contiguous())
    base::fail<InvalidArgument>("{}: the tensor is not row-major (shape {}, strides {}); use contiguous()", op, to_string(tensor.shape()),
                                to_string(tensor.strides()));
}
void check_member(const char* op, const char* what, int member, int size) {
  if (member < 0 || member >= size)
    base::fail<InvalidArgument>("{}: there is no {} {} in a group of {}; members are 0 to {}", op, what, member, size, size - 1);
}
void check_dims(const char* op, const Tensor& tensor) {
  if (tensor.ndim() == 0)
    base::fail<InvalidArgument>("{}: a tensor without dimensions cannot be cut or joined ({}); use view({{1}})", op, described(tensor));
}

Reduction reduction(const char* op, ReduceOp reduce, Dtype dtype, int members) {
  if (!local::is_reducible(reduce, dtype))
    base::fail<InvalidArgument>("{}: {} of {} does not exist; convert the tensor with to() first", op, to_string(reduce), to_string(dtype));
  if (reduce == ReduceOp::avg) return {ReduceOp::sum, members};
  return {reduce, 1};
}

void add_last(WorkData& data, const std::vector<base::Ref<local::PendingWork>>& works, const Tensor& tensor) {
  if (!works.empty()) data.pending.push_back({works.back(), tensor});
}

}  // namespace
}  // namespace comm

using comm::WorkData;
using redistribute::Transfer;

Work::Work() noexcept = default;
Work::Work(std::unique_ptr<WorkData> data) noexcept : data_(std::move(data)) {}
Work::Work(Work&&) noexcept = default;
Work& Work::operator=(Work&&) noexcept = default;
Work::~Work() = default;

void Work::wait() {
  if (!data_) return;
  while (!data_->pending.empty()) {
    data_->pending.back().work->wait_output();
    data_->pending.back().work->wait_input();
    data_->pending.pop_back();
  }
}

bool Work::done() const {
  if (!data_) return true;
  return std::all_of(data_->pending.begin(), data_->pending.end(), [](const WorkData::Pending& p) {
    if (p.work->done()) return true;
    if (auto* polled = dynamic_cast<comm::PolledWork*>(p.work.get())) polled->poll();
    return p.work->done();
  });
}

Communicator Communicator::of(const DeviceMesh& mesh, const AxisNames& axes) {
  const DeviceMesh part = mesh[axes];
  if (!part.contains_this_rank())
    base::fail<InvalidArgument>("Communicator::of: this rank is outside the mesh ({}); call it on the mesh's ranks", to_string(mesh));
  return Communicator(&comm::group(part.ranks(), comm::kRole));
}
Communicator Communicator::of(const DeviceMesh& mesh) {
  return of(mesh, AxisNames(std::vector<std::string>(mesh.names().begin(), mesh.names().end())));
}

int Communicator::rank() const noexcept { return communicator_->rank(); }
int Communicator::size() const noexcept { return communicator_->size(); }
std::span<const int> Communicator::ranks() const noexcept { return communicator_->ranks(); }
bool Communicator::is_reducible(ReduceOp op, Dtype dtype) noexcept { return local::is_reducible(op, dtype); }

Tensor Communicator::all_reduce(const Tensor& input, ReduceOp op) const {
  comm::check_tensor("all_reduce", input);
  const comm::Reduction how = comm::reduction("all_reduce", op, input.dtype(), size());
  const Tensor in = input.contiguous();
  Tensor out = Tensor::empty(input.shape(), input.dtype(), input.device());
  communicator_->all_reduce({"all_reduce", comm::fingerprint({static_cast<int>(op)}, in), comm::described(in)}, in, out, how);
  return out;
}

Work Communicator::all_reduce_(const Tensor& tensor, ReduceOp op) const {
  comm::check_row_major("all_reduce_", tensor);
  const comm::Reduction how = comm::reduction("all_reduce_", op, tensor.dtype(), size());
  communicator_->all_reduce({"all_reduce_", comm::fingerprint({static_cast<int>(op)}, tensor), comm::described(tensor)}, tensor, tensor, how);
  tensor.bump_version();
  auto data = std::make_unique<WorkData>();
  comm::add_last(*data, tensor.storage()->buffer().writers, tensor);
  return Work(std::move(data));
}

// Everybody's tensor at the root, or (root < 0) everywhere.
Tensor Communicator::join(const Tensor& input, int root, int dim, const AllGatherOptions& options, const char* op) const {
  comm::check_tensor(op, input);
  comm::check_dims(op, input);
  const int d = normalize_dim(dim, input.ndim(), op);
  const std::int64_t mine = input.shape()[d];
  std::vector<std::int64_t> sizes = options.sizes;
  if (!sizes.empty()) {
    if (static_cast<int>(sizes.size()) != size())
      base::fail<InvalidArgument>("{}: one size per member ({} sizes, {} members); give as many as the group has", op, sizes.size(), size());
    if (sizes[static_cast<std::size_t>(rank())] != mine)
      base::fail<InvalidArgument>("{}: this member's size is another (sizes [{}], member {} has {}); correct the sizes", op, fmt::join(sizes, ", "),
                                  rank(), mine);
  } else if (options.exchange_sizes) {
    const Tensor all = all_gather(Tensor::of<std::int64_t>(std::vector<std::int64_t>{mine}, {1}));
    const auto values = all.values<const std::int64_t>();
    sizes.assign(values.begin(), values.end());
  } else {
    sizes.assign(static_cast<std::size_t>(size()), mine);
  }
  std::int64_t total = 0;
  for (const std::int64_t size : sizes) total += size;
  Transfer transfer;
  const bool receives = root < 0 || root == rank();
  const Shape joined = comm::with_size(input.shape(), d, total);
  for (int peer = 0; peer < size(); ++peer)
    if (root < 0 || root == peer) transfer.sends.push_back(comm::whole(peer, input.shape()));
  std::int64_t at = 0;
  std::uint64_t agreed = comm::fingerprint({d, root, total}, input, d);
  for (int peer = 0; peer < size(); ++peer) {
    const std::int64_t n = sizes[static_cast<std::size_t>(peer)];
    if (receives) transfer.receives.push_back(comm::slice(peer, joined, d, at, n));
    at += n;
    agreed = base::mix(agreed, static_cast<std::uint64_t>(n));
  }
  const Tensor in = input.contiguous();
  Tensor out = receives ? Tensor::empty(joined, input.dtype(), input.device()) : Tensor();
  communicator_->exchange({op, agreed, comm::described(input)}, in, out, comm::shared(std::move(transfer)),
                          root < 0 ? comm::Pattern::all_gather : comm::Pattern::any);
  return out;
}

Tensor Communicator::all_gather(const Tensor& input, int dim, const AllGatherOptions& options) const {
  return join(input, -1, dim, options, "all_gather");
}

Tensor Communicator::gather(const Tensor& input, int root, int dim, const AllGatherOptions& options) const {
  comm::check_member("gather", "root", root, size());
  return join(input, root, dim, options, "gather");
}

Tensor Communicator::reduce_scatter(const Tensor& input, ReduceOp op, int dim, const ReduceScatterOptions& options) const {
  comm::check_tensor("reduce_scatter", input);
  comm::check_dims("reduce_scatter", input);
  const comm::Reduction how = comm::reduction("reduce_scatter", op, input.dtype(), size());
  const int d = normalize_dim(dim, input.ndim(), "reduce_scatter");
  const std::vector<std::int64_t> sizes = comm::checked_sizes("reduce_scatter", options.sizes, size(), input.shape()[d]);
  const Shape part = comm::with_size(input.shape(), d, sizes[static_cast<std::size_t>(rank())]);
  Transfer transfer;
  std::int64_t at = 0;
  std::uint64_t agreed = comm::fingerprint({d, static_cast<int>(op)}, input);
  for (int peer = 0; peer < size(); ++peer) {
    const std::int64_t n = sizes[static_cast<std::size_t>(peer)];
    transfer.sends.push_back(comm::slice(peer, input.shape(), d, at, n));
    transfer.receives.push_back(comm::whole(peer, part));
    at += n;
    agreed = base::mix(agreed, static_cast<std::uint64_t>(n));
  }
  const Tensor in = input.contiguous();
  Tensor out = Tensor::empty(part, input.dtype(), input.device());
  communicator_->reduce({"reduce_scatter", agreed, comm::described(in)}, in, out, comm::shared(std::move(transfer)), how,
                        comm::Pattern::reduce_scatter);
  return out;
}

Tensor Communicator::all_to_all(const Tensor& input, int split_dim, int concat_dim, const AllToAllOptions& options) const {
  comm::check_tensor("all_to_all", input);
  comm::check_dims("all_to_all", input);
  const int s = normalize_dim(split_dim, input.ndim(), "all_to_all"), c = normalize_dim(concat_dim, input.ndim(), "all_to_all");
  const std::vector<std::int64_t> sent = comm::checked_sizes("all_to_all", options.send_sizes, size(), input.shape()[s]);
  if (!options.receive_sizes.empty() && static_cast<int>(options.receive_sizes.size()) != size())
    base::fail<InvalidArgument>("all_to_all: one receive size per member ({} sizes, {} members); give as many as the group has",
                                options.receive_sizes.size(), size());
  // What comes has this rank's share along split_dim and, where the dims differ, the sender's extent along concat_dim.
  const std::int64_t share = sent[static_cast<std::size_t>(rank())];
  std::vector<std::int64_t> received = options.receive_sizes;
  if (received.empty()) received.assign(static_cast<std::size_t>(size()), s == c ? share : input.shape()[c]);
  Shape shape = comm::with_size(input.shape(), s, share);
  shape[c] = 0;
  for (const std::int64_t n : received) shape[c] += n;
  Transfer transfer;
  std::int64_t from = 0, to = 0;
  for (int peer = 0; peer < size(); ++peer) {
    const auto p = static_cast<std::size_t>(peer);
    transfer.sends.push_back(comm::slice(peer, input.shape(), s, from, sent[p]));
    transfer.receives.push_back(comm::slice(peer, shape, c, to, received[p]));
    from += sent[p];
    to += received[p];
  }
  const Tensor in = input.contiguous();
  Tensor out = Tensor::empty(shape, input.dtype(), input.device());
  // Sizes that are not given are those of a tensor that all members have alike.
  const bool equal = options.send_sizes.empty() && options.receive_sizes.empty() && input.shape()[s] % size() == 0;
  communicator_->exchange({"all_to_all", base::mix(static_cast<std::uint64_t>(s), static_cast<std::uint64_t>(c)), comm::described(in)}, in, out,
                          comm::shared(std::move(transfer)), equal ? comm::Pattern::all_to_all : comm::Pattern::any);
  return out;
}

Tensor Communicator::broadcast(const Tensor& input, int root) const {
  comm::check_tensor("broadcast", input);
  comm::check_member("broadcast", "root", root, size());
  Transfer transfer;
  if (root == rank())
    for (int peer = 0; peer < size(); ++peer) transfer.sends.push_back(comm::whole(peer, input.shape()));
  transfer.receives.push_back(comm::whole(root, input.shape()));
  Tensor out = Tensor::empty(input.shape(), input.dtype(), input.device());
  const Tensor in = root == rank() ? input.contiguous() : Tensor();
  communicator_->exchange({"broadcast", comm::fingerprint({root}, input), comm::described(input)}, in, out, comm::shared(std::move(transfer)),
                          comm::Pattern::broadcast);
  return out;
}

Work Communicator::broadcast_(const Tensor& tensor, int root) const {
  comm::check_row_major("broadcast_", tensor);
  comm::check_member("broadcast_", "root", root, size());
  Transfer transfer;
  const bool sends = root == rank();
  if (!sends) transfer.receives.push_back(comm::whole(root, tensor.shape()));
  for (int peer = 0; sends && peer < size(); ++peer)
    if (peer != root) transfer.sends.push_back(comm::whole(peer, tensor.shape()));
  communicator_->exchange({"broadcast_", comm::fingerprint({root}, tensor), comm::described(tensor)}, sends ? tensor : Tensor(),
                          sends ? Tensor() : tensor, comm::shared(std::move(transfer)), comm::Pattern::broadcast);
  auto data = std::make_unique<WorkData>();
  if (!sends) tensor.bump_version();
  comm::add_last(*data, sends ? tensor.storage()->buffer().readers : tensor.storage()->buffer().writers, tensor);
  return Work(std::move(data));
}

Tensor Communicator::scatter(const Tensor& input, int root, int dim, const ScatterOptions& options) const {
  comm::check_tensor("scatter", input);
  comm::check_dims("scatter", input);
  comm::check_member("scatter", "root", root, size());
  const int d = normalize_dim(dim, input.ndim(), "scatter");
  const std::vector<std::int64_t> sizes = comm::checked_sizes("scatter", options.sizes, size(), input.shape()[d]);
  const Shape part = comm::with_size(input.shape(), d, sizes[static_cast<std::size_t>(rank())]);
  Transfer transfer;
  std::int64_t at = 0;
  std::uint64_t agreed = comm::fingerprint({root, d}, input);
  for (int peer = 0; peer < size(); ++peer) {
    const std::int64_t n = sizes[static_cast<std::size_t>(peer)];
    if (root == rank()) transfer.sends.push_back(comm::slice(peer, input.shape(), d, at, n));
    at += n;
    agreed = base::mix(agreed, static_cast<std::uint64_t>(n));
  }
  transfer.receives.push_back(comm::whole(root, part));
  const Device device = input.device().kind == DeviceKind::meta && root != rank() ? base::require_rank("scatter").device : input.device();
  const Tensor in = root == rank() ? input.contiguous() : Tensor();
  Tensor out = Tensor::empty(part, input.dtype(), device);
  communicator_->exchange({"scatter", agreed, comm::described(input)}, in, out, comm::shared(std::move(transfer)));
  return out;
}

Tensor Communicator::permute(const Tensor& input, std::span<const int> destination) const {
  comm::check_tensor("permute", input);
  if (static_cast<int>(destination.size()) != size())
    base::fail<InvalidArgument>("permute: one destination per member ({} given, {} members); use -1 for nobody", destination.size(), size());
  std::uint64_t agreed = comm::fingerprint({}, input);
  std::vector<bool> used(destination.size(), false);
  Transfer transfer;
  for (std::size_t from = 0; from < destination.size(); ++from) {
    const int to = destination[from];
    agreed = base::mix(agreed, static_cast<std::uint64_t>(to) + 1);
    if (to == -1) continue;
    comm::check_member("permute", "destination", to, size());
    if (used[static_cast<std::size_t>(to)])
      base::fail<InvalidArgument>("permute: two members send to member {} ([{}]); destinations are distinct", to, fmt::join(destination, ", "));
    used[static_cast<std::size_t>(to)] = true;
    if (static_cast<int>(from) == rank()) transfer.sends.push_back(comm::whole(to, input.shape()));
    if (to == rank()) transfer.receives.push_back(comm::whole(static_cast<int>(from), input.shape()));
  }
  const Tensor in = input.contiguous();
  Tensor out = transfer.receives.empty() ? Tensor::zeros(input.shape(), input.dtype(), input.device())
                                         : Tensor::empty(input.shape(), input.dtype(), input.device());
  communicator_->exchange({"permute", agreed, comm::described(input)}, in, out, comm::shared(std::move(transfer)));
  return out;
}

Work Communicator::group(std::span<const PeerCall> calls) const {
  for (const PeerCall& call : calls) {
    const bool sends = call.kind == PeerCall::Kind::send;
    const char* op = sends ? "send" : "recv";
    if (sends) comm::check_tensor(op, call.tensor);
    else comm::check_row_major(op, call.tensor);
    comm::check_member(op, "peer", call.peer, size());
    if (call.peer == rank()) base::fail<InvalidArgument>("{}: the peer is this member itself ({}); use copy_", op, call.peer);
  }
  auto data = std::make_unique<WorkData>();
  for (const PeerCall& call : calls) {
    const bool sends = call.kind == PeerCall::Kind::send;
    const Tensor tensor = sends ? call.tensor.contiguous() : call.tensor;
    // One group of two per direction: a pair's sends one way and the other do not wait for each other.
    const int me = ranks()[static_cast<std::size_t>(rank())], other = ranks()[static_cast<std::size_t>(call.peer)];
    const int pair[] = {sends ? me : other, sends ? other : me};
    Transfer transfer;
    (sends ? transfer.sends : transfer.receives).push_back(comm::whole(sends ? 1 : 0, tensor.shape()));
    comm::group(pair, comm::kPeers)
        .exchange({"send_recv", comm::fingerprint({}, tensor), comm::described(tensor)}, sends ? tensor : Tensor(), sends ? Tensor() : tensor,
                  comm::shared(std::move(transfer)));
    if (!sends) tensor.bump_version();
    comm::add_last(*data, sends ? tensor.storage()->buffer().readers : tensor.storage()->buffer().writers, tensor);
  }
  return Work(std::move(data));
}

Work Communicator::send(const Tensor& tensor, int peer) const { return group({send_to(tensor, peer)}); }
Work Communicator::recv(const Tensor& tensor, int peer) const { return group({recv_from(tensor, peer)}); }

void Communicator::barrier() const { communicator_->barrier({.kind = "barrier"}); }

}  // namespace dtensor
