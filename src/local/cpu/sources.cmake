# SPDX-License-Identifier: Apache-2.0
# Kernels, one line per file.
set(cpu_sources)
list(APPEND cpu_sources cpu/arrange.cpp cpu/attention.cpp cpu/embedding.cpp cpu/gemm.cpp cpu/rotary.cpp cpu/sorting.cpp)
if(SerialBLAS_FOUND)
  list(APPEND cpu_sources cpu/gemm_blas.cpp)
else()
  list(APPEND cpu_sources cpu/gemm_eigen.cpp)
  # g++ 12 takes Eigen's undefined AVX-512 registers for a mistake.
  set_source_files_properties(cpu/gemm_eigen.cpp PROPERTIES COMPILE_OPTIONS "$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>")
endif()
list(APPEND cpu_sources
  cpu/activations.cpp
  cpu/binary.cpp
  cpu/elementary.cpp
  cpu/map.cpp
  cpu/optimizer.cpp
  cpu/pointwise.cpp)
list(APPEND cpu_sources cpu/channel_norms.cpp cpu/convolution.cpp cpu/linear_cross_entropy.cpp cpu/pooling.cpp cpu/transformer.cpp)
list(APPEND cpu_sources cpu/lanes.cpp cpu/losses.cpp cpu/norms.cpp cpu/reduce.cpp cpu/scan_parts.cpp cpu/scans.cpp cpu/softmax.cpp)
# Lets square roots and roundings vectorise; no value changes.
set_source_files_properties(cpu/activations.cpp cpu/binary.cpp cpu/elementary.cpp cpu/losses.cpp cpu/norms.cpp cpu/optimizer.cpp cpu/pointwise.cpp cpu/reduce.cpp cpu/softmax.cpp
  PROPERTIES COMPILE_OPTIONS "-fno-math-errno;-fno-trapping-math")
