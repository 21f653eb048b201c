// Text to token ids and back, with the vocabulary of a GGUF file. Supported: byte-level BPE
// (tokenizer.ggml.model "gpt2") with SmolLM's pre-tokenizer (tokenizer.ggml.pre "smollm"); results
// equal those of Hugging Face's `tokenizers`.
//
// Tokens are of three kinds: ordinary ones; control tokens (<|im_start|>, ...), which stand for
// structure and are found in text only when asked; tokens that the file's author added, which are
// found in text always, before anything else is.
//
// Thread: immutable, any thread. Memory: a few MB, owned (the GGUF file may be closed). Encode
// takes time near-linear in the text whatever the text is.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/gguf/gguf_file.h"
#include "common/ids.h"
#include "common/status.h"
#include "router/text/bpe.h"
#include "router/text/special_tokens.h"

namespace tandem::text {

inline constexpr TokenId kNoToken = -1;

class Tokenizer {
 public:
  // Errors name the key or token of the file that is missing, wrong or not supported.
  static StatusOr<std::unique_ptr<const Tokenizer>> FromGguf(const gguf::File& file);

  // Control tokens spelled out in `text` become those tokens if `allow_special`, else ordinary text
  // in ordinary tokens. As in Hugging Face's library the default holds for the whole text, so what
  // a user writes into a chat message can spell one too: a caller that minds encodes the parts of a
  // prompt apart. No BOS is added (see add_bos()). Bytes that the vocabulary has no token for are
  // left out. REQUIRES: valid UTF-8 for equality with Hugging Face; any bytes are safe.
  std::vector<TokenId> Encode(std::string_view text, bool allow_special = true) const;

  // The bytes of all tokens, which need not be UTF-8; control tokens' only if `with_special`. Ids
  // outside the vocabulary have none. For text of a stream in progress see StreamDecoder.
  std::string Decode(std::span<const TokenId> ids, bool with_special = true) const;

  // A token's bytes; empty for ids outside the vocabulary. Lives as long as this object.
  std::string_view TokenText(TokenId id) const;
  bool IsControl(TokenId id) const;  // false for ids outside the vocabulary

  int vocab_size() const { return static_cast<int>(token_end_.size()); }
  TokenId bos_id() const { return bos_id_; }  // kNoToken: the file names none
  TokenId eos_id() const { return eos_id_; }
  bool add_bos() const { return add_bos_; }  // a prompt that is not a chat begins with bos_id()
  // Tokens that end a reply: EOS, and the end-of-turn and end-of-text tokens of known chat formats
  // that the vocabulary has as control tokens. Ascending, none twice.
  std::span<const TokenId> end_ids() const { return end_ids_; }

 private:
  Tokenizer() = default;
  Status ReadTokens(const gguf::File& file);
  Status AddSpecialAndShortcuts(const gguf::File& file, std::span<const std::string_view> tokens,
                                std::span<const int64_t> types);
  Status ReadIds(const gguf::File& file);

  std::string token_bytes_;        // of all tokens, one after the other
  std::vector<size_t> token_end_;  // [vocab] where each ends in it
  std::vector<bool> is_control_;   // [vocab]
  Bpe bpe_;
  SpecialTokens added_;              // found in text always
  SpecialTokens added_and_control_;  // found when special tokens are allowed
  TokenId bos_id_ = kNoToken;
  TokenId eos_id_ = kNoToken;
  bool add_bos_ = false;
  std::vector<TokenId> end_ids_;
};

}  // namespace tandem::text
