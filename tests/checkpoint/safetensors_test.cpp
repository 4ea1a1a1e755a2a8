// SPDX-License-Identifier: Apache-2.0
// Files byte by byte: what is written can be read by the format's definition, what is damaged is refused by a text that names file and tensor.
#include <doctest/doctest.h>

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "dtensor/checkpoint.h"
#include "dtensor/error.h"

using namespace dtensor;
namespace fs = std::filesystem;

namespace {

class Folder {
 public:
  Folder() {
    static int number = 0;
    path_ = fs::temp_directory_path() / ("dtensor_safetensors_" + std::to_string(::getpid()) + "_" + std::to_string(number++));
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t n = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  return bytes + header + data;
}
void write(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
// The text with which a file of these bytes is refused, without its path.
std::string refusal(const std::string& bytes) {
  const Folder folder;
  const std::string path = folder.file("a.safetensors");
  write(path, bytes);
  try {
    list_checkpoint(path);
  } catch (const InvalidArgument& e) {
    std::string text = e.what();
    const auto at = text.find(path);
    REQUIRE(at != std::string::npos);
    return text.replace(at, path.size(), "FILE");
  }
  return "accepted";
}
bool says(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return true;
}

}  // namespace

TEST_CASE("a written file is what the format says: length, JSON, data without gaps") {
  const Folder folder;
  const std::string path = folder.file("x.safetensors");
  write_safetensors(path, {{"a", Tensor::of(std::vector<float>{1, 2, 3}, {3})}, {"b", Tensor::of(std::vector<std::int64_t>{7}, {1, 1})}});
  const std::string bytes = read(path);
  std::uint64_t n = 0;
  std::memcpy(&n, bytes.data(), 8);
  CHECK(n % 8 == 0);
  const std::string header = bytes.substr(8, n);
  CHECK(header.find("\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}") != std::string::npos);
  CHECK(header.find("\"b\":{\"dtype\":\"I64\",\"shape\":[1,1],\"data_offsets\":[12,20]}") != std::string::npos);
  CHECK(bytes.size() == 8 + n + 20);
  float second = 0;
  std::memcpy(&second, bytes.data() + 8 + n + 4, 4);
  CHECK(second == 2);
  const auto stored = list_checkpoint(path);
  REQUIRE(stored.size() == 2);
  CHECK(read_tensor(stored[1]).values<const std::int64_t>()[0] == 7);
  CHECK_FALSE(fs::exists(path + ".saving"));
}

TEST_CASE("every dtype goes to a file and back, sizes 0 and 0 dims included") {
  const Folder folder;
  for (Dtype d : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean}) {
    for (const Shape& shape : {Shape{2, 3}, Shape{0, 4}, Shape{}}) {
      const std::string path = folder.file(to_string(d) + std::to_string(shape.numel()));
      const Tensor t = Tensor::of(std::vector<double>(static_cast<std::size_t>(shape.numel()), 1), shape).to(d);
      write_safetensors(path, {{"t", t}});
      const Tensor back = read_tensor(list_checkpoint(path).at(0));
      CHECK(back.shape() == shape);
      CHECK(back.dtype() == d);
      CHECK(std::memcmp(back.read(), t.read(), static_cast<std::size_t>(t.bytes())) == 0);
    }
  }
}

TEST_CASE("damaged files are refused, each with a text that names file and tensor") {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string data(8, 'x');
  CHECK(refusal(file_of(good, data)) == "accepted");
  says(refusal("1234"), "FILE: truncated (4 bytes");
  says(refusal(file_of(good, data).substr(0, 30)), "FILE: the header of 54 bytes is longer than the file of 30");
  says(refusal(file_of(good, "xxxx")), "FILE: tensor 'a': data_offsets [0, 8] leave the data of 4 bytes");
  says(refusal(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + good), "FILE: the header of 18446744073709551615 bytes is longer than the file");
  says(refusal(file_of("{\"a\":", data)), "FILE");
  says(refusal(file_of("[1, 2]", data)), "FILE");
  says(refusal(file_of(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", data)), "FILE: tensor 'a': ");
  says(refusal(file_of(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", data)), "F31");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", data)),
       "FILE: tensor 'a': 8 bytes are stored for f32[3] of 12 bytes");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", data)), "FILE: tensor 'a': data_offsets [8, 0]");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", data)),
       "FILE: tensor 'a': a size is not a number that is not negative");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", data)), "FILE: tensor 'a': data_offsets are no pair of numbers");
  says(refusal(file_of(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", data)), "FILE: tensor 'a': ");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", data)),
       "FILE: tensor 'a': the shape is larger than any file");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", data)),
       "tensor 'b' overlaps the one before it");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", data)), "FILE: 4 bytes before tensor 'a' belong to no tensor");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", data)), "FILE: 4 bytes at the end belong to no tensor");
  says(refusal(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", data)),
       "'a'");
}

TEST_CASE("a name twice is refused when it is written too") {
  const Folder folder;
  const Tensor t = Tensor::of(std::vector<float>{1}, {1});
  CHECK_THROWS_WITH_AS(write_safetensors(folder.file("x"), {{"a", t}, {"a", t}}), "write_safetensors: tensor 'a' is given twice", InvalidArgument);
}

TEST_CASE("an index that names a missing file, or a tensor that its file lacks, is refused") {
  const Folder folder;
  write(folder.file("model.safetensors.index.json"), R"({"weight_map":{"a":"one.safetensors"}})");
  CHECK_THROWS_WITH_AS(list_checkpoint(folder.file("")), doctest::Contains("one.safetensors is missing; "), InvalidArgument);
  write_safetensors(folder.file("one.safetensors"), {{"b", Tensor::of(std::vector<float>{1}, {1})}});
  CHECK_THROWS_WITH_AS(list_checkpoint(folder.file("")), doctest::Contains("one.safetensors lacks tensor 'a', which "), InvalidArgument);
  write(folder.file("model.safetensors.index.json"), R"({"weight_map":{"a":"../one.safetensors"}})");
  CHECK_THROWS_WITH_AS(list_checkpoint(folder.file("")), doctest::Contains("tensor 'a' has no plain file name"), InvalidArgument);
  write(folder.file("model.safetensors.index.json"), "{}");
  CHECK_THROWS_WITH_AS(list_checkpoint(folder.file("")), doctest::Contains("\"weight_map\" is missing"), InvalidArgument);
}

TEST_CASE("resharding cuts a checkpoint into files of bounded size and keeps every byte") {
  const Folder folder;
  fs::create_directories(folder.file("from"));
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (int i = 0; i < 5; ++i) tensors.emplace_back("t" + std::to_string(i), Tensor::of(std::vector<float>(10, static_cast<float>(i)), {10}));
  write_safetensors(folder.file("from") + "/model.safetensors", tensors);
  reshard_checkpoint(folder.file("from"), folder.file("to"), 80);
  const auto stored = list_checkpoint(folder.file("to"));
  REQUIRE(stored.size() == 5);
  for (const StoredTensor& t : stored) CHECK(read_tensor(t).values<const float>()[9] == static_cast<float>(t.name[1] - '0'));
  int files = 0;
  for (const auto& e : fs::directory_iterator(folder.file("to")))
    if (e.path().extension() == ".safetensors") ++files;
  CHECK(files == 3);
}
