# SPDX-License-Identifier: Apache-2.0
# The sources of communicators over NCCL: nccl_code, and nccl_api_code, which calls NCCL; tests link something else in its place.
set(nccl_folder ${PROJECT_SOURCE_DIR}/src/comm/nccl)
set(nccl_code ${nccl_folder}/group.cpp ${nccl_folder}/lowering.cpp ${nccl_folder}/nccl_job.cpp ${nccl_folder}/nccl_transport.cpp
  ${nccl_folder}/window.cpp)
set(nccl_api_code ${nccl_folder}/api_nccl.cpp)
