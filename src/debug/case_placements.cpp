// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>

#include "debug/case_run.h"

namespace dtensor::debug {
namespace {

constexpr std::size_t kAlone = 4;  // more tensors are not tried one by one
constexpr int kMixtures = 3;

class Choices {
 public:
  Choices(const RecordedCase& recorded, const std::vector<int>& mesh, std::uint64_t seed)
      : tensors_(recorded.tensors()), mesh_(mesh), partial_(recorded.family != "optim" && recorded.is_finite()), seed_(seed) {}

  std::vector<Case> list() {
    add([](std::size_t, std::size_t) { return Replicate(); });
    int most = 0;
    for (const CaseTensor* t : tensors_)
      if (t->present) most = std::max(most, ndim(*t));
    for (int k = 0; k < most; ++k) {
      add([&](std::size_t i, std::size_t a) { return cut(i, k + static_cast<int>(a)); });
      if (mesh_.size() == 1) continue;
      add([&](std::size_t i, std::size_t) { return cut(i, k); });
      add([&](std::size_t i, std::size_t a) { return a == 0 ? Placement(Replicate()) : cut(i, k); });
    }
    add_alone();
    for (int k = 0; k < kMixtures; ++k) add_mixture();
    return std::move(cases_);
  }

 private:
  static int ndim(const CaseTensor& t) { return t.value.shape.ndim(); }
  Placement cut(std::size_t i, int dim) const {
    const int n = ndim(*tensors_[i]);
    return n == 0 ? Placement(Replicate()) : Placement(Shard(dim % n));
  }

  void add(const std::function<Placement(std::size_t, std::size_t)>& choose) {
    Case c(tensors_.size());
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      for (std::size_t a = 0; tensors_[i]->present && a < mesh_.size(); ++a) c[i].push_back(choose(i, a));
      c[i] = legalized(std::move(c[i]));
    }
    if (std::find(cases_.begin(), cases_.end(), c) == cases_.end()) cases_.push_back(std::move(c));
  }

  void add_alone() {
    const std::size_t last = mesh_.size() - 1;
    bool any_floating = false;
    for (std::size_t i = 0; i < std::min(tensors_.size(), kAlone); ++i) {
      if (!tensors_[i]->present) continue;
      for (int d = 0; d < ndim(*tensors_[i]); ++d)
        add([&](std::size_t j, std::size_t a) { return j == i && a == last ? cut(i, d) : Placement(Replicate()); });
      if (!floating(i)) continue;
      any_floating = true;
      add([&](std::size_t j, std::size_t a) { return j != i ? Placement(Replicate()) : a == 0 ? Placement(Partial()) : cut(i, 0); });
    }
    if (any_floating) add([&](std::size_t j, std::size_t a) { return a == 0 && floating(j) ? Placement(Partial()) : cut(j, 0); });
  }

  bool floating(std::size_t i) const { return partial_ && tensors_[i]->present && info(tensors_[i]->value.dtype).floating; }

  void add_mixture() {
    add([&](std::size_t i, std::size_t a) {
      std::vector<Placement> choices = placements_of(TensorType{tensors_[i]->value.shape, tensors_[i]->value.dtype}, mesh_[a]);
      std::erase_if(choices, [&](const Placement& p) { return p.is_partial() && !(p == Placement(Partial()) && floating(i)); });
      return choices[random_bits(seed_, ++draws_) % choices.size()];
    });
  }

  std::vector<const CaseTensor*> tensors_;
  const std::vector<int>& mesh_;
  bool partial_;
  std::uint64_t seed_, draws_ = 0;
  std::vector<Case> cases_;
};

}  // namespace

std::vector<Case> placements_of(const RecordedCase& recorded, const std::vector<int>& mesh, std::uint64_t seed) {
  for (const char c : recorded.id) seed = random_bits(seed, static_cast<std::uint64_t>(static_cast<unsigned char>(c)));
  return Choices(recorded, mesh, seed).list();
}

}  // namespace dtensor::debug
