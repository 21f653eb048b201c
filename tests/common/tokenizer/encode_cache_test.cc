#include "common/tokenizer/encode_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/common/tokenizer/tiny_tokenizer.h"

namespace tandem::text {
namespace {

std::unique_ptr<const Tokenizer> Build() {
  return TinyTokenizer({{"h", "e"}, {"l", "l"}, {" ", "he"}, {"o", " "}, {"he", "ll"}}).Build();
}

// Messages between the marks of a template, some of which are too short to keep, and what a chat
// can hold: marks in text, bytes that are not UTF-8.
std::string Conversation(std::mt19937& random, const std::vector<std::string>& messages) {
  std::string text = random() % 4 == 0 ? "hello " : "";
  for (size_t turns = 1 + random() % 6; turns > 0; --turns) {
    text += "<|im_start|>" + messages[random() % messages.size()] + "<|im_end|>\n";
  }
  return text;
}

std::vector<std::string> Messages(std::mt19937& random) {
  std::vector<std::string> messages;
  for (int i = 0; i < 40; ++i) {
    std::string message;
    for (size_t size = random() % 600; message.size() < size;) {
      constexpr const char* kParts[] = {"hello ",   "hell", " he", "o  ",    "\n\n",
                                        "\xc3\xa9", "\xff", "12",  "<|im_e", "'ll"};
      message += kParts[random() % std::size(kParts)];
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

TEST(EncodeCache, TokensAreTheSame) {
  const auto tokenizer = Build();
  std::mt19937 random(3);
  const std::vector<std::string> messages = Messages(random);
  EncodeCache cache(1 << 20), tight(16 << 10);  // in the second they come and go
  int64_t known_tokens = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string text = Conversation(random, messages);
    const bool allow_special = random() % 8 != 0;
    const std::string salt = random() % 3 == 0 ? "s" : "";
    const std::vector<TokenId> ids = tokenizer->Encode(text, allow_special);
    for (EncodeCache* each : {&cache, &tight}) {
      Tokenizer::Known known = {each, salt};
      ASSERT_EQ(tokenizer->Encode(text, allow_special, &known), ids) << text;
      ASSERT_LE(known.tokens, static_cast<int64_t>(ids.size()));
      known_tokens += known.tokens;
    }
  }
  EXPECT_GT(known_tokens, 100'000);
}

TEST(EncodeCache, KnowsWhatCameBefore) {
  const auto tokenizer = Build();
  EncodeCache cache(1 << 20);
  const std::string system(500, 'h'), question(200, 'e'), other(200, 'l');
  const auto known_of = [&](const std::string& text, std::string_view salt = {}) {
    Tokenizer::Known known = {&cache, salt};
    tokenizer->Encode(text, true, &known);
    return known.tokens;
  };
  const std::string first = "<|im_start|>" + system + "<|im_end|>" + question;
  EXPECT_EQ(known_of(first), 0);
  EXPECT_EQ(known_of(first), 700);
  EXPECT_EQ(known_of("<|im_start|>" + system + "<|im_end|>" + other), 500);
  EXPECT_EQ(known_of(first, "tenant"), 0) << "another's texts are not known";
  EXPECT_EQ(known_of(first, "tenant"), 700);
  EXPECT_EQ(known_of("<|im_end|>" + std::string(EncodeCache::kMinBytes - 1, 'o')), 0);
  EXPECT_EQ(known_of("<|im_end|>" + std::string(EncodeCache::kMinBytes - 1, 'o')), 0)
      << "short texts are not kept";
}

TEST(EncodeCache, OldTextsGo) {
  EncodeCache cache(8 * 4096);  // a shard has 4,096 bytes: three of these texts
  std::vector<TokenId> ids(200, 7), found;
  int64_t kept = 0;
  for (int i = 0; i < 500; ++i) {
    const std::string text = std::to_string(i) + std::string(200, 'x');
    cache.Add({"", text, false, true}, ids);
    found.clear();
    ASSERT_TRUE(cache.Find({"", text, false, true}, found));
    ASSERT_EQ(found, ids);
  }
  for (int i = 0; i < 500; ++i) {
    const std::string text = std::to_string(i) + std::string(200, 'x');
    kept += cache.Find({"", text, false, true}, found);
    ASSERT_TRUE(kept == 0 || i > 400) << "the oldest go first";
  }
  EXPECT_EQ(kept, 8 * 3);
  const std::string large(5000, 'x');
  cache.Add({"", large, false, true}, ids);
  EXPECT_FALSE(cache.Find({"", large, false, true}, found)) << "larger than a shard";
}

TEST(EncodeCache, ThreadsShareIt) {
  const auto tokenizer = Build();
  std::mt19937 random(5);
  const std::vector<std::string> messages = Messages(random);
  EncodeCache cache(24 << 10);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 own(seed);
      for (int i = 0; i < 200; ++i) {
        const std::string text = Conversation(own, messages);
        Tokenizer::Known known = {&cache, ""};
        wrong += tokenizer->Encode(text, true, &known) != tokenizer->Encode(text);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace tandem::text
