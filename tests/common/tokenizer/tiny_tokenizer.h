// A tokenizer over all single bytes and the few merges a test asks for.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/tokenizer/tokenizer.h"
#include "tests/common/gguf/gguf_builder.h"

namespace tandem::text {

inline void AppendUtf8(std::string& out, uint32_t code) {  // up to U+07FF: GPT-2's alphabet
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else {
    out.push_back(static_cast<char>(0xc0 | code >> 6));
    out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
  }
}

// `bytes` in GPT-2's alphabet.
inline std::string Spelled(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t shift = 0;
    if (byte < 0x21) shift = 256;
    if (byte >= 0x7f && byte < 0xa1) shift = 256 + 33 - 0x7f;
    if (byte == 0xad) shift = 256 + 67 - 0xad;
    AppendUtf8(out, byte + shift);
  }
  return out;
}

struct TinyTokenizer {
  // Ids: <|end|> 0, <|im_start|> 1, <|im_end|> 2, byte b: 3 + b, then one per merge.
  static constexpr TokenId kFirstByte = 3;
  static constexpr TokenId kFirstMerge = kFirstByte + 256;

  std::vector<std::string> tokens = {"<|end|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> types = {3, 3, 3};
  std::vector<std::string> merges;
  std::string pre = "smollm";
  std::string model = "gpt2";

  // Merges are pairs of raw bytes.
  explicit TinyTokenizer(const std::vector<std::pair<std::string, std::string>>& pairs = {}) {
    for (int b = 0; b < 256; ++b) AddToken(Spelled(std::string(1, static_cast<char>(b))));
    for (const auto& [left, right] : pairs) {
      AddToken(Spelled(left + right));
      merges.push_back(Spelled(left) + " " + Spelled(right));
    }
  }
  void AddToken(std::string text, int32_t type = 1) {
    tokens.push_back(std::move(text));
    types.push_back(type);
  }

  StatusOr<std::unique_ptr<const Tokenizer>> TryBuild() const {
    gguf::GgufBuilder builder;
    builder.String("tokenizer.ggml.model", model).String("tokenizer.ggml.pre", pre);
    builder.Strings("tokenizer.ggml.tokens", tokens).Ints("tokenizer.ggml.token_type", types);
    builder.Strings("tokenizer.ggml.merges", merges);
    builder.Uint32("tokenizer.ggml.bos_token_id", 1).Uint32("tokenizer.ggml.eos_token_id", 2);
    const std::string bytes = builder.Build();
    auto file = gguf::File::Parse(std::as_bytes(std::span(bytes)), "tiny.gguf");
    if (!file.ok()) return file.status();
    return Tokenizer::FromGguf(**file);
  }
  std::unique_ptr<const Tokenizer> Build() const {
    auto tokenizer = TryBuild();
    return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
  }
};

}  // namespace tandem::text
