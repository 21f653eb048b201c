#include "router/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "router/text/smollm_split.h"
#include "router/text/utf8.h"

namespace tandem::text {
namespace {

// tokenizer.ggml.token_type
constexpr int64_t kControl = 3;
constexpr int64_t kUserDefined = 4;

constexpr size_t kMaxVocabSize = 1 << 24;  // far above any model's; ids must fit int32

// Control tokens that end a reply in the chat formats we know.
constexpr std::string_view kEndTokens[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>",
                                           "<end_of_turn>"};

// GPT-2's alphabet: every byte as a printable character, so that a vocabulary is a text file.
// Printable Latin-1 stands for itself, the other bytes for U+0100 and up in order.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
      byte_of_[printable ? byte : next++] = static_cast<int16_t>(byte);
    }
  }

  // The bytes that `token` spells. One with other characters in it stands for itself.
  std::string BytesOf(std::string_view token) const {
    std::string bytes;
    for (size_t at = 0; at < token.size();) {
      const CodePoint point = ReadCodePoint(token, at);
      const int byte = point.value < byte_of_.size() ? byte_of_[point.value] : -1;
      if (byte < 0) return std::string(token);
      bytes.push_back(static_cast<char>(byte));
      at += point.size;
    }
    return bytes;
  }

 private:
  static std::array<int16_t, 324> AllMissing() {
    std::array<int16_t, 324> table;
    table.fill(-1);
    return table;
  }
  std::array<int16_t, 324> byte_of_ = AllMissing();  // 256 + the 68 bytes that are not printable
};

using IdOfToken = absl::flat_hash_map<absl::string_view, TokenId>;

absl::string_view Key(std::string_view text) { return {text.data(), text.size()}; }

TokenId FindId(const IdOfToken& ids, std::string_view token) {
  const auto it = ids.find(Key(token));
  return it == ids.end() ? kNoToken : it->second;
}

Status CheckKind(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view model, file.GetString("tokenizer.ggml.model"));
  if (model != "gpt2") {
    return Unsupported(
        "{}: tokenizer.ggml.model '{}' is not supported, only 'gpt2' (byte-level BPE)", file.name(),
        model);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string_view pre, file.GetString("tokenizer.ggml.pre"));
  if (pre != "smollm") {
    return Unsupported("{}: tokenizer.ggml.pre '{}' is not supported, only 'smollm'", file.name(),
                       pre);
  }
  return OkStatus();
}

StatusOr<IdOfToken> IndexTokens(const gguf::File& file, std::span<const std::string_view> tokens) {
  if (tokens.empty() || tokens.size() > kMaxVocabSize) {
    return InvalidArgument("{}: tokenizer.ggml.tokens has {} tokens (1 to {} are supported)",
                           file.name(), tokens.size(), kMaxVocabSize);
  }
  IdOfToken ids;
  ids.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto [it, is_new] = ids.emplace(Key(tokens[i]), static_cast<TokenId>(i));
    if (!is_new) {
      return InvalidArgument("{}: tokenizer.ggml.tokens: tokens {} and {} are the same",
                             file.name(), it->second, i);
    }
  }
  return ids;
}

// "left right", two tokens that the vocabulary has and that make a third. Tokens contain no space:
// the byte alphabet has another character for it.
StatusOr<Bpe::Merge> ParseMerge(const IdOfToken& ids, std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return InvalidArgument("not two tokens");
  const std::string_view left = line.substr(0, space);
  const std::string_view right = line.substr(space + 1);
  const Bpe::Merge merge = {FindId(ids, left), FindId(ids, right),
                            FindId(ids, std::string(left) + std::string(right))};
  if (merge.left < 0 || merge.right < 0 || merge.merged < 0) {
    return InvalidArgument("a token or the result is not in the vocabulary");
  }
  return merge;
}

StatusOr<std::vector<Bpe::Merge>> ReadMerges(const gguf::File& file, const IdOfToken& ids) {
  TANDEM_ASSIGN_OR_RETURN(const auto lines, file.GetStrings("tokenizer.ggml.merges"));
  std::vector<Bpe::Merge> merges;
  merges.reserve(lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    const StatusOr<Bpe::Merge> merge = ParseMerge(ids, lines[i]);
    if (!merge.ok()) {
      return InvalidArgument("{}: tokenizer.ggml.merges: merge {}: {}", file.name(), i,
                             Message(merge.status()));
    }
    merges.push_back(*merge);
  }
  return merges;
}

// kNoToken: the file has no such key.
StatusOr<TokenId> ReadId(const gguf::File& file, std::string_view key, int vocab_size) {
  if (!file.Has(key)) return kNoToken;
  TANDEM_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  if (id < 0 || id >= vocab_size) {
    return InvalidArgument("{}: {} is {}, but the vocabulary has {} tokens", file.name(), key, id,
                           vocab_size);
  }
  return static_cast<TokenId>(id);
}

}  // namespace

StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromGguf(const gguf::File& file) {
  TANDEM_RETURN_IF_ERROR(CheckKind(file));
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  TANDEM_RETURN_IF_ERROR(tokenizer->ReadTokens(file));
  TANDEM_RETURN_IF_ERROR(tokenizer->ReadIds(file));
  return tokenizer;
}

Status Tokenizer::ReadTokens(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const auto tokens, file.GetStrings("tokenizer.ggml.tokens"));
  TANDEM_ASSIGN_OR_RETURN(const auto types, file.GetInts("tokenizer.ggml.token_type"));
  TANDEM_ASSIGN_OR_RETURN(const IdOfToken ids, IndexTokens(file, tokens));
  if (types.size() != tokens.size()) {
    return InvalidArgument("{}: tokenizer.ggml.token_type has {} entries for {} tokens",
                           file.name(), types.size(), tokens.size());
  }
  TANDEM_ASSIGN_OR_RETURN(const auto merges, ReadMerges(file, ids));
  const ByteAlphabet alphabet;
  std::array<TokenId, 256> byte_tokens;
  byte_tokens.fill(kNoToken);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string bytes = alphabet.BytesOf(tokens[i]);
    const bool added = types[i] == kControl || types[i] == kUserDefined;
    if (bytes.size() == 1 && !added) byte_tokens[static_cast<unsigned char>(bytes[0])] = i;
    is_control_.push_back(types[i] == kControl);
    token_bytes_ += bytes;
    token_end_.push_back(token_bytes_.size());
  }
  bpe_ = Bpe(byte_tokens, merges);
  return AddSpecialAndShortcuts(file, tokens, types);
}

Status Tokenizer::AddSpecialAndShortcuts(const gguf::File& file,
                                         std::span<const std::string_view> tokens,
                                         std::span<const int64_t> types) {
  std::vector<std::pair<std::string, TokenId>> added, all;
  for (TokenId id = 0; id < vocab_size(); ++id) {
    if (types[id] != kControl && types[id] != kUserDefined) {
      bpe_.AddShortcut(TokenText(id), id);
      continue;
    }
    if (tokens[id].empty()) {
      return InvalidArgument("{}: tokenizer.ggml.tokens: special token {} is empty", file.name(),
                             id);
    }
    all.emplace_back(tokens[id], id);
    if (types[id] == kUserDefined) added.emplace_back(tokens[id], id);
  }
  added_ = SpecialTokens(std::move(added));
  added_and_control_ = SpecialTokens(std::move(all));
  return OkStatus();
}

Status Tokenizer::ReadIds(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(bos_id_, ReadId(file, "tokenizer.ggml.bos_token_id", vocab_size()));
  TANDEM_ASSIGN_OR_RETURN(eos_id_, ReadId(file, "tokenizer.ggml.eos_token_id", vocab_size()));
  if (file.Has("tokenizer.ggml.add_bos_token")) {
    TANDEM_ASSIGN_OR_RETURN(add_bos_, file.GetBool("tokenizer.ggml.add_bos_token"));
  }
  if (add_bos_ && bos_id_ == kNoToken) {
    return InvalidArgument("{}: tokenizer.ggml.add_bos_token without tokenizer.ggml.bos_token_id",
                           file.name());
  }
  TANDEM_ASSIGN_OR_RETURN(const TokenId end_of_turn,
                          ReadId(file, "tokenizer.ggml.eot_token_id", vocab_size()));
  for (const TokenId id : {eos_id_, end_of_turn}) {
    if (id != kNoToken) end_ids_.push_back(id);
  }
  for (const std::string_view text : kEndTokens) {
    const SpecialTokens::Match match = added_and_control_.Find(text, 0);
    if (match.size == text.size() && IsControl(match.id)) end_ids_.push_back(match.id);
  }
  std::sort(end_ids_.begin(), end_ids_.end());
  end_ids_.erase(std::unique(end_ids_.begin(), end_ids_.end()), end_ids_.end());
  return OkStatus();
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, bool allow_special) const {
  const SpecialTokens& special = allow_special ? added_and_control_ : added_;
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4);
  Bpe::Scratch scratch;
  for (size_t from = 0; from < text.size();) {
    const SpecialTokens::Match match = special.Find(text, from);
    const std::string_view ordinary = text.substr(from, match.begin - from);
    for (size_t begin = 0; begin < ordinary.size();) {
      const size_t end = SmolLmPieceEnd(ordinary, begin);
      bpe_.Encode(ordinary.substr(begin, end - begin), scratch, ids);
      begin = end;
    }
    if (match.size > 0) ids.push_back(match.id);
    from = match.begin + match.size;
  }
  return ids;
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool with_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (with_special || !IsControl(id)) bytes += TokenText(id);
  }
  return bytes;
}

std::string_view Tokenizer::TokenText(TokenId id) const {
  if (id < 0 || id >= vocab_size()) return {};
  const size_t begin = id == 0 ? 0 : token_end_[id - 1];
  return std::string_view(token_bytes_).substr(begin, token_end_[id] - begin);
}

bool Tokenizer::IsControl(TokenId id) const {
  return id >= 0 && id < vocab_size() && is_control_[id];
}

}  // namespace tandem::text
