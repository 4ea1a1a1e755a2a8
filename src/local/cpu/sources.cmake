# SPDX-License-Identifier: Apache-2.0
# Kernels: every file here, and the products by BLAS where there is one, else by Eigen.
file(GLOB cpu_sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} cpu/*.cpp)
if(SerialBLAS_FOUND)
  list(REMOVE_ITEM cpu_sources cpu/gemm_eigen.cpp)
else()
  list(REMOVE_ITEM cpu_sources cpu/gemm_blas.cpp)
endif()
# Lets comparisons, square roots and roundings vectorise; no value changes.
set_source_files_properties(${cpu_sources} PROPERTIES COMPILE_OPTIONS "-fno-math-errno;-fno-trapping-math")
# g++ 12 takes Eigen's undefined AVX-512 registers for a mistake.
set_property(SOURCE cpu/gemm_eigen.cpp APPEND PROPERTY COMPILE_OPTIONS
  "$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>")
