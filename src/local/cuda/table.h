// SPDX-License-Identifier: Apache-2.0
// Which kernels have a form for CUDA: every `void install_<family>() {` in a source of this folder sets some (kernels::add.cuda = add), and the build finds them.
#pragma once

namespace dtensor::local::cuda {

/// Once, before the first tensor of a device.
void install_all();

}  // namespace dtensor::local::cuda
