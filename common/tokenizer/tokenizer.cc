#include "common/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "common/tokenizer/byte_alphabet.h"
#include "common/tokenizer/replace.h"
#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

// Control tokens that end a reply in the chat formats we know.
constexpr std::string_view kEndTokens[] = {"<|im_end|>",    "<|endoftext|>", "<|eot_id|>",
                                           "<end_of_turn>", "<|eom_id|>",    "<|end_of_text|>"};

constexpr uint32_t kMarkerCode = 0x2581;

std::string DecodedText(const TokenizerSpec& spec, const TokenizerSpec::Token& token) {
  static const ByteAlphabet alphabet;
  const int byte = spec.decode_bytes ? ByteOfToken(token.text) : -1;
  if (byte >= 0) return std::string(1, static_cast<char>(byte));
  std::string text = token.text;
  if (spec.byte_level) text = alphabet.BytesOf(token.text).value_or(token.text);
  if (token.kind == TokenizerSpec::Kind::kAdded && !spec.replace_added) return text;
  for (const auto& [what, with] : spec.decode_replace) {
    std::string replaced;
    AppendReplaced(text, what, with, replaced);
    text = std::move(replaced);
  }
  return text;
}

void SortUnique(std::vector<TokenId>& ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace

int ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  return error == std::errc() && end == token.data() + 5 && byte >= 0 ? byte : -1;
}

StatusOr<Bpe::Merge> MakeMerge(const IdOfToken& ids, std::string_view left,
                               std::string_view right) {
  const Bpe::Merge merge = {FindId(ids, left), FindId(ids, right),
                            FindId(ids, std::string(left).append(right))};
  if (merge.left < 0 || merge.right < 0 || merge.merged < 0) {
    return InvalidArgument("a token or the result is not in the vocabulary");
  }
  return merge;
}

StatusOr<Bpe::Merge> ParseMerge(const IdOfToken& ids, std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return InvalidArgument("not two tokens");
  return MakeMerge(ids, line.substr(0, space), line.substr(space + 1));
}

struct Tokenizer::Scratch {
  PreTokenizer::Scratch pieces;
  Bpe::Scratch merging;
};

StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromSpec(TokenizerSpec spec,
                                                               std::string_view name) {
  if (spec.tokens.empty() || spec.tokens.size() > kMaxVocabSize) {
    return InvalidArgument("{}: a vocabulary of {} tokens (1 to {} are supported)", name,
                           spec.tokens.size(), kMaxVocabSize);
  }
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  tokenizer->normalizer_ = std::move(spec.normalizer);
  tokenizer->pre_tokenizer_ = std::move(spec.pre_tokenizer);
  tokenizer->decode_strip_ = spec.decode_strip;
  TANDEM_RETURN_IF_ERROR(tokenizer->SetIds(spec, name));
  tokenizer->SetBpe(spec);
  tokenizer->SetJoins(spec);
  tokenizer->SetAdded(spec);
  tokenizer->SetTexts(spec);
  return tokenizer;
}

// Added tokens that are looked for in normalized text are normalized too; so is their text.
void Tokenizer::SetAdded(TokenizerSpec& spec) {
  std::vector<AddedToken> raw, normalized;
  for (AddedToken& token : spec.added) {
    if (token.normalized) {
      token.text = normalizer_.Apply(token.text);
      spec.tokens[token.id].text = token.text;
    }
    if (!token.text.empty()) (token.normalized ? normalized : raw).push_back(token);
  }
  raw_added_ = AddedTokens(std::move(raw));
  normalized_added_ = AddedTokens(std::move(normalized));
}

void Tokenizer::SetTexts(const TokenizerSpec& spec) {
  for (const TokenizerSpec::Token& token : spec.tokens) {
    token_bytes_ += DecodedText(spec, token);
    token_end_.push_back(token_bytes_.size());
    is_control_.push_back(token.control);
  }
}

void Tokenizer::SetBpe(const TokenizerSpec& spec) {
  const ByteAlphabet byte_alphabet;
  Bpe::Alphabet alphabet;
  alphabet.unknown = spec.unknown;
  alphabet.fuse_unknown = spec.fuse_unknown;
  std::vector<std::pair<size_t, TokenId>> ends;  // of the ordinary tokens in spelling_
  for (TokenId id = 0; id < static_cast<TokenId>(spec.tokens.size()); ++id) {
    const TokenizerSpec::Token& token = spec.tokens[id];
    if (token.kind == TokenizerSpec::Kind::kByte) alphabet.bytes[ByteOfToken(token.text)] = id;
    if (token.kind != TokenizerSpec::Kind::kText || token.text.empty()) continue;
    std::string text = token.text;
    if (spec.byte_level) {
      const auto bytes = byte_alphabet.BytesOf(token.text);
      if (!bytes) continue;  // nothing that merging could make
      text = *bytes;
      if (text.size() == 1) alphabet.bytes[static_cast<unsigned char>(text[0])] = id;
    } else if (const CodePoint point = ReadCodePoint(text, 0); point.size == text.size()) {
      alphabet.characters[point.value] = id;
    }
    spelling_ += text;
    ends.emplace_back(spelling_.size(), id);
  }
  bpe_ = Bpe(std::move(alphabet), spec.merges);
  size_t begin = 0;
  for (const auto& [end, id] : ends) {
    const std::string_view text(spelling_.data() + begin, end - begin);
    bpe_.AddShortcut(text, id, spec.ignore_merges);
    begin = end;
  }
}

void Tokenizer::SetJoins(const TokenizerSpec& spec) {
  if (spec.byte_level) return;
  for (const TokenizerSpec::Token& token : spec.tokens) {
    if (token.kind == TokenizerSpec::Kind::kText && token.text == kSpaceMarker) {
      cuts_at_markers_ = true;
    }
  }
  for (const Bpe::Merge& merge : spec.merges) {
    const std::string_view text = spec.tokens[merge.merged].text;
    for (size_t at = text.find(kSpaceMarker, 1); at != std::string_view::npos;
         at = text.find(kSpaceMarker, at + 1)) {
      before_marker_.insert(LastCodePoint(text.substr(0, at)).value);
    }
  }
}

Status Tokenizer::SetIds(const TokenizerSpec& spec, std::string_view name) {
  const auto size = static_cast<TokenId>(spec.tokens.size());
  bos_id_ = spec.bos;
  eos_id_ = spec.eos;
  prefix_ids_ = spec.prefix;
  suffix_ids_ = spec.suffix;
  end_ids_ = spec.end_ids;
  if (eos_id_ != kNoToken) end_ids_.push_back(eos_id_);
  for (const auto* ids : {&prefix_ids_, &suffix_ids_, &end_ids_}) {
    for (const TokenId id : *ids) {
      if (id >= 0 && id < size) continue;
      return InvalidArgument("{}: it names the token {}, but the vocabulary has {} tokens", name,
                             id, size);
    }
  }
  for (TokenId id = 0; id < size; ++id) {
    const TokenizerSpec::Token& token = spec.tokens[id];
    if (token.control && std::find(std::begin(kEndTokens), std::end(kEndTokens), token.text) !=
                             std::end(kEndTokens)) {
      end_ids_.push_back(id);
    }
  }
  SortUnique(end_ids_);
  return OkStatus();
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, bool allow_special,
                                       Known* known) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4);
  Scratch scratch;
  raw_added_.Split(
      text, allow_special,
      [&](std::string_view ordinary, bool begins_text) {
        const bool keep = known != nullptr && ordinary.size() >= EncodeCache::kMinBytes;
        const EncodeCache::Key key = {known != nullptr ? known->salt : "", ordinary, begins_text,
                                      allow_special};
        const size_t begin = ids.size();
        if (keep && known->cache->Find(key, ids)) {
          known->tokens += static_cast<int64_t>(ids.size() - begin);
          return;
        }
        if (normalizer_.empty()) {
          EncodeNormalized(ordinary, begins_text, allow_special, scratch, ids);
        } else {
          EncodeNormalized(normalizer_.Apply(ordinary), begins_text, allow_special, scratch, ids);
        }
        if (keep) known->cache->Add(key, std::span(ids).subspan(begin));
      },
      [&](TokenId id) { ids.push_back(id); });
  return ids;
}

void Tokenizer::EncodeNormalized(std::string_view text, bool begins_text, bool allow_special,
                                 Scratch& scratch, std::vector<TokenId>& ids) const {
  const auto take = [&](std::string_view piece) { EncodePiece(piece, scratch, ids); };
  normalized_added_.Split(
      text, allow_special,
      [&](std::string_view ordinary, bool begins_it) {
        pre_tokenizer_.Apply(ordinary, begins_text && begins_it, scratch.pieces, take);
      },
      [&](TokenId id) { ids.push_back(id); });
}

void Tokenizer::EncodePiece(std::string_view piece, Scratch& scratch,
                            std::vector<TokenId>& ids) const {
  if (cuts_at_markers_) {
    for (size_t at = piece.find(kSpaceMarker, 1); at != std::string_view::npos;
         at = piece.find(kSpaceMarker, at)) {
      const uint32_t before = LastCodePoint(piece.substr(0, at)).value;
      if (before != kMarkerCode && !before_marker_.contains(before)) {
        bpe_.Encode(piece.substr(0, at), scratch.merging, ids);
        piece.remove_prefix(at);
        at = 0;
      }
      at += 1;
    }
  }
  bpe_.Encode(piece, scratch.merging, ids);
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool with_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (with_special || !IsControl(id)) bytes += TokenText(id);
  }
  size_t strip = 0;
  while (strip < bytes.size() && strip < static_cast<size_t>(decode_strip_) &&
         bytes[strip] == ' ') {
    ++strip;
  }
  return bytes.substr(strip);
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
