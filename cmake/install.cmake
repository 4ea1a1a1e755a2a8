# SPDX-License-Identifier: Apache-2.0
# The package: headers, library, CMake config, pkg-config file.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dtensor)

install(TARGETS dtensor EXPORT dtensor-targets)
install(DIRECTORY include/dtensor DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT dtensor-targets NAMESPACE dtensor:: DESTINATION ${package_dir})
if(TARGET dtensor_cli)
  install(TARGETS dtensor_cli COMPONENT programs)
endif()

set(DTENSOR_NEEDS_CUDA OFF)
if(DTENSOR_CUDA AND NOT BUILD_SHARED_LIBS)
  set(DTENSOR_NEEDS_CUDA ON)
endif()

# Only a static library asks its user for the BLAS, and for what CUDA needs.
set(DTENSOR_NEEDS_BLAS OFF)
set(pkgconfig_private "")
if(SerialBLAS_FOUND AND NOT BUILD_SHARED_LIBS)
  set(DTENSOR_NEEDS_BLAS ON)
  get_filename_component(blas_dir ${SerialBLAS_LIBRARY} DIRECTORY)
  set(pkgconfig_private "-Wl,-rpath,${blas_dir} ${SerialBLAS_LIBRARY}")
endif()
if(DTENSOR_NEEDS_CUDA)
  string(APPEND pkgconfig_private " -L${CUDAToolkit_LIBRARY_DIR} -Wl,-rpath,${CUDAToolkit_LIBRARY_DIR} -lcublasLt -lcudart_static -lrt -ldl")
endif()
configure_package_config_file(cmake/dtensor-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/dtensor-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/dtensor-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/dtensor-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/dtensor-config-version.cmake
  cmake/FindSerialBLAS.cmake DESTINATION ${package_dir})

file(RELATIVE_PATH pkgconfig_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/dtensor.pc.in ${CMAKE_CURRENT_BINARY_DIR}/dtensor.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/dtensor.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
