// SPDX-License-Identifier: Apache-2.0
// Which symbols leave the library: all others are hidden.
#pragma once

#define DTENSOR_EXPORT __attribute__((visibility("default")))
