# SPDX-License-Identifier: Apache-2.0
# The CUDA compiler and toolkit. Compiled for what CMAKE_CUDA_ARCHITECTURES says; without it for 80 and 90, with PTX of 90 for what comes after.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND "$ENV{CUDAARCHS}" STREQUAL "")
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
find_package(CUDAToolkit 12.8 QUIET)
if(NOT CUDAToolkit_FOUND)
  message(FATAL_ERROR "dtensor: the CUDA Toolkit (12.8 or newer) was not found; install it, or configure with -DDTENSOR_CUDA=OFF")
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
endif()
enable_language(CUDA)

# CMake 3.25 knows nvcc 13 without C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()

# Kernels call constexpr functions of the host's headers.
add_library(dtensor_cuda_flags INTERFACE)
target_compile_options(dtensor_cuda_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
if(DTENSOR_WARNINGS_AS_ERRORS)
  target_compile_options(dtensor_cuda_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>")
endif()
