// SPDX-License-Identifier: Apache-2.0
// Fully sharded data parallelism (Zhao et al. 2023; Rajbhandari et al. 2020): parameters live split along dimension 0; a unit gathers them before use, frees the
// copy, and reduce-scatters gradients as soon as they are complete.
#include <algorithm>
#include <exception>
#include <utility>

#include "dtensor/autograd.h"
#include "dtensor/error.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/cast.h"
#include "dtensor/parallel.h"
#include "parallel/placing.h"

namespace dtensor::parallel {

namespace {
// Units in the order of their first forward, shared by all below one root.
struct Schedule {
  std::vector<std::weak_ptr<FullyShard::Unit>> order;
  std::vector<const nn::ModuleBase*> modules;  // of all units, those without parameters of their own too
};
}  // namespace

struct FullyShard::Unit : std::enable_shared_from_this<FullyShard::Unit> {
  struct Entry {
    nn::Parameter parameter;
    Placements whole;           // of the gathered copy
    DTensor full;               // the copy that forward reads: a leaf of its own, which outlives a step without memory
    DTensor source;             // what `full` was gathered from
    std::uint64_t version = 0;  // of the source
    DTensor incoming;           // a gather on its way into a released copy
    bool released = false;
    bool shared = false;    // nothing moves: the copy shares the parameter's memory until either is written
    DTensor unreduced;      // gradient that waits for those of the unit, or for synchronisation
    bool complete = false;  // and waits for those of the unit only
  };
  std::vector<Entry> entries;
  std::vector<std::string> axes;
  FullyShardOptions options;
  const nn::ModuleBase* module = nullptr;
  bool sync = true;
  bool ends_with_backward = false;
  std::shared_ptr<Schedule> schedule = std::make_shared<Schedule>();

  // Starts what unshard() will need, in one launch; it is waited for at first use.
  void fetch() {
    std::vector<Entry*> due;
    for (Entry& e : entries) {
      const DTensor& value = e.parameter.value();
      if (e.full && (e.source.impl() != value.impl() || e.version != value.local().version())) retire(e);
      if (!e.full || (e.released && !e.incoming)) due.push_back(&e);
    }
    if (!due.empty()) gather(due);
  }

  void gather(const std::vector<Entry*>& due) const {
    const NoGrad off;
    std::vector<DTensor> values;
    std::vector<Placements> whole;
    for (const Entry* e : due) {
      values.push_back(e->parameter.value().detach());
      whole.push_back(e->whole);
    }
    const std::vector<DTensor> copies = redistribute_all(values, whole, {.forward_dtype = options.param_dtype});
    for (std::size_t i = 0; i < due.size(); ++i) {
      Entry& e = *due[i];
      if (e.full) {
        e.incoming = copies[i];
        continue;
      }
      e.full = copies[i];
      e.source = e.parameter.value();
      e.version = e.source.local().version();
      e.released = false;
    }
  }

  // The parameter has changed: graphs that saved this copy are out of date, and must say so.
  static void retire(Entry& e) {
    e.full.local().bump_version();
    e.full = DTensor();
    e.incoming = DTensor();
  }

  void unshard() {
    fetch();
    for (Entry& e : entries) {
      if (e.released) refill(e);
      if (is_grad_enabled() && e.parameter.value().requires_grad() && !e.full.requires_grad()) watch(e);
      e.parameter.use(e.full);
    }
  }

  // The same storage gets its contents back, so that what autograd saved is valid again.
  static void refill(Entry& e) {
    const Tensor local = e.full.local();
    const std::uint64_t version = local.version();
    local.resize_storage(local.bytes());
    local.copy_(e.incoming.local());
    local.set_version(version);
    e.incoming = DTensor();
    e.released = false;
  }

  void watch(Entry& e) {
    e.full.set_requires_grad();
    keep_grad_placements(e.full);
    const std::weak_ptr<Unit> self = weak_from_this();
    const std::size_t index = static_cast<std::size_t>(&e - entries.data());
    add_gradient_ready_hook(e.full, [self, index](const DTensor& full) {
      if (const auto unit = self.lock()) unit->gradient_ready(unit->entries[index], full);
    });
  }

  void gradient_ready(Entry& e, const DTensor& full) {
    const NoGrad off;
    const DTensor& value = e.parameter.value();
    const Dtype reduce = options.reduce_dtype.value_or(options.param_dtype.value_or(value.dtype()));
    DTensor grad = full.grad();
    full.set_grad({});
    if (grad.dtype() != reduce) grad = grad.to(reduce);
    if (e.unreduced) grad = e.unreduced + grad;
    e.unreduced = grad;
    if (!sync) return;
    e.complete = true;
    if (std::all_of(entries.begin(), entries.end(), [](const Entry& other) { return other.complete || !other.full || !other.full.requires_grad(); }))
      reduce_gradients();
    else reshard_at_backward_end();
  }

  // The gradients that are there, in one launch.
  void reduce_gradients() {
    const NoGrad off;
    std::vector<Entry*> complete;
    std::vector<DTensor> grads;
    std::vector<Placements> split;
    for (Entry& e : entries) {
      if (!e.complete) continue;
      complete.push_back(&e);
      grads.push_back(std::exchange(e.unreduced, DTensor()));
      split.push_back(e.parameter.value().placements());
      e.complete = false;
    }
    if (grads.empty()) return;
    const std::vector<DTensor> reduced = redistribute_all(grads, split);
    for (std::size_t i = 0; i < complete.size(); ++i) {
      const DTensor& value = complete[i]->parameter.value();
      const DTensor grad = reduced[i].dtype() == value.dtype() ? reduced[i] : reduced[i].to(value.dtype());
      value.set_grad(value.grad() ? value.grad() + grad : grad);
    }
  }

  void forget_gradients() {
    for (Entry& e : entries)
      if (std::exchange(e.complete, false)) e.unreduced = DTensor();
  }

  // Frees the gathered copies; backward fills them again. Those that cost no memory stay within a step.
  void reshard(bool step_over) {
    for (Entry& e : entries) {
      e.parameter.use({});
      e.incoming = DTensor();
      if (!e.full || e.released || (e.shared && !step_over)) continue;
      if (e.shared && !e.full.requires_grad()) {
        e.full = DTensor();
        continue;
      }
      const Tensor local = e.full.local();
      const std::uint64_t version = local.version();
      local.resize_storage(0);
      local.set_version(version);
      e.released = true;
    }
  }

  void before_forward() {
    auto& order = schedule->order;
    const auto self = shared_from_this();
    auto at = std::find_if(order.begin(), order.end(), [&](const auto& u) { return u.lock() == self; });
    if (at == order.end()) at = order.insert(order.end(), self);
    unshard();
    prefetch(at - order.begin(), 1);
  }

  void prefetch(std::ptrdiff_t from, int direction) const {
    const auto& order = schedule->order;
    for (int k = 1; k <= options.prefetch; ++k) {
      const std::ptrdiff_t i = from + direction * k;
      if (i < 0 || i >= static_cast<std::ptrdiff_t>(order.size())) return;
      const auto next = order[static_cast<std::size_t>(i)].lock();
      if (!next) continue;
      if (direction < 0) next->reshard_at_backward_end();
      next->fetch();
    }
  }

  void reshard_at_backward_end() {
    if (ends_with_backward) return;
    ends_with_backward = true;
    const std::weak_ptr<Unit> self = weak_from_this();
    at_backward_end([self, outer = std::current_exception()] {
      const auto unit = self.lock();
      if (!unit) return;
      unit->ends_with_backward = false;
      // After an error ranks may not agree on what is complete.
      if (std::current_exception() == outer) unit->reduce_gradients();
      else unit->forget_gradients();
      unit->reshard(true);
    });
  }

  void before_backward() {
    reshard_at_backward_end();
    unshard();
    const auto& order = schedule->order;
    const auto at = std::find_if(order.begin(), order.end(), [this](const auto& u) { return u.lock().get() == this; });
    if (at != order.end()) prefetch(at - order.begin(), -1);
  }

  void after_forward() {
    const bool recorded =
        is_grad_enabled() && std::any_of(entries.begin(), entries.end(), [](const Entry& e) { return e.full && e.full.requires_grad(); });
    if (options.reshard_after_forward || !recorded) reshard(!recorded);
  }
};

void FullyShard::set_gradient_sync(bool on) { unit_->sync = on; }
void FullyShard::unshard() { unit_->unshard(); }
void FullyShard::reshard() { unit_->reshard(true); }

namespace {

using Unit = FullyShard::Unit;

// The unit keeps its parameters, so a parameter only refers to it; the module's hooks own it.
std::shared_ptr<Unit> owner(const nn::NamedParameter& p) {
  const auto weak = std::static_pointer_cast<std::weak_ptr<Unit>>(p.parameter.attachment());
  return weak ? weak->lock() : nullptr;
}

void claim(Unit& unit, const nn::NamedParameter& p, std::vector<std::shared_ptr<Unit>>& inner) {
  if (auto other = owner(p)) {
    if (std::find(inner.begin(), inner.end(), other) == inner.end()) inner.push_back(std::move(other));
    return;
  }
  Unit::Entry e;
  e.parameter = p.parameter;
  e.whole = p.parameter.placements();
  if (p.parameter.shape().ndim() > 0) {
    Placements split = e.whole;
    for (const std::string& axis : unit.axes) split = with_axis(p.parameter.mesh(), split, axis, Shard(0));
    p.parameter.place(split);
  }
  e.shared = unit.options.param_dtype.value_or(p.parameter.dtype()) == p.parameter.dtype() &&
             (p.parameter.shape().ndim() == 0 || p.parameter.mesh().size(AxisNames(unit.axes)) == 1);
  p.parameter.attachment() = std::make_shared<std::weak_ptr<Unit>>(unit.shared_from_this());
  unit.entries.push_back(std::move(e));
}

void check_new(nn::ModuleBase& module, const std::vector<nn::NamedParameter>& parameters) {
  const auto modules = module.named_modules();
  bool all_taken = !parameters.empty(), outer = false;
  for (const nn::NamedParameter& p : parameters) {
    const auto unit = owner(p);
    all_taken = all_taken && unit;
    if (!unit) continue;
    const auto& known = unit->schedule->modules;
    if (std::find(known.begin(), known.end(), &module) != known.end())
      throw InvalidArgument("fully_shard: the module is a unit already; call it once per module");
    outer = outer || std::none_of(modules.begin(), modules.end(), [&](const nn::NamedModule& m) { return m.module == unit->module; });
  }
  if (all_taken && outer)
    throw InvalidArgument("fully_shard: the module's parameters (" + parameters[0].name +
                          ", ...) belong to a unit around it; make units of inner modules first");
}

void add_hooks(nn::ModuleBase& module, const std::shared_ptr<Unit>& unit) {
  nn::Hooks hooks;
  hooks.before_forward = [unit](nn::ModuleBase&) { unit->before_forward(); };
  if (unit->options.param_dtype && unit->options.cast_inputs) {
    const Dtype dtype = *unit->options.param_dtype;
    hooks.input = [dtype](nn::ModuleBase&, const DTensor& t) { return t && info(t.dtype()).floating && t.dtype() != dtype ? t.to(dtype) : t; };
  }
  hooks.after_forward = [unit](nn::ModuleBase&) { unit->after_forward(); };
  hooks.before_backward = [unit](nn::ModuleBase&) { unit->before_backward(); };
  hooks.after_backward = [unit](nn::ModuleBase&) {
    if (unit->options.reshard_after_forward) unit->reshard(false);
  };
  module.add_hooks(std::move(hooks));
}

}  // namespace

FullyShard fully_shard(nn::ModuleBase& module, const AxisNames& axes, const FullyShardOptions& options) {
  const auto unit = std::make_shared<Unit>();
  unit->axes = axes.list();
  unit->options = options;
  unit->module = &module;
  const std::vector<nn::NamedParameter> parameters = module.named_parameters();
  for (const nn::NamedParameter& p : parameters)
    for (const std::string& axis : unit->axes) p.parameter.mesh().axis(axis);
  check_new(module, parameters);
  std::vector<std::shared_ptr<Unit>> inner;
  for (const nn::NamedParameter& p : parameters) claim(*unit, p, inner);
  unit->schedule->modules.push_back(&module);
  for (const auto& other : inner) {
    const auto& below = other->schedule->modules;
    if (other->schedule != unit->schedule) unit->schedule->modules.insert(unit->schedule->modules.end(), below.begin(), below.end());
    other->schedule = unit->schedule;
  }
  add_hooks(module, unit);
  return FullyShard(unit);
}

}  // namespace dtensor::parallel
