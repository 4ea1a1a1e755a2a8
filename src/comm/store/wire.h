// SPDX-License-Identifier: Apache-2.0
// What goes over the connections of a TCP store.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace dtensor::comm {

enum class StoreRequest : std::uint8_t { set, set_new, get, set_when_lost, leave, join };
/// What a store answers to join: key and value of the request are those of its own job and run; of another job; of another run of the same job.
enum class Joining : std::uint8_t { other_job, joined, other_run };

/// Of all processes alike, so the machine's byte order would do; this one is fixed.
inline void put_u32(std::string& to, std::uint32_t n) {
  for (int shift = 0; shift < 32; shift += 8) to += static_cast<char>(n >> shift & 0xff);
}
inline std::uint32_t get_u32(const char* from) {
  std::uint32_t n = 0;
  for (unsigned k = 0; k < 4; ++k) n |= static_cast<std::uint32_t>(static_cast<unsigned char>(from[k])) << (8 * k);
  return n;
}

/// A byte (what it is; of an answer: whether there is a value), the length of the key, that of the value, both.
struct Message {
  std::uint8_t kind = 0;
  std::string key, value;
};
inline constexpr std::size_t kMessageHead = 9;
inline constexpr std::uint32_t kMostBytes = 1 << 20;  // of a key or value; more is not ours
inline std::string encoded(std::uint8_t kind, std::string_view key, std::string_view value) {
  std::string bytes(1, static_cast<char>(kind));
  put_u32(bytes, static_cast<std::uint32_t>(key.size()));
  put_u32(bytes, static_cast<std::uint32_t>(value.size()));
  return bytes.append(key).append(value);
}
enum class Reading : std::uint8_t { complete, incomplete, foreign };
/// Takes the first message off `bytes`.
inline Reading take_message(std::string& bytes, Message& message) {
  if (bytes.size() < kMessageHead) return Reading::incomplete;
  const std::uint32_t key = get_u32(bytes.data() + 1), value = get_u32(bytes.data() + 5);
  if (key > kMostBytes || value > kMostBytes) return Reading::foreign;
  if (bytes.size() < kMessageHead + key + value) return Reading::incomplete;
  message = {static_cast<std::uint8_t>(bytes[0]), bytes.substr(kMessageHead, key), bytes.substr(kMessageHead + key, value)};
  bytes.erase(0, kMessageHead + key + value);
  return Reading::complete;
}

}  // namespace dtensor::comm
