// SPDX-License-Identifier: Apache-2.0
#include "base/error_text.h"
#include "base/hash.h"
#include "dtensor/generator.h"
#include "dtensor/nn.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/random.h"

namespace dtensor::nn {

struct Parameter::State {
  Shape shape;
  DeviceMesh mesh;
  Init init;
  Dtype dtype = Dtype::f32;
  DTensor value, used;
  bool materialized = false;
  std::shared_ptr<void> attachment;
};

Parameter::Parameter(const Shape& shape, const DeviceMesh& mesh, const Init& init, Dtype dtype) : state_(std::make_shared<State>()) {
  state_->shape = shape;
  state_->mesh = mesh;
  state_->init = init;
  state_->dtype = dtype;
  state_->value = empty(shape, mesh, {}, {.dtype = dtype, .device = Device::meta()});
}

const DTensor& Parameter::get() const {
  if (state_->used) return state_->used;
  if (!state_->materialized)
    base::fail<InvalidArgument>("parameter: {} is on the meta device; call materialize() or load_checkpoint() before forward",
                                dtensor::to_string(state_->value));
  return state_->value;
}

const DTensor& Parameter::value() const { return state_->value; }

void Parameter::set(const DTensor& value) const {
  if (value.shape() != state_->shape)
    base::fail<InvalidArgument>("parameter: shapes differ (new value {}, parameter {})", dtensor::to_string(value),
                                dtensor::to_string(state_->value));
  state_->value = value;
  state_->materialized = value.device().kind != DeviceKind::meta;
  if (state_->materialized && !value.requires_grad()) value.set_requires_grad();
}

void Parameter::use(const DTensor& value) const { state_->used = value; }
const Placements& Parameter::placements() const { return state_->value.placements(); }

void Parameter::place(const Placements& placements) const {
  if (state_->materialized) {
    const DTensor moved = state_->value.detach().redistribute(placements);
    set(moved);
    return;
  }
  state_->value = empty(state_->shape, state_->mesh, placements, {.dtype = state_->dtype, .device = Device::meta()});
}

const Shape& Parameter::shape() const { return state_->shape; }
const DeviceMesh& Parameter::mesh() const { return state_->mesh; }
Dtype Parameter::dtype() const { return state_->dtype; }
const Init& Parameter::init() const { return state_->init; }
void Parameter::set_init(const Init& init) const { state_->init = init; }
std::shared_ptr<void>& Parameter::attachment() const { return state_->attachment; }
bool Parameter::is_materialized() const { return state_->materialized; }

void Parameter::materialize(std::string_view full_name) const {
  if (state_->materialized) return;
  const Init& i = state_->init;
  const TensorOptions options{.dtype = state_->dtype, .device = {}, .requires_grad = false};
  DTensor value;
  if (i.kind == Init::Kind::constant) {
    value = full(state_->shape, i.a, state_->mesh, placements(), options);
  } else {
    Generator generator(default_generator().seed());
    generator.set_state(default_generator().seed(), base::hash_text(full_name));
    const RandomScope scope(generator);
    value = i.kind == Init::Kind::uniform ? uniform(state_->shape, i.a, i.b, state_->mesh, placements(), options)
                                          : normal(state_->shape, i.a, i.b, state_->mesh, placements(), options);
  }
  set(value);
}

}  // namespace dtensor::nn
