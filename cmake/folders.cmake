# SPDX-License-Identifier: Apache-2.0
# One folder = one object library with an explicit list of sources.

# What all of dtensor's own code is compiled with.
add_library(dtensor_private INTERFACE)
target_include_directories(dtensor_private INTERFACE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
target_include_directories(dtensor_private SYSTEM INTERFACE ${DTENSOR_RANDOM123_INCLUDE_DIR})
target_link_libraries(dtensor_private INTERFACE
  Threads::Threads Eigen3::Eigen fmt::fmt-header-only nlohmann_json::nlohmann_json)
# spdlog's own target would link the shared libfmt.
target_include_directories(dtensor_private SYSTEM INTERFACE
  $<TARGET_PROPERTY:spdlog::spdlog_header_only,INTERFACE_INCLUDE_DIRECTORIES>)
target_compile_definitions(dtensor_private INTERFACE SPDLOG_FMT_EXTERNAL)
if(DTENSOR_NATIVE)
  target_compile_options(dtensor_private INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
  # g++ 12 before 12.3 with AVX-512 stores {2, 2, 2, 0} as {2, 2, 2, 2} when it moves 32 bytes or more at once (GCC PR 108599).
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 12 AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12.3)
    target_compile_options(dtensor_private INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-mmove-max=128;-mstore-max=128>")
  endif()
endif()

add_library(dtensor_warnings INTERFACE)
set(dtensor_newer_gnu OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  set(dtensor_newer_gnu ON)
endif()
if(DTENSOR_WARNINGS)
  target_compile_options(dtensor_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wconversion;-Wshadow>")
endif()
# g++ 12 sees uninitialised members in every moved std::variant that holds a vector.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(dtensor_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
endif()
# g++ 13 sees libfmt 9 write beyond its buffers wherever it inlines the printing of a float.
if(dtensor_newer_gnu)
  target_compile_options(dtensor_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds;-Wno-stringop-overflow>")
endif()
# A parent's -Werror is about the parent's sources: what its flags make of ours must not stop its build.
if(NOT PROJECT_IS_TOP_LEVEL)
  target_compile_options(dtensor_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-error>)
endif()
# What a newer g++ makes of other libraries' inlined code is not known beforehand and must not stop a build.
if(DTENSOR_WARNINGS_AS_ERRORS AND NOT dtensor_newer_gnu)
  target_compile_options(dtensor_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()

# What the objects of the folders are linked with, besides what they are compiled against.
set(dtensor_libraries "")
if(DTENSOR_CUDA)
  list(APPEND dtensor_libraries CUDA::cudart_static CUDA::cublasLt)
endif()
if(DTENSOR_NCCL)
  list(APPEND dtensor_libraries ${CMAKE_DL_LIBS})
endif()
if(SerialBLAS_FOUND)
  list(APPEND dtensor_libraries SerialBLAS::SerialBLAS)
endif()

set_property(GLOBAL PROPERTY DTENSOR_FOLDERS "")

# dtensor_folder(<name> [BLAS] SOURCES a.cpp ...): the object library dtensor_<name>_objects.
# BLAS: Eigen's matrix products in this folder go through the serial BLAS when there is one.
function(dtensor_folder name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "BLAS" "" "SOURCES")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "dtensor_folder(${name}): unexpected ${arg_UNPARSED_ARGUMENTS}; write SOURCES before the list")
  endif()
  set_property(GLOBAL APPEND PROPERTY DTENSOR_FOLDERS ${name})
  if(NOT arg_SOURCES)
    return()
  endif()
  set(target dtensor_${name}_objects)
  add_library(${target} OBJECT ${arg_SOURCES})
  set_target_properties(${target} PROPERTIES
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(${target} PRIVATE dtensor_private dtensor_warnings)
  # A program may use another Eigen, or the same one compiled for another CPU; a name of our own keeps the linker from mixing them.
  target_compile_definitions(${target} PRIVATE Eigen=dtensor_eigen)
  if(arg_BLAS AND SerialBLAS_FOUND)
    target_compile_definitions(${target} PRIVATE EIGEN_USE_BLAS)
  endif()
endfunction()

# The object libraries up to and including folder `last` (ALL: every one), in order.
function(dtensor_objects_until last result)
  get_property(folders GLOBAL PROPERTY DTENSOR_FOLDERS)
  if(NOT last STREQUAL "ALL" AND NOT last IN_LIST folders)
    message(FATAL_ERROR "dtensor: there is no folder '${last}' (${folders})")
  endif()
  set(objects "")
  foreach(folder IN LISTS folders)
    if(TARGET dtensor_${folder}_objects)
      list(APPEND objects dtensor_${folder}_objects)
    endif()
    if(folder STREQUAL last)
      break()
    endif()
  endforeach()
  set(${result} ${objects} PARENT_SCOPE)
endfunction()
