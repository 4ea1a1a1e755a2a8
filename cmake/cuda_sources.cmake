# SPDX-License-Identifier: Apache-2.0
# The sources of CUDA tensors. Sets, with absolute paths,
#   cuda_device_code   *.cu of src/local/cuda, without includes of the toolkit: nvcc compiles them, and for tests a C++ compiler
#   cuda_host_code     *.cpp there, and the table of kernels that have a form for CUDA, which is generated
#   cuda_toolkit_code  src/local/cuda/toolkit: what calls the CUDA Toolkit; tests link something else in its place. Without cuDNN's header no_cudnn.cpp
#                      is there instead of cudnn*.cpp
set(cuda_folder ${PROJECT_SOURCE_DIR}/src/local/cuda)
file(GLOB cuda_device_code CONFIGURE_DEPENDS ${cuda_folder}/*.cu)
file(GLOB cuda_host_code CONFIGURE_DEPENDS ${cuda_folder}/*.cpp)
file(GLOB cuda_toolkit_code CONFIGURE_DEPENDS ${cuda_folder}/toolkit/*.cpp ${cuda_folder}/toolkit/*.cu)
find_path(DTENSOR_CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV CUDNN_ROOT PATHS /usr/local/cuda PATH_SUFFIXES include)
mark_as_advanced(DTENSOR_CUDNN_INCLUDE_DIR)
if(DTENSOR_CUDNN_INCLUDE_DIR)
  list(FILTER cuda_toolkit_code EXCLUDE REGEX "/no_cudnn.cpp$")
else()
  list(FILTER cuda_toolkit_code EXCLUDE REGEX "/cudnn[a-z_]*.cpp$")
endif()
set(cuda_declarations "")
set(cuda_calls "")
foreach(source IN LISTS cuda_device_code cuda_host_code)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  file(STRINGS ${source} definitions REGEX "^void install_[a-z_]+\\(\\) {")
  foreach(definition IN LISTS definitions)
    string(REGEX REPLACE "^void (install_[a-z_]+)\\(\\).*" "\\1" install "${definition}")
    string(APPEND cuda_declarations "void ${install}();\n")
    string(APPEND cuda_calls "  ${install}();\n")
  endforeach()
endforeach()
configure_file(${cuda_folder}/table.cpp.in ${CMAKE_CURRENT_BINARY_DIR}/cuda_table.cpp @ONLY)
list(APPEND cuda_host_code ${CMAKE_CURRENT_BINARY_DIR}/cuda_table.cpp)
