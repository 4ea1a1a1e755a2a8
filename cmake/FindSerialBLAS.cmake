# SPDX-License-Identifier: Apache-2.0
# SerialBLAS::SerialBLAS: an OpenBLAS without threads of its own (Debian: libopenblas-serial-dev). Other variants are not taken:
# ranks are threads, and a process-wide pool under them would be shared by all.
find_library(SerialBLAS_LIBRARY openblas
  PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial /usr/lib/openblas-serial
  NO_DEFAULT_PATH)
mark_as_advanced(SerialBLAS_LIBRARY)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(SerialBLAS REQUIRED_VARS SerialBLAS_LIBRARY)
if(SerialBLAS_FOUND AND NOT TARGET SerialBLAS::SerialBLAS)
  add_library(SerialBLAS::SerialBLAS UNKNOWN IMPORTED)
  set_target_properties(SerialBLAS::SerialBLAS PROPERTIES IMPORTED_LOCATION ${SerialBLAS_LIBRARY})
endif()
