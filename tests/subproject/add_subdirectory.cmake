# SPDX-License-Identifier: Apache-2.0
cmake_minimum_required(VERSION 3.25)
# Builds and runs the consumer, which adds dtensor's sources, and checks that dtensor left the parent's settings alone.
find_program(ccache ccache)
set(launcher "")
if(ccache)
  set(launcher -DCMAKE_CXX_COMPILER_LAUNCHER=${ccache})
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK} -G Ninja -DCMAKE_CXX_COMPILER=${CXX} -DDTENSOR=${DTENSOR} ${launcher}
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${WORK} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${WORK}/consumer COMMAND_ERROR_IS_FATAL ANY)

file(GLOB_RECURSE programs ${WORK}/*_test ${WORK}/dtensor/examples/* ${WORK}/dtensor/bench/*)
if(programs)
  message(FATAL_ERROR "the parent did not ask for tests, examples or benchmarks: ${programs}")
endif()
