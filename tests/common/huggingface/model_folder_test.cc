// Safetensors files and model folders, legal and hostile.
#include "common/huggingface/model_folder.h"
#include "common/huggingface/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/common/huggingface/safetensors_builder.h"

namespace tandem::huggingface {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kTwo =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]},)"
    R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})";
const std::string kData = "aaaabbbbccccddddefgh";

// A copy on the heap of exactly the file's size: AddressSanitizer sees any read past it.
std::string ErrorOf(const std::string& file) {
  const std::vector<std::byte> bytes(reinterpret_cast<const std::byte*>(file.data()),
                                     reinterpret_cast<const std::byte*>(file.data()) + file.size());
  const auto parsed = SafetensorsFile::Parse(bytes, "test");
  return parsed.ok() ? "no error" : std::string(Message(parsed.status()));
}

std::string ErrorOfTensor(std::string_view entry, std::string_view data = "") {
  return ErrorOf(SafetensorsBytes(fmt::format(R"({{"t":{}}})", entry), data));
}

TEST(Safetensors, ReadsTensorsInTheirOrder) {
  const std::string bytes = SafetensorsBytes(kTwo, kData);
  const auto file = SafetensorsFile::Parse(std::as_bytes(std::span(bytes)), "test");
  ASSERT_TRUE(file.ok()) << Message(file.status());
  ASSERT_EQ((*file)->tensors().size(), 2u);
  const Tensor& a = (*file)->tensors()[0];
  const Tensor& b = (*file)->tensors()[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_THAT(a.shape, ElementsAre(2, 2));
  EXPECT_EQ(a.rows(), 2);
  EXPECT_EQ(a.data.size(), 16u);
  EXPECT_EQ(b.dtype_name, "BF16");
  EXPECT_EQ(b.rows(), 1);
  EXPECT_EQ(static_cast<char>(b.data[0]), 'e');
}

TEST(Safetensors, NamesWhatIsWrong) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "0 bytes are no safetensors file"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + "{}",
       "a header of 18446744073709551615"},
      {SafetensorsBytes(std::string(17 << 20, ' '), ""), "the most that is read"},
      {SafetensorsBytes("{\"a\":", ""), "not JSON"},
      {SafetensorsBytes(std::string(100000, '['), ""), "not JSON"},
      {SafetensorsBytes("[1]", ""), "not a JSON object"},
      {SafetensorsBytes(kTwo, kData.substr(0, 19)), "tensor 'b' lies at bytes 16 to 20 of 19"},
      {SafetensorsBytes(kTwo, kData + "x"), "1 bytes follow the last tensor"},
      {SafetensorsBytes(R"({"t\n":1})", ""), "tensor 't?' is not an object"},
  };
  for (const auto& [file, error] : cases) EXPECT_THAT(ErrorOf(file), HasSubstr(error));
  const std::pair<const char*, const char*> entries[] = {
      {R"({"shape":[1],"data_offsets":[0,4]})", "dtype is not a string"},
      {R"({"dtype":"F4","shape":[1],"data_offsets":[0,4]})", "dtype 'F4' is not known"},
      {R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", "shape is not an array"},
      {R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})", "at most 8"},
      {R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", "no integer of 0 or more"},
      {R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", "no integer of 0 or more"},
      {R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]})", "no integer"},
      {R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})", "impossible shape"},
      {R"({"dtype":"F32","shape":[1000000000000,1000000000000],"data_offsets":[0,4]})",
       "impossible shape"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", "not a begin and an end"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", "not a begin and an end"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", "its shape takes 8 bytes"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", "lies at bytes 4 to 8"},
  };
  for (const auto& [entry, error] : entries) EXPECT_THAT(ErrorOfTensor(entry), HasSubstr(error));
  EXPECT_THAT(ErrorOf(SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                                       "abcdef")),
              HasSubstr("tensor 'b' lies at bytes 2 to 6 of 6, and the one before ends at 4"));
}

// A folder of its own for each test.
class Folder : public ::testing::Test {
 protected:
  Folder() : path_(::testing::TempDir() + "tandem_folder_" + std::to_string(getpid())) {
    std::filesystem::create_directories(path_);
    Write("config.json", R"({"model_type":"llama","n":3,"f":1,"none":null,"o":{"l":["x"]}})");
  }
  ~Folder() override { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, std::string_view content) {
    std::ofstream(path_ + "/" + name, std::ios::binary) << content;
  }
  std::string Error() {
    const auto folder = ModelFolder::Open(path_);
    return folder.ok() ? "no error" : std::string(Message(folder.status()));
  }
  std::string path_;
};

TEST_F(Folder, ReadsConfigAndOneFile) {
  Write("model.safetensors", SafetensorsBytes(kTwo, kData));
  const auto folder = ModelFolder::Open(path_);
  ASSERT_TRUE(folder.ok()) << Message(folder.status());
  EXPECT_TRUE(IsFolder(path_));
  EXPECT_FALSE(IsFolder(path_ + "/config.json"));
  EXPECT_EQ((*folder)->tensors().size(), 2u);
  EXPECT_NE((*folder)->Find("b"), nullptr);
  EXPECT_EQ((*folder)->Find("c"), nullptr);
  const JsonConfig& config = (*folder)->config();
  EXPECT_EQ(*config.GetString("model_type"), "llama");
  EXPECT_EQ(*config.GetInt("n"), 3);
  EXPECT_EQ(*config.GetFloat("f"), 1);
  EXPECT_FALSE(config.Has("none"));
  EXPECT_THAT(*config.GetObject("o")->GetStrings("l"), ElementsAre("x"));
  EXPECT_THAT(std::string(Message(config.GetObject("o")->GetInts("l").status())),
              HasSubstr("config.json: o: l is not an array of integers"));
}

TEST_F(Folder, ReadsTheShardsOfAnIndex) {
  const auto one = [](const char* name) {
    return SafetensorsBytes(
        fmt::format(R"({{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}})", name), "x");
  };
  Write("model.safetensors.index.json",
        R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  Write("1.safetensors", one("a"));
  EXPECT_THAT(Error(), HasSubstr("2.safetensors: cannot open"));
  Write("2.safetensors", one("a"));
  EXPECT_THAT(Error(), HasSubstr("2.safetensors: tensor 'a' is in another shard too"));
  Write("2.safetensors", one("b"));
  EXPECT_EQ(Error(), "no error");
  Write("model.safetensors.index.json", R"({"weight_map":{"a":"../1.safetensors"}})");
  EXPECT_THAT(Error(), HasSubstr("'../1.safetensors' is not the name of a .safetensors file"));
  Write("model.safetensors.index.json", R"({"weight_map":{}})");
  EXPECT_THAT(Error(), HasSubstr("0 files"));
}

TEST_F(Folder, NamesWhatIsMissing) {
  EXPECT_THAT(Error(), HasSubstr("neither model.safetensors nor model.safetensors.index.json"));
  Write("config.json", "[]");
  EXPECT_THAT(Error(), HasSubstr("config.json: not a JSON object"));
  std::filesystem::remove(path_ + "/config.json");
  EXPECT_THAT(Error(), HasSubstr("config.json: cannot open"));
}

TEST_F(Folder, TheFingerprintFollowsWhatMatters) {
  Write("model.safetensors", SafetensorsBytes(kTwo, kData));
  std::set<std::string> prints;
  const auto now = [&] {
    const StatusOr<std::string> print = Fingerprint(path_);
    return print.ok() ? *print : std::string(Message(print.status()));
  };
  const std::string first = now();
  EXPECT_EQ(first.size(), 32u);
  EXPECT_EQ(now(), first);
  Write("README.md", "not part of it");
  EXPECT_EQ(now(), first);
  prints.insert(first);
  Write("tokenizer.json", "{}");
  prints.insert(now());
  Write("config.json", R"({"model_type":"qwen3"})");
  prints.insert(now());
  Write("model.safetensors", SafetensorsBytes(kTwo, "aaaabbbbccccdddDefgh"));
  prints.insert(now());
  EXPECT_EQ(prints.size(), 4u);
}

TEST_F(Folder, SaysWhatToSampleWith) {
  const auto none = ReadGenerationConfig(path_);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->temperature || none->top_k || none->max_new_tokens);
  Write("generation_config.json",
        R"({"do_sample":true,"eos_token_id":[1,2],"temperature":0.6,"top_p":0.95,"top_k":-1,)"
        R"("min_p":null,"repetition_penalty":1.05,"max_new_tokens":2048})");
  const auto some = ReadGenerationConfig(path_);
  ASSERT_TRUE(some.ok()) << Message(some.status());
  EXPECT_FLOAT_EQ(*some->temperature, 0.6f);
  EXPECT_FLOAT_EQ(*some->top_p, 0.95f);
  EXPECT_FALSE(some->min_p);
  EXPECT_EQ(*some->top_k, 0);
  EXPECT_FLOAT_EQ(*some->repetition_penalty, 1.05f);
  EXPECT_EQ(*some->max_new_tokens, 2048);
  const std::pair<const char*, const char*> mistakes[] = {
      {"[]", "not a JSON object"},
      {R"({"temperature":"hot"})", "temperature is not a number"},
      {R"({"temperature":7})", "temperature is 7, not 0 to 2"},
      {R"({"top_p":0})", "top_p is 0"},
      {R"({"top_k":-2})", "top_k is -2, not -1 or more"},
      {R"({"max_new_tokens":0})", "max_new_tokens is 0, not 1 or more"}};
  for (const auto& [text, why] : mistakes) {
    Write("generation_config.json", text);
    const auto wrong = ReadGenerationConfig(path_);
    ASSERT_FALSE(wrong.ok()) << text;
    EXPECT_THAT(std::string(Message(wrong.status())), HasSubstr(why));
  }
}

}  // namespace
}  // namespace tandem::huggingface
