#include "common/gguf/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "tests/common/gguf/gguf_builder.h"

namespace tandem::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A copy on the heap of exactly the file's size: AddressSanitizer sees any read past it.
struct Bytes {
  explicit Bytes(std::string_view text) : size(text.size()), data(new std::byte[text.size()]) {
    std::memcpy(data.get(), text.data(), text.size());
  }
  std::span<const std::byte> span() const { return {data.get(), size}; }
  size_t size;
  std::unique_ptr<std::byte[]> data;
};

std::string ErrorOf(std::string_view text) {
  const Bytes bytes(text);
  auto file = File::Parse(bytes.span(), "test.gguf");
  return file.ok() ? "no error" : std::string(Message(file.status()));
}

// Reads everything a file offers, so that sanitizers see every access.
size_t ReadAll(const File& file, std::span<const std::string> keys) {
  size_t sum = file.Fingerprint().size();
  for (const std::string& key : keys) {
    sum += file.GetInt(key).ok() + file.GetFloat(key).ok() + file.GetBool(key).ok();
    if (auto v = file.GetString(key); v.ok()) sum += std::string(*v).size();
    if (auto v = file.GetInts(key); v.ok()) sum += v->size();
    if (auto v = file.GetFloats(key); v.ok()) sum += v->size();
    if (auto v = file.GetStrings(key); v.ok()) {
      for (std::string_view s : *v) sum += std::string(s).size();
    }
  }
  for (const Tensor& tensor : file.tensors()) {
    if (file.Find(tensor.name) != &tensor) abort();
    for (const std::byte b : tensor.data) sum += static_cast<size_t>(b);
  }
  return sum;
}

constexpr float kWeights[] = {1, 2, 3, 4, 5, 6};

const std::vector<std::string> kKeys = {"general.alignment", "name", "bool",  "int", "float",
                                        "strings",           "ints", "floats"};

GgufBuilder SmallFile() {
  GgufBuilder builder;
  builder.Alignment(16);
  builder.String("name", "tiny").Bool("bool", true).Uint32("int", 7).Float32("float", 0.5f);
  const std::vector<std::string> strings = {"a", "", "ccc"};
  const std::vector<int32_t> ints = {-1, 2};
  const std::vector<float> floats = {0.25f};
  builder.Strings("strings", strings).Ints("ints", ints).Floats("floats", floats);
  builder.F32("weight", {3, 2}, kWeights);
  builder.Tensor("quantized", {64, 2}, 3, std::vector<std::byte>(4 * 20, std::byte{9}));
  builder.Tensor("unsupported", {256}, 16, std::vector<std::byte>(144));
  return builder;
}

TEST(GgufFile, ReadsMetadataOfEveryKind) {
  const Bytes bytes(SmallFile().Build());
  auto file = File::Parse(bytes.span(), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->name(), "tiny.gguf");
  EXPECT_EQ((*file)->GetString("name").value(), "tiny");
  EXPECT_EQ((*file)->GetBool("bool").value(), true);
  EXPECT_EQ((*file)->GetInt("int").value(), 7);
  EXPECT_EQ((*file)->GetFloat("float").value(), 0.5);
  EXPECT_THAT((*file)->GetStrings("strings").value(), ElementsAre("a", "", "ccc"));
  EXPECT_THAT((*file)->GetInts("ints").value(), ElementsAre(-1, 2));
  EXPECT_THAT((*file)->GetFloats("floats").value(), ElementsAre(0.25));
  EXPECT_TRUE((*file)->Has("ints"));
  EXPECT_FALSE((*file)->Has("int "));
}

TEST(GgufFile, ShowsTensorsAsViews) {
  const Bytes bytes(SmallFile().Build());
  auto file = File::Parse(bytes.span(), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->tensors().size(), 3u);
  const Tensor* weight = (*file)->Find("weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->num_dims, 2);
  EXPECT_EQ(weight->cols(), 3);
  EXPECT_EQ(weight->rows(), 2);
  ASSERT_EQ(weight->data.size(), sizeof(kWeights));
  EXPECT_EQ(std::memcmp(weight->data.data(), kWeights, sizeof(kWeights)), 0);
  EXPECT_EQ((*file)->Find("quantized")->data.size(), 80u);
  EXPECT_EQ((*file)->Find("quantized")->data[0], std::byte{9});
  EXPECT_EQ((*file)->Find("none"), nullptr);
}

TEST(GgufFile, ListsTensorsOfUnsupportedTypesWithoutData) {
  const Bytes bytes(SmallFile().Build());
  auto file = File::Parse(bytes.span(), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  const Tensor* tensor = (*file)->Find("unsupported");
  ASSERT_NE(tensor, nullptr);
  EXPECT_FALSE(IsSupported(tensor->type));
  EXPECT_STREQ(TypeName(tensor->type), "IQ2_XXS");
  EXPECT_STREQ(TypeName(static_cast<TensorType>(4711)), "unknown");
  EXPECT_TRUE(tensor->data.empty());
}

TEST(GgufFile, NamesMissingKeysAndWrongTypes) {
  const Bytes bytes(SmallFile().Build());
  auto file = File::Parse(bytes.span(), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->GetInt("nothing").status().code(), StatusCode::kNotFound);
  const Status wrong = (*file)->GetInt("name").status();
  EXPECT_EQ(wrong.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(wrong)), HasSubstr("'name' is of type string, not an integer"));
  EXPECT_THAT(std::string(Message((*file)->GetFloats("ints").status())),
              HasSubstr("an array of int32, not an array of floating-point"));
  EXPECT_EQ((*file)->GetString("strings").status().code(), StatusCode::kInvalidArgument);
}

TEST(GgufFile, IntegersOfEveryWidthAreRead) {
  GgufBuilder builder;
  builder.Scalar<uint8_t>("u8", 0, 200).Scalar<int8_t>("i8", 1, -3);
  builder.Scalar<uint16_t>("u16", 2, 60000).Scalar<int16_t>("i16", 3, -4);
  builder.Scalar<uint64_t>("u64", 10, 1ull << 40).Scalar<int64_t>("i64", 11, -5);
  builder.Scalar<uint64_t>("huge", 10, ~0ull).Scalar<double>("f64", 12, 0.1);
  const Bytes bytes(builder.Build());
  auto file = File::Parse(bytes.span(), "t");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->GetInt("u8").value(), 200);
  EXPECT_EQ((*file)->GetInt("i8").value(), -3);
  EXPECT_EQ((*file)->GetInt("u16").value(), 60000);
  EXPECT_EQ((*file)->GetInt("i16").value(), -4);
  EXPECT_EQ((*file)->GetInt("u64").value(), int64_t{1} << 40);
  EXPECT_EQ((*file)->GetInt("i64").value(), -5);
  EXPECT_FALSE((*file)->GetInt("huge").ok());
  EXPECT_EQ((*file)->GetFloat("f64").value(), 0.1);
}

TEST(GgufFile, EveryPrefixIsAnErrorAndNeverACrash) {
  const std::string whole = SmallFile().Build();
  ASSERT_EQ(ErrorOf(whole), "no error");
  // The last tensor's type is not supported, so its data is not looked at.
  const size_t needed = whole.size() - 144;
  for (size_t size = 0; size < needed; ++size) {
    EXPECT_NE(ErrorOf(std::string_view(whole).substr(0, size)), "no error") << size;
  }
}

TEST(GgufFile, EveryFlippedByteIsHarmless) {
  const std::string whole = SmallFile().Build();
  size_t refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string text = whole;
      text[i] = static_cast<char>(text[i] ^ flip);
      const Bytes bytes(text);
      auto file = File::Parse(bytes.span(), "t");
      refused += !file.ok();
      if (file.ok()) ReadAll(**file, kKeys);
    }
  }
  EXPECT_GT(refused, whole.size() / 4);
}

TEST(GgufFile, RandomGarbageBehindALegalHeaderIsHarmless) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  const std::string whole = SmallFile().Build();
  for (int i = 0; i < 2000; ++i) {
    std::string text = whole;
    const int changes = 1 + static_cast<int>(rng() % 8);
    for (int c = 0; c < changes; ++c) {
      const size_t at = 8 + rng() % (text.size() - 8);
      text[at] = static_cast<char>(rng() % 3 == 0 ? rng() : rng() % 16);
    }
    const Bytes bytes(text);
    auto file = File::Parse(bytes.span(), "t");
    if (file.ok()) ReadAll(**file, kKeys);
  }
}

struct HostileCase {
  const char* name;
  std::string bytes;
  const char* error;
};

std::string RawString(std::string_view text, uint64_t claimed) {
  std::string out(reinterpret_cast<const char*>(&claimed), 8);
  return out + std::string(text);
}

std::vector<HostileCase> HostileCases() {
  const uint64_t huge = std::numeric_limits<uint64_t>::max();
  const std::vector<std::string> two = {"a", "b"};
  const std::vector<std::byte> data(64);
  std::string long_key = GgufBuilder().AddToCounts(0, 1).Build() + RawString("abcdefghijkl", huge);
  std::string nested = GgufBuilder().AddToCounts(0, 1).Build() + RawString("key", 3);
  for (int i = 0; i < 100; ++i)
    nested += std::string("\x09\0\0\0", 4) + (i ? RawString("", 1) : "");
  return {
      {"empty", "", "ends inside the header"},
      {"zip", "PK\x03\x04 something else", "not a GGUF file"},
      {"v1", GgufBuilder().Version(1).Build(), "version 1 is not supported"},
      {"v2", GgufBuilder().Version(2).Build(), "version 2 is not supported"},
      {"v4", GgufBuilder().Version(4).Build(), "version 4 is not supported"},
      {"big-endian", GgufBuilder().Version(0x03000000).Build(), "big-endian"},
      {"keys", GgufBuilder().AddToCounts(0, huge).Build(), "metadata keys do not fit"},
      {"tensors", GgufBuilder().AddToCounts(huge, 0).Build(), "tensors do not fit"},
      {"a key's length", long_key, "ends inside a metadata key"},
      {"depth", nested, "nests arrays deeper"},
      {"value type", GgufBuilder().Scalar<uint32_t>("k", 13, 0).Build(), "value type 13"},
      {"array count", GgufBuilder().ArrayHeader("k", 10, huge / 8 + 2).Build(),
       "ends inside key 'k'"},
      {"strings count", GgufBuilder().ArrayHeader("k", 8, huge).Build(), "ends inside key 'k'"},
      {"array type", GgufBuilder().ArrayHeader("k", 99, 0).Build(), "value type 99"},
      {"twice", GgufBuilder().Uint32("k", 1).Uint32("j", 1).Uint32("k", 1).Build(),
       "'k' appears twice"},
      {"empty key", GgufBuilder().Uint32("", 1).Build(), "metadata key of 0 bytes"},
      {"unprintable", GgufBuilder().Scalar<uint32_t>("\x1b[31m\n", 13, 0).Build(), "key '?[31m?'"},
      {"alignment 0", GgufBuilder().Uint32("general.alignment", 0).Build(), "alignment is 0"},
      {"alignment 24", GgufBuilder().Uint32("general.alignment", 24).Build(), "alignment is 24"},
      {"alignment text", GgufBuilder().String("general.alignment", "32").Build(), "not an integer"},
      {"no dims", GgufBuilder().Tensor("t", {}, 0, data).Build(), "0 dimensions"},
      {"5 dims", GgufBuilder().Tensor("t", {1, 1, 1, 1, 1}, 0, data).Build(), "5 dimensions"},
      {"dim 0", GgufBuilder().Tensor("t", {4, 0}, 0, data).Build(), "dimension 1 is 0"},
      {"negative dim", GgufBuilder().Tensor("t", {huge}, 0, data).Build(), "impossible shape"},
      {"product", GgufBuilder().Tensor("t", {1ull << 32, 1ull << 32}, 0, data).Build(),
       "impossible shape"},
      {"bytes", GgufBuilder().Tensor("t", {1ull << 62}, 0, data).Build(),
       "needs 46116860184273879"},
      {"one too many", GgufBuilder().Tensor("t", {17}, 0, data).Build(),
       "needs 17 blocks of 4 bytes"},
      {"odd row", GgufBuilder().Tensor("t", {33}, 2, data).Build(), "not a multiple of 32"},
      {"unaligned", GgufBuilder().TensorAt("t", {1}, 0, 8).Build(),
       "not a multiple of the alignment"},
      {"offset", GgufBuilder().TensorAt("t", {1}, 0, huge - 31).Build(), "past the 0 bytes"},
      {"tensor twice", GgufBuilder().Tensor("t", {1}, 0, data).Tensor("t", {1}, 0, data).Build(),
       "'t' appears twice"},
      {"nameless", GgufBuilder().Tensor("", {1}, 0, data).Build(), "tensor name of 0 bytes"},
  };
}

TEST(GgufFile, HostileFilesGetOneClearLine) {
  for (const HostileCase& hostile : HostileCases()) {
    const std::string error = ErrorOf(hostile.bytes);
    EXPECT_THAT(error, HasSubstr(hostile.error)) << hostile.name;
    EXPECT_THAT(error, HasSubstr("test.gguf: at byte ")) << hostile.name;
    EXPECT_EQ(error.find('\n'), std::string::npos) << hostile.name;
  }
}

TEST(GgufFile, FingerprintSeesMetadataLayoutAndSizeButNotWeights) {
  auto print = [](const std::string& text) {
    const Bytes bytes(text);
    auto file = File::Parse(bytes.span(), "t");
    return file.ok() ? (*file)->Fingerprint() : "error";
  };
  const std::string whole = SmallFile().Build();
  const std::string original = print(whole);
  EXPECT_EQ(original.size(), 32u);
  EXPECT_EQ(print(whole), original);
  std::string changed = whole;
  changed[changed.size() - 200] ^= 1;  // a weight
  EXPECT_EQ(print(changed), original);
  EXPECT_NE(print(whole + std::string(16, '\0')), original);
  changed = whole;
  changed[changed.find("tiny")] = 'T';
  EXPECT_NE(print(changed), original);
  changed = whole;
  changed[changed.find("weight")] = 'W';
  EXPECT_NE(print(changed), original);
}

TEST(GgufFile, OpensAFileAndRefusesWhatIsNone) {
  const auto folder = std::filesystem::path(testing::TempDir());
  const std::string path = folder / fmt::format("gguf_file_test.{}.gguf", ::getpid());
  std::ofstream(path, std::ios::binary) << SmallFile().Build();
  auto file = File::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->GetString("name").value(), "tiny");
  EXPECT_GT(ReadAll(**file, kKeys), 0u);
  std::filesystem::resize_file(path, 100);
  EXPECT_FALSE(File::Open(path).ok());
  std::filesystem::resize_file(path, 0);
  EXPECT_THAT(std::string(Message(File::Open(path).status())), HasSubstr("not a regular file"));
  std::filesystem::remove(path);
  EXPECT_EQ(File::Open(path).status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(File::Open(folder).ok());
}

}  // namespace
}  // namespace tandem::gguf
