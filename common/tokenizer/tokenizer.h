// Text to token ids and back, with the vocabulary of a GGUF file or of a Hugging Face folder:
// byte-level BPE, and SentencePiece's BPE of characters with bytes for those it lacks. Which
// pre-tokenizers, and what was compared with what: docs/tokenizers.md.
//
// Results equal those of Hugging Face's `tokenizers` for tokenizer.json, and for a GGUF file those
// of the model's tokenizer.json. Where llama.cpp differs from that, so do we from llama.cpp (see
// PreTokenizer::FromGgufName); but GGUF's kind "llama" has scores instead of merges, and is read as
// llama.cpp does: of pairs that make tokens of one score the leftmost goes first, and every text
// between added tokens begins with a space if the file wants any.
//
// Tokens are of three kinds: ordinary ones; control tokens (<|im_start|>, ...), which stand for
// structure and are found in text only when asked; tokens that the file's author added, which are
// found in text always, before anything else is.
//
// Thread: immutable, any thread. Memory: tens of MB for a large vocabulary, owned (the file may be
// closed). Encode takes time near-linear in the text whatever the text is.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/gguf/gguf_file.h"
#include "common/ids.h"
#include "common/status.h"
#include "common/tokenizer/added_tokens.h"
#include "common/tokenizer/bpe.h"
#include "common/tokenizer/encode_cache.h"
#include "common/tokenizer/normalizer.h"
#include "common/tokenizer/pre_tokenizer.h"
#include "common/tokenizer/tokenizer_spec.h"

namespace tandem::text {

class Tokenizer {
 public:
  // Errors name the key or token of the file that is missing, wrong or not supported.
  static StatusOr<std::unique_ptr<const Tokenizer>> FromGguf(const gguf::File& file);
  // A folder with tokenizer.json and, where they exist, tokenizer_config.json and
  // generation_config.json.
  static StatusOr<std::unique_ptr<const Tokenizer>> FromFolder(const std::string& folder);
  // `name` is what errors begin with.
  static StatusOr<std::unique_ptr<const Tokenizer>> FromSpec(TokenizerSpec spec,
                                                             std::string_view name);

  // Control tokens spelled out in `text` become those tokens if `allow_special`, else ordinary text
  // in ordinary tokens. As in Hugging Face's library the default holds for the whole text, so what
  // a user writes into a chat message can spell one too: a caller that minds encodes the parts of a
  // prompt apart. No BOS is added (see prefix_ids()). What the vocabulary has no token for is left
  // out, or becomes its unknown token. REQUIRES: valid UTF-8 for equality with Hugging Face; any
  // bytes are safe. With a cache, which is then of this tokenizer alone, parts that came before
  // with this salt are not encoded anew, and their tokens are counted.
  struct Known {
    EncodeCache* cache;
    std::string_view salt;
    int64_t tokens = 0;
  };
  std::vector<TokenId> Encode(std::string_view text, bool allow_special = true,
                              Known* known = nullptr) const;

  // The text of all tokens as bytes, which need not be UTF-8; control tokens' only if
  // `with_special`. Ids outside the vocabulary have none. Hugging Face's decoder replaces what is
  // not UTF-8 by U+FFFD: for byte-level vocabularies as StreamDecoder does; for those with byte
  // tokens every byte of a run of byte tokens that is not UTF-8 as a whole, which a stream cannot.
  // Its clean_up_tokenization_spaces, which takes spaces out of text, is not applied.
  std::string Decode(std::span<const TokenId> ids, bool with_special = true) const;
  // Spaces (at most) that Decode takes off its beginning: those that Encode put before the text.
  int decode_strip() const { return decode_strip_; }

  // A token's bytes; empty for ids outside the vocabulary. Lives as long as this object.
  std::string_view TokenText(TokenId id) const;
  bool IsControl(TokenId id) const;  // false for ids outside the vocabulary

  int vocab_size() const { return static_cast<int>(token_end_.size()); }
  TokenId bos_id() const { return bos_id_; }  // kNoToken: the file names none
  TokenId eos_id() const { return eos_id_; }
  // Tokens that go before and after a prompt that is not a chat: BOS, EOS; mostly none.
  std::span<const TokenId> prefix_ids() const { return prefix_ids_; }
  std::span<const TokenId> suffix_ids() const { return suffix_ids_; }
  // Tokens that end a reply: EOS, those that the files name, and the end-of-turn and end-of-text
  // tokens of known chat formats that the vocabulary has as control tokens. Ascending, none twice.
  std::span<const TokenId> end_ids() const { return end_ids_; }

 private:
  struct Scratch;

  Tokenizer() = default;
  void SetAdded(TokenizerSpec& spec);
  void SetTexts(const TokenizerSpec& spec);
  void SetBpe(const TokenizerSpec& spec);
  void SetJoins(const TokenizerSpec& spec);
  Status SetIds(const TokenizerSpec& spec, std::string_view name);
  void EncodeNormalized(std::string_view text, bool begins_text, bool allow_special,
                        Scratch& scratch, std::vector<TokenId>& ids) const;
  void EncodePiece(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const;

  std::string token_bytes_;        // of all tokens, one after the other
  std::vector<size_t> token_end_;  // [vocab] where each ends in it
  std::string spelling_;           // of all ordinary tokens as Bpe sees them; it borrows from here
  std::vector<bool> is_control_;   // [vocab]
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  AddedTokens raw_added_;         // looked for in the text as it is
  AddedTokens normalized_added_;  // and in what the normalizer makes of it
  // Pieces are cut before each space marker that does not follow one of these characters: no token
  // has one so within it, so that nothing merges across.
  bool cuts_at_markers_ = false;
  absl::flat_hash_set<uint32_t> before_marker_;
  int decode_strip_ = 0;
  TokenId bos_id_ = kNoToken;
  TokenId eos_id_ = kNoToken;
  std::vector<TokenId> prefix_ids_;
  std::vector<TokenId> suffix_ids_;
  std::vector<TokenId> end_ids_;
};

}  // namespace tandem::text
