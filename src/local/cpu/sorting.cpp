// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/sorting.h"

#include <algorithm>
#include <vector>

#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

template <class T>
bool is_nan(T value) {
  if constexpr (kIsFloating<T>) return load(value) != load(value);
  return false;
}
// NaN after all numbers.
template <class T>
bool less(T a, T b) {
  if constexpr (std::is_same_v<T, bool>) return !a && b;
  else return load(a) < load(b) || (is_nan(b) && !is_nan(a));
}

template <class T>
struct Entry {
  T value;
  std::int64_t index;
};

template <class T>
void order_line(const OrderCall& c, std::vector<Entry<T>>& line) {
  const auto by_value = [&](const Entry<T>& a, const Entry<T>& b) {
    if (c.descending ? less(b.value, a.value) : less(a.value, b.value)) return true;
    if (c.descending ? less(a.value, b.value) : less(b.value, a.value)) return false;
    return a.index < b.index;
  };
  const auto begin = line.begin(), from = begin + c.first, to = from + c.count;
  if (to == line.end() && c.first == 0) return std::sort(begin, to, by_value);
  if (c.first == 0) return std::partial_sort(begin, to, line.end(), by_value);
  std::nth_element(begin, from, line.end(), by_value);
  std::partial_sort(from, to, line.end(), by_value);
}

struct Lines {
  std::int64_t outer = 1, length = 1, inner = 1;
  Lines(const Shape& shape, int dim) {
    for (int d = 0; d < shape.ndim(); ++d) (d < dim ? outer : d == dim ? length : inner) *= shape[d];
  }
};

}  // namespace

void order_lines(const OrderCall& c, const Tensor& in, const Tensor& values, const Tensor& indices) {
  if (values.numel() == 0) return;
  const Lines lines(in.shape(), c.dim);
  visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
    const T* from = in.raw_as<T>();
    T* to = values.raw_as<T>();
    auto* at = indices.raw_as<std::int64_t>();
    parallel_for(lines.outer * lines.inner, 1 + 4096 / lines.length, [&](std::int64_t begin, std::int64_t end) {
      std::vector<Entry<T>> line(static_cast<std::size_t>(lines.length));
      for (std::int64_t l = begin; l < end; ++l) {
        const std::int64_t o = l / lines.inner, x = l % lines.inner;
        for (std::int64_t i = 0; i < lines.length; ++i) line[static_cast<std::size_t>(i)] = {from[(o * lines.length + i) * lines.inner + x], i};
        const auto nan = c.nan_first ? std::find_if(line.begin(), line.end(), [](const Entry<T>& e) { return is_nan(e.value); }) : line.end();
        if (nan != line.end()) line[static_cast<std::size_t>(c.first)] = *nan;
        else order_line(c, line);
        for (std::int64_t k = 0; k < c.count; ++k) {
          const Entry<T>& e = line[static_cast<std::size_t>(c.first + k)];
          to[(o * c.count + k) * lines.inner + x] = e.value;
          at[(o * c.count + k) * lines.inner + x] = e.index;
        }
      }
    });
  });
}

void search_lines(const Tensor& sequence, const Tensor& values, const Tensor& sorter, bool right, const Tensor& out) {
  const std::int64_t n = sequence.shape().back(), lines = n == 0 ? 0 : sequence.numel() / n;
  const std::int64_t count = values.numel(), per_line = lines <= 1 ? count : count / lines;
  visit_dtype(sequence.dtype(), [&]<class T>(std::type_identity<T>) {
    const T* line = sequence.raw_as<T>();
    const T* wanted = values.raw_as<T>();
    const std::int64_t* order = sorter ? sorter.raw_as<std::int64_t>() : nullptr;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t start = n == 0 || lines <= 1 ? 0 : i / per_line * n;
      std::int64_t low = 0, high = n;
      while (low < high) {
        const std::int64_t middle = low + (high - low) / 2;
        const T here = line[start + (order == nullptr ? middle : order[start + middle])];
        if (right ? !less(wanted[i], here) : less(here, wanted[i])) low = middle + 1;
        else high = middle;
      }
      if (out.dtype() == Dtype::i32) out.raw_as<std::int32_t>()[i] = static_cast<std::int32_t>(low);
      else out.raw_as<std::int64_t>()[i] = low;
    }
  });
}

void distinct(const Tensor& in, std::optional<int> dim, const Tensor& values, const Tensor& inverse, const Tensor& counts, const Tensor& count) {
  const Shape flat{in.numel()};
  const Tensor all = dim ? in : in.view(flat), target = dim ? values : values.view(flat);
  Shape order{dim.value_or(0)};
  for (int d = 0; d < all.ndim(); ++d)
    if (d != order[0]) order.push_back(d);
  const Tensor rows = all.permute(order).contiguous(), picked = rows.clone();
  const std::int64_t n = rows.shape()[0], width = n == 0 ? 0 : rows.numel() / n;
  std::int64_t groups = 0;
  visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
    const T* data = rows.raw_as<T>();
    T* to = picked.raw_as<T>();
    const auto before = [&](std::int64_t a, std::int64_t b) {
      for (std::int64_t x = 0; x < width; ++x) {
        if (less(data[a * width + x], data[b * width + x])) return true;
        if (less(data[b * width + x], data[a * width + x])) return false;
      }
      return a < b;
    };
    const auto equal = [&](std::int64_t a, std::int64_t b) {
      for (std::int64_t x = 0; x < width; ++x)
        if (!(load(data[a * width + x]) == load(data[b * width + x]))) return false;
      return true;
    };
    std::vector<std::int64_t> by_value(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) by_value[static_cast<std::size_t>(i)] = i;
    std::sort(by_value.begin(), by_value.end(), before);
    auto* where = inverse.raw_as<std::int64_t>();
    auto* times = counts.raw_as<std::int64_t>();
    std::int64_t last = -1;
    std::fill_n(times, n, std::int64_t{0});
    for (std::int64_t i : by_value) {
      if (last < 0 || !equal(last, i)) {
        std::copy_n(data + i * width, width, to + groups * width);
        ++groups;
      }
      last = i;
      where[i] = groups - 1;
      ++times[groups - 1];
    }
  });
  target.permute(order).copy_(picked);
  *count.raw_as<std::int64_t>() = groups;
}

void nonzero_places(const Tensor& in, std::int64_t fill, const Tensor& places) {
  const std::int64_t limit = places.shape()[0], width = places.shape()[1];
  auto* to = places.raw_as<std::int64_t>();
  std::fill_n(to, places.numel(), fill);
  const Shape strides = contiguous_strides(in.shape());
  visit_dtype(in.dtype(), [&]<class T>(std::type_identity<T>) {
    const T* from = in.raw_as<T>();
    std::int64_t found = 0;
    for (std::int64_t i = 0; i < in.numel() && found < limit; ++i) {
      if (!convert<bool>(from[i])) continue;
      for (std::int64_t d = 0; d < width; ++d) to[found * width + d] = i / strides[static_cast<int>(d)] % in.shape()[static_cast<int>(d)];
      ++found;
    }
  });
}

void histogram(const Tensor& in, double low, double high, const Tensor& counts) {
  const std::int64_t bins = counts.numel();
  std::vector<double> total(static_cast<std::size_t>(bins));
  const Tensor values = in.contiguous();
  visit_floating(in.dtype(), [&]<class T>(std::type_identity<T>) {
    using C = Accumulate<T>;
    const T* from = values.raw_as<T>();
    const auto start = static_cast<C>(low), end = static_cast<C>(high);
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      const C v = load(from[i]);
      if (!(v >= start && v <= end)) continue;
      const auto bin = static_cast<std::int64_t>((v - start) / (end - start) * static_cast<C>(bins));
      total[static_cast<std::size_t>(std::min(bin, bins - 1))] += 1;
    }
    T* to = counts.raw_as<T>();
    for (std::size_t b = 0; b < total.size(); ++b) to[b] = convert<T>(total[b]);
  });
}

}  // namespace dtensor::local::cpu
