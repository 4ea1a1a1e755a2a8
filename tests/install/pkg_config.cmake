# SPDX-License-Identifier: Apache-2.0
# Builds and runs the consumer with the flags that pkg-config gives.
find_program(pkg_config NAMES pkg-config pkgconf)
if(NOT pkg_config)
  message("SKIPPED: pkg-config is not installed")
  return()
endif()
file(MAKE_DIRECTORY ${WORK})
set(ENV{PKG_CONFIG_PATH} ${PC_DIR})
execute_process(COMMAND ${pkg_config} --cflags --libs dtensor OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
execute_process(COMMAND ${CXX} -std=c++20 ${SOURCE}/main.cpp -o ${WORK}/consumer ${flags} COMMAND_ERROR_IS_FATAL ANY)
set(ENV{LD_LIBRARY_PATH} ${LIB_DIR})
execute_process(COMMAND ${WORK}/consumer COMMAND_ERROR_IS_FATAL ANY)
