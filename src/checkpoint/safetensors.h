// SPDX-License-Identifier: Apache-2.0
// The safetensors format: 8 bytes of little-endian header length, a JSON object {name: {dtype, shape, data_offsets}}, then the data.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "dtensor/checkpoint.h"

namespace dtensor::checkpoints {

/// Reads and checks a header. @throws InvalidArgument naming file and tensor: truncated, header longer than the file, not JSON, name twice, unknown dtype, a size that
/// does not fit shape and dtype, offsets out of range, overlapping or with gaps.
std::vector<StoredTensor> read_header(const std::string& file);
/// The header's bytes (length included, padded to 8) for tensors laid out in the given order; fills begin and end of each as positions in the file.
std::string make_header(std::vector<StoredTensor>& tensors);
/// A file, or a folder with `<group>.safetensors.index.json` or `<group>.safetensors`.
std::vector<StoredTensor> list_group(const std::string& path, const std::string& group);
/// Text of an index file.
std::string make_index(const std::vector<StoredTensor>& tensors);

}  // namespace dtensor::checkpoints
