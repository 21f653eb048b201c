// What a tokenizer is made of, as a file says it: the readers of the file formats fill one, and a
// Tokenizer is built of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"
#include "common/status.h"
#include "common/tokenizer/added_tokens.h"
#include "common/tokenizer/bpe.h"
#include "common/tokenizer/normalizer.h"
#include "common/tokenizer/pre_tokenizer.h"

namespace tandem::text {

inline constexpr TokenId kNoToken = -1;
inline constexpr size_t kMaxVocabSize = 1 << 24;  // far above any model's; ids must fit int32

// SentencePiece's space: U+2581.
inline constexpr std::string_view kSpaceMarker = "\xe2\x96\x81";

struct TokenizerSpec {
  enum class Kind : uint8_t {
    kNone,   // no such token: a gap in the ids
    kText,   // what merging makes
    kByte,   // <0xHH>, of SentencePiece: stands for a byte
    kAdded,  // found in text, and never made by merging
  };
  struct Token {
    std::string text;  // as the file spells it
    Kind kind = Kind::kNone;
    bool control = false;  // structure rather than text
  };

  std::vector<Token> tokens;  // by id
  std::vector<Bpe::Merge> merges;
  std::vector<AddedToken> added;

  // Tokens are spelled in GPT-2's byte alphabet and symbols are bytes; else symbols are characters.
  bool byte_level = false;
  bool ignore_merges = false;  // a piece that is a token is that token, whatever merging gives
  TokenId unknown = kNoToken;
  bool fuse_unknown = false;

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;

  // Tokens to text: each `first` becomes `second`, in order; added tokens too if `replace_added`.
  std::vector<std::pair<std::string, std::string>> decode_replace;
  bool replace_added = false;
  bool decode_bytes = false;  // <0xHH> is text of one byte
  int decode_strip = 0;       // spaces that text loses at its beginning

  TokenId bos = kNoToken;
  TokenId eos = kNoToken;
  std::vector<TokenId> prefix;   // goes before a prompt that is not a chat
  std::vector<TokenId> suffix;   // and after
  std::vector<TokenId> end_ids;  // tokens that the file says end a reply, eos aside
};

// Vocabulary by spelling.
using IdOfToken = absl::flat_hash_map<absl::string_view, TokenId>;
inline TokenId FindId(const IdOfToken& ids, std::string_view token) {
  const auto it = ids.find(absl::string_view(token.data(), token.size()));
  return it == ids.end() ? kNoToken : it->second;
}

// <0xHH>: its byte; -1: another spelling.
int ByteOfToken(std::string_view token);

// "left right", two tokens that `ids` has and that make a third.
StatusOr<Bpe::Merge> MakeMerge(const IdOfToken& ids, std::string_view left, std::string_view right);
StatusOr<Bpe::Merge> ParseMerge(const IdOfToken& ids, std::string_view line);

}  // namespace tandem::text
