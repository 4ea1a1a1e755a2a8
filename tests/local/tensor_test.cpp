// SPDX-License-Identifier: Apache-2.0
#include "dtensor/tensor.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "dtensor/error.h"
#include "local/storage.h"

using namespace dtensor;

namespace {

Tensor counting(const Shape& shape) {
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  std::iota(values.begin(), values.end(), 0.0f);
  return Tensor::of(values, shape);
}

// Elements in row-major order, read one by one through strides.
std::vector<float> elements(const Tensor& t) {
  std::vector<float> result;
  const auto* data = static_cast<const float*>(t.read());
  std::function<void(int, std::int64_t)> walk = [&](int d, std::int64_t at) {
    if (d == t.ndim()) return result.push_back(data[at]);
    for (std::int64_t i = 0; i < t.shape()[d]; ++i) walk(d + 1, at + i * t.strides()[d]);
  };
  walk(0, 0);
  return result;
}

template <class E, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const E& e) { return e.what(); }
  return "no error";
}

class Work final : public local::PendingWork {
 public:
  bool done() noexcept override { return over; }
  void wait_output() override { ++outputs, over = true; }
  void wait_input() override { ++inputs, over = true; }
  bool over = false;
  int outputs = 0, inputs = 0;
};

// The work and a reference to it as a storage keeps it.
struct Listed {
  base::Ref<local::PendingWork> reference{new Work};
  Work* operator->() const { return static_cast<Work*>(reference.get()); }
};

}  // namespace

TEST_CASE("a tensor of values is row-major and prints its type, shape and elements") {
  const Tensor t = counting({2, 3});
  CHECK(t.is_contiguous());
  CHECK(t.strides() == Shape{3, 1});
  CHECK(t.bytes() == 24);
  CHECK(to_string(t) == "f32[2, 3] [[0, 1, 2], [3, 4, 5]]");
  CHECK(to_string(Tensor::of(std::vector<double>{0.1}, {})) == "f64[] 0.1");
  CHECK(to_string(Tensor::zeros({0, 2}, Dtype::i64)) == "i64[0, 2] []");
  CHECK(to_string(Tensor::zeros({2}, Dtype::boolean)) == "bool[2] [false, false]");
  CHECK(to_string(counting({100})) == "f32[100] [0, 1, 2, 3, ..., 96, 97, 98, 99]");
  CHECK(to_string(Tensor()) == "no tensor");
}

TEST_CASE("views share memory and read the same elements as an index computation") {
  const Tensor t = counting({2, 3, 4});
  CHECK(elements(t.transpose(0, 2).narrow(0, 1, 2)) == std::vector<float>{1, 13, 5, 17, 9, 21, 2, 14, 6, 18, 10, 22});
  CHECK(elements(t.permute({2, 0, 1}).narrow(0, 3, 1)) == std::vector<float>{3, 7, 11, 15, 19, 23});
  CHECK(elements(t.as_strided({2, 2}, {5, 12}, 1)) == std::vector<float>{1, 13, 6, 18});
  CHECK(elements(counting({2, 1}).expand({3, 2, 2})) == std::vector<float>{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1});
  const Tensor view = t.narrow(2, 1, 2);
  CHECK(view.shares_storage_with(t));
  view.fill_(9);
  CHECK(elements(t.narrow(0, 0, 1).narrow(1, 0, 1)) == std::vector<float>{0, 9, 9, 3});
}

TEST_CASE("reshape of any permuted tensor equals the reshape of its elements, and is a view exactly when strides allow it") {
  const Tensor t = counting({2, 3, 4});
  const std::vector<Shape> orders{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  const std::vector<Shape> shapes{{24}, {6, 4}, {2, 12}, {2, 3, 4}, {4, 6}, {3, 8}, {1, 24, 1}, {2, 3, 2, 2}, {4, 3, 2}, {3, 2, 4}, {-1, 4}, {12, 2}};
  for (const Shape& order : orders)
    for (const Shape& shape : shapes) {
      const Tensor from = t.permute(order);
      const Tensor to = from.reshape(shape);
      CHECK(elements(to) == elements(from));
      if (!to.shares_storage_with(from)) CHECK_THROWS_AS(from.view(shape), InvalidArgument);
      else CHECK(elements(from.view(shape)) == elements(from));
      if (order == Shape{0, 1, 2}) CHECK(to.shares_storage_with(from));
    }
  CHECK(counting({4, 6}).narrow(1, 0, 3).reshape({2, 2, 3}).shares_storage_with(t) == false);
  const Tensor part = counting({4, 6}).narrow(1, 0, 3);
  CHECK(part.view({2, 2, 3}).strides() == Shape{12, 6, 1});
  CHECK_THROWS_AS(part.view({12}), InvalidArgument);
  CHECK(Tensor::zeros({0, 3}, Dtype::f32).view({3, 0, 5}).numel() == 0);
}

TEST_CASE("clone, contiguous, to and copy_ go through any strides") {
  const Tensor t = counting({5, 7}).transpose(0, 1);
  CHECK(elements(t.clone()) == elements(t));
  CHECK(t.clone().is_contiguous());
  CHECK(!t.contiguous().shares_storage_with(t));
  CHECK(counting({3}).contiguous().is_contiguous());
  CHECK(to_string(t.narrow(0, 0, 2).to(Dtype::i32)) == "i32[2, 5] [[0, 7, 14, 21, 28], [1, 8, 15, 22, 29]]");
  const Tensor into = Tensor::zeros({5, 7}, Dtype::f32);
  into.transpose(0, 1).copy_(t);
  CHECK(elements(into) == elements(counting({5, 7})));
}

TEST_CASE("copying between overlapping views of one storage reads the old elements") {
  const Tensor t = counting({6});
  t.narrow(0, 1, 5).copy_(t.narrow(0, 0, 5));
  CHECK(elements(t) == std::vector<float>{0, 0, 1, 2, 3, 4});
}

TEST_CASE("a shared copy has the same memory until either side is written") {
  const Tensor a = counting({4});
  const Tensor b = a.shared_copy(), c = a.narrow(0, 1, 2).shared_copy();
  CHECK(a.read() == b.read());
  CHECK(!a.shares_storage_with(b));
  b.fill_(7);
  CHECK(elements(a) == std::vector<float>{0, 1, 2, 3});
  CHECK(elements(b) == std::vector<float>{7, 7, 7, 7});
  a.values<float>()[1] = 5;
  CHECK(elements(c) == std::vector<float>{1, 2});
  const void* before = c.read();
  c.fill_(0);
  CHECK(c.read() == before);  // the last one owns the memory
  CHECK(elements(a) == std::vector<float>{0, 5, 2, 3});
}

TEST_CASE("a shared copy of wrapped memory is a copy at once") {
  std::vector<float> host{1, 2, 3};
  const Tensor t = Tensor::wrap(host.data(), {3});
  const Tensor copy = t.shared_copy();
  host[0] = 9;
  CHECK(elements(t) == std::vector<float>{9, 2, 3});
  CHECK(elements(copy) == std::vector<float>{1, 2, 3});
}

TEST_CASE("a wrapped owner lives as long as the last view") {
  auto owner = std::make_shared<std::vector<double>>(6, 2.5);
  const std::weak_ptr<std::vector<double>> watch = owner;
  Tensor view;
  {
    const Tensor t = Tensor::wrap(owner->data(), {2, 3}, {.dtype = Dtype::f64, .strides = {1, 2}, .owner = owner});
    view = t.narrow(1, 2, 1);
    owner.reset();
  }
  CHECK(!watch.expired());
  CHECK(to_string(view) == "f64[2, 1] [[2.5], [2.5]]");
  view = Tensor();
  CHECK(watch.expired());
}

TEST_CASE("a released storage keeps shapes, refuses reads and comes back for all views") {
  const Tensor t = counting({2, 3}), view = t.transpose(0, 1);
  t.resize_storage(0);
  CHECK(view.shape() == Shape{3, 2});
  CHECK(to_string(t) == "f32[2, 3] released");
  CHECK(error_of<InvalidArgument>([&] { view.read(); }) ==
        "tensor: read of released storage (f32[3, 2] needs 24 bytes, the storage has 0); call resize_storage and fill it first");
  CHECK_THROWS_AS(t.fill_(0), InvalidArgument);
  t.resize_storage(24);
  t.fill_(4);
  CHECK(elements(view) == std::vector<float>(6, 4));
  const Tensor shared = t.shared_copy();
  t.resize_storage(0);
  CHECK(elements(shared) == std::vector<float>(6, 4));
}

TEST_CASE("the version rises with each in-place write and is shared by views") {
  const Tensor t = counting({4}), view = t.narrow(0, 0, 2);
  const std::uint64_t before = t.version();
  view.fill_(1);
  CHECK(t.version() == before + 1);
  t.copy_(counting({4}));
  CHECK(view.version() == before + 2);
  t.read();
  CHECK(t.version() == before + 2);
  t.set_version(before);
  CHECK(view.version() == before);
  CHECK(t.clone().version() == 0);
}

TEST_CASE("tensors on meta carry shapes and never memory") {
  const Tensor t = Tensor::empty({1000, 1000, 1000, 100}, Dtype::f64, Device::meta());
  CHECK(t.transpose(0, 3).narrow(0, 0, 5).shape() == Shape{5, 1000, 1000, 1000});
  CHECK(t.clone().device() == Device::meta());
  CHECK(t.to(Dtype::bf16).dtype() == Dtype::bf16);
  t.fill_(1);
  CHECK(to_string(t) == "f64[1000, 1000, 1000, 100] on meta");
  CHECK(error_of<InvalidArgument>([] { Tensor::empty({2}, Dtype::f32, Device::meta()).data(); }) ==
        "tensor: data of a tensor on meta (f32[2]); it carries a shape only, make it on Device::cpu()");
}

TEST_CASE("reads wait for works that write, writes also for works that read") {
  const Tensor t = counting({2}), view = t.narrow(0, 0, 1);
  const Listed writer;
  const Listed reader;
  t.storage()->buffer().add_writer(writer.reference);
  t.storage()->buffer().add_reader(reader.reference);
  t.transpose(0, 0);
  CHECK(writer->outputs == 0);
  view.read();
  CHECK((writer->outputs == 1 && reader->inputs == 0));
  view.fill_(1);
  CHECK((writer->outputs == 1 && reader->inputs == 1));
  CHECK(t.storage()->buffer().readers.empty());
}

TEST_CASE("a detached writer does not wait for readers of the memory that it leaves, and works that are done are dropped") {
  const Tensor t = counting({2}), copy = t.shared_copy();
  const Listed reader;
  t.storage()->buffer().add_reader(reader.reference);
  copy.fill_(3);
  CHECK(reader->inputs == 0);
  reader->over = true;
  t.storage()->buffer().add_reader(Listed().reference);
  CHECK(t.storage()->buffer().readers.size() == 1);
}

TEST_CASE("what does not fit is refused with both values") {
  const Tensor t = counting({2, 3});
  const auto text = [](auto&& f) { return error_of<InvalidArgument>(f); };
  CHECK(text([&] { t.view({4}); }) == "view: numbers of elements differ (from [2, 3] = 6, to [4]); keep the product of the sizes");
  CHECK(text([&] { t.transpose(0, 1).view({6}); }) ==
        "view: the strides do not allow it (shape [3, 2], strides [1, 3], to [6]); use reshape, which copies");
  CHECK(text([&] {
          t.as_strided({2, 3}, {3, 1}, 1);
        }) == "as_strided: it would leave the storage (shape [2, 3], strides [3, 1], offset 1, storage 6 f32 elements); stay within the storage");
  CHECK(text([&] { t.narrow(1, 2, 2); }) == "narrow: the range leaves the dim (start 2, length 2, dim 1 of [2, 3] has 3); stay within it");
  CHECK(text([&] {
          t.expand({2, 4});
        }) == "expand: only dims of size 1 grow (from [2, 3], to [2, 4]); dims are compared from the last, -1 keeps one");
  CHECK(text([&] { t.permute({0, 0}); }) == "permute: the order does not name every dim once (order [0, 0], shape [2, 3]); give each of 0 to 1 once");
  CHECK(text([&] { t.copy_(counting({3, 2})); }) == "copy_: shapes differ (into f32[2, 3], from f32[3, 2]); expand or view the source first");
  CHECK(text([&] { (void)t.values<double>(); }) ==
        "values: element types differ (asked f64, tensor is f32[2, 3]); ask for its own type or convert with to()");
  CHECK(text([&] { (void)t.transpose(0, 1).values<float>(); }) ==
        "values: the tensor is not row-major (shape [3, 2], strides [1, 3]); call contiguous() first");
  CHECK(text([&] { counting({1}).expand({4}).fill_(0); }) ==
        "fill_: several elements share one address (shape [4], strides [0]); write to a clone() of the expanded tensor");
  CHECK(text([] {
          Tensor::of(std::vector<float>{1, 2}, {3});
        }) == "of: number of values and shape differ (2 values, shape [3] has 3); give one value per element");
  CHECK(text([] { Tensor::empty({-1}, Dtype::f32); }) == "empty: a size is negative (shape [-1]); sizes are 0 or more");
  CHECK_THROWS_AS(Tensor::empty({std::int64_t{1} << 40, std::int64_t{1} << 40}, Dtype::f32), InvalidArgument);
  CHECK_THROWS_AS(Tensor::wrap(nullptr, {2}), InvalidArgument);
  CHECK_THROWS_AS(Tensor::empty({2}, Dtype::f32, Device::cuda(0)), Unsupported);
  CHECK_THROWS_AS(Tensor().read(), InvalidArgument);
}
