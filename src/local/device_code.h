// SPDX-License-Identifier: Apache-2.0
// How code is marked that kernels of a device call as well as the host.
#pragma once

#if defined(__CUDACC__)
#define DTENSOR_DEVICE __host__ __device__
/// Always part of its caller: arrays that are passed stay in registers.
#define DTENSOR_DEVICE_INLINE __host__ __device__ __forceinline__
/// Before a loop of a constant number of rounds, for the same reason.
#define DTENSOR_UNROLL _Pragma("unroll")
#else
#define DTENSOR_DEVICE
#define DTENSOR_DEVICE_INLINE [[gnu::always_inline]] inline
#define DTENSOR_UNROLL
#endif
