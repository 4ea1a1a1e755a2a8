# SPDX-License-Identifier: Apache-2.0
# Tests are named <folder>.<unit>. Labels: quick (default), full, golden, gpu; further ones: pure, threads.

add_library(dtensor_test_main OBJECT ${CMAKE_CURRENT_SOURCE_DIR}/main.cpp)
target_link_libraries(dtensor_test_main PRIVATE doctest::doctest dtensor_warnings)
target_compile_features(dtensor_test_main PRIVATE cxx_std_20)

# What the thread sanitizer has to say something about: the tests of label threads, to be built by themselves.
add_custom_target(threads_tests)

# The properties that every test has: a time limit and labels, `quick` unless one of the others says when it runs.
function(dtensor_test_properties test labels)
  if(NOT "full" IN_LIST labels AND NOT "golden" IN_LIST labels AND NOT "gpu" IN_LIST labels)
    list(APPEND labels quick)
  endif()
  set(limit 600)
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize" OR "full" IN_LIST labels)
    set(limit 3600)
  endif()
  set_tests_properties(${test} PROPERTIES TIMEOUT ${limit} LABELS "${labels}" SKIP_REGULAR_EXPRESSION "SKIPPED: ")
endfunction()

function(dtensor_test_program test objects)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "UNIT_SOURCE;MAIN" "LABELS;SOURCES;LIBS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "test ${test}: unexpected ${arg_UNPARSED_ARGUMENTS}")
  endif()
  string(REGEX REPLACE "^[^.]*\\." "" unit ${test})
  if(NOT arg_UNIT_SOURCE)
    set(arg_UNIT_SOURCE ${unit}_test.cpp)
  endif()
  if(NOT arg_MAIN)
    set(arg_MAIN dtensor_test_main)
  endif()
  string(REPLACE "." "_" target ${test}_test)
  add_executable(${target} ${arg_UNIT_SOURCE} ${arg_SOURCES})
  set_target_properties(${target} PROPERTIES CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${target} PRIVATE DTENSOR_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${target} PRIVATE ${arg_MAIN} ${objects} dtensor_private dtensor_warnings doctest::doctest ${arg_LIBS} ${dtensor_libraries})
  if("threads" IN_LIST arg_LABELS)
    add_dependencies(threads_tests ${target})
  endif()
  add_test(NAME ${test} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  dtensor_test_properties(${test} "${arg_LABELS}")
endfunction()

# dtensor_test(<folder> <unit> [LABELS ...] [SOURCES more.cpp] [LIBS ...]): <unit>_test.cpp beside the calling CMakeLists.txt, linked
# with the folder and those before it only, so that the linker proves the order. Target: <folder>_<unit>_test.
function(dtensor_test folder unit)
  dtensor_objects_until(${folder} objects)
  dtensor_test_program(${folder}.${unit} "${objects}" ${ARGN})
endfunction()

# The same with the whole library; the folder is only a name.
function(dtensor_test_full folder unit)
  dtensor_objects_until(ALL objects)
  dtensor_test_program(${folder}.${unit} "${objects}" ${ARGN})
endfunction()

# dtensor_script_test(<folder> <unit> [LABELS ...] COMMAND ...): a script; it skips itself by printing "SKIPPED: why".
function(dtensor_script_test folder unit)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "LABELS;COMMAND")
  add_test(NAME ${folder}.${unit} COMMAND ${arg_COMMAND} WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  dtensor_test_properties(${folder}.${unit} "${arg_LABELS}")
endfunction()
