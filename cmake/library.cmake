# SPDX-License-Identifier: Apache-2.0
# The library dtensor::dtensor, assembled from the folders.
add_library(dtensor)
add_library(dtensor::dtensor ALIAS dtensor)
dtensor_objects_until(ALL objects)
foreach(folder IN LISTS objects)
  target_sources(dtensor PRIVATE $<TARGET_OBJECTS:${folder}>)
endforeach()
set_target_properties(dtensor PROPERTIES
  LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  INSTALL_RPATH_USE_LINK_PATH ON)
target_compile_features(dtensor PUBLIC cxx_std_20)
target_include_directories(dtensor PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_link_libraries(dtensor PUBLIC Threads::Threads)
target_link_libraries(dtensor PRIVATE ${dtensor_libraries})
