#include "common/tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();

// Up to here looking at all pairs each time beats keeping them in a heap.
constexpr size_t kShortPiece = 48;

uint64_t PairKey(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(Alphabet alphabet, std::span<const Merge> merges) : alphabet_(std::move(alphabet)) {
  for (uint32_t code = 0; code < ascii_.size(); ++code) {
    const auto it = alphabet_.characters.find(code);
    ascii_[code] = it == alphabet_.characters.end() ? -1 : it->second;
  }
  ranks_.reserve(merges.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < merges.size(); ++i) {
    if (!merges[i].ties) rank = static_cast<uint32_t>(i);
    ranks_[PairKey(merges[i].left, merges[i].right)] = {rank, merges[i].merged};
  }
}

void Bpe::AddShortcut(std::string_view text, TokenId id, bool always) {
  if (!always) {
    Scratch scratch;
    std::vector<TokenId> ids;
    Encode(text, scratch, ids);
    if (ids.size() != 1 || ids[0] != id) return;
  }
  shortcuts_[absl::string_view(text.data(), text.size())] = id;
  longest_shortcut_ = std::max(longest_shortcut_, text.size());
}

TokenId Bpe::CharacterToken(uint32_t code) const {
  if (code < ascii_.size()) return ascii_[code];
  const auto it = alphabet_.characters.find(code);
  return it == alphabet_.characters.end() ? -1 : it->second;
}

template <class Take>
void Bpe::ForEachSymbol(std::string_view piece, Take take) const {
  const auto byte_token = [&](char c) { return alphabet_.bytes[static_cast<unsigned char>(c)]; };
  if (alphabet_.characters.empty()) {
    for (const char c : piece) {
      if (byte_token(c) >= 0) take(byte_token(c));
    }
    return;
  }
  bool after_unknown = false;
  for (size_t at = 0; at < piece.size();) {
    const CodePoint point = ReadCodePoint(piece, at);
    const std::string_view bytes = piece.substr(at, point.size);
    at += point.size;
    // A byte that is no character is read as one, but not as that one's token.
    const bool is_byte = bytes.size() == 1 && point.value >= 0x80;
    const TokenId id = is_byte ? -1 : CharacterToken(point.value);
    const bool has_bytes = id < 0 && std::all_of(bytes.begin(), bytes.end(),
                                                 [&](char c) { return byte_token(c) >= 0; });
    if (id >= 0) {
      take(id);
    } else if (has_bytes) {
      for (const char c : bytes) take(byte_token(c));
    } else if (alphabet_.unknown >= 0 && !(alphabet_.fuse_unknown && after_unknown)) {
      take(alphabet_.unknown);
    }
    after_unknown = id < 0 && !has_bytes;
  }
}

const Bpe::Rank* Bpe::Find(TokenId left, TokenId right) const {
  const auto it = ranks_.find(PairKey(left, right));
  return it == ranks_.end() ? nullptr : &it->second;
}

void Bpe::Encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const {
  if (piece.size() <= longest_shortcut_) {
    const auto it = shortcuts_.find(absl::string_view(piece.data(), piece.size()));
    if (it != shortcuts_.end()) {
      ids.push_back(it->second);
      return;
    }
  }
  if (piece.size() <= kShortPiece) {
    EncodeShort(piece, scratch, ids);
  } else {
    EncodeLong(piece, scratch, ids);
  }
}

void Bpe::SetPair(std::vector<Part>& parts, size_t i) const {
  const Rank* rank = i + 1 < parts.size() ? Find(parts[i].id, parts[i + 1].id) : nullptr;
  parts[i].rank = rank == nullptr ? kNoRank : rank->rank;
  parts[i].merged = rank == nullptr ? -1 : rank->merged;
}

void Bpe::EncodeShort(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const {
  std::vector<Part>& parts = scratch.parts;
  parts.clear();
  ForEachSymbol(piece, [&](TokenId id) { parts.push_back({id, kNoRank, -1}); });
  for (size_t i = 0; i < parts.size(); ++i) SetPair(parts, i);
  while (parts.size() > 1) {
    const auto best = std::min_element(parts.begin(), parts.end(),
                                       [](auto& a, auto& b) { return a.rank < b.rank; });
    if (best->rank == kNoRank) break;
    const auto i = static_cast<size_t>(best - parts.begin());
    parts[i].id = best->merged;
    parts.erase(best + 1);
    SetPair(parts, i);
    if (i > 0) SetPair(parts, i - 1);
  }
  for (const Part& part : parts) ids.push_back(part.id);
}

void Bpe::EncodeLong(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  symbols.clear();
  ForEachSymbol(piece, [&](TokenId id) {
    const auto at = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, at - 1, at + 1});
  });
  if (symbols.empty()) return;
  symbols.back().next = -1;
  scratch.heap.clear();
  for (size_t i = 0; i < symbols.size(); ++i) {
    Offer(symbols, static_cast<int32_t>(i), scratch.heap);
  }
  std::make_heap(scratch.heap.begin(), scratch.heap.end());
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end());
    const Candidate candidate = scratch.heap.back();
    scratch.heap.pop_back();
    MergeAt(candidate, scratch);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

// Appends the pair that begins at symbol `at`, if it can be merged.
void Bpe::Offer(const std::vector<Symbol>& symbols, int32_t at,
                std::vector<Candidate>& heap) const {
  if (at < 0 || symbols[at].next < 0) return;
  const TokenId left = symbols[at].id;
  const TokenId right = symbols[symbols[at].next].id;
  const Rank* rank = Find(left, right);
  if (rank == nullptr) return;
  const uint64_t order = static_cast<uint64_t>(rank->rank) << 32 | static_cast<uint32_t>(at);
  heap.push_back({order, left, right, rank->merged});
}

void Bpe::MergeAt(const Candidate& candidate, Scratch& scratch) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  const auto at = static_cast<int32_t>(candidate.order & 0xffffffff);
  const int32_t next = symbols[at].next;
  // Either symbol may have become part of another since the pair was offered.
  if (symbols[at].id != candidate.left || next < 0 || symbols[next].id != candidate.right) return;
  symbols[at].id = candidate.merged;
  symbols[at].next = symbols[next].next;
  symbols[next].id = -1;
  if (symbols[at].next >= 0) symbols[symbols[at].next].previous = at;
  for (const int32_t first : {symbols[at].previous, at}) {
    const size_t size = scratch.heap.size();
    Offer(symbols, first, scratch.heap);
    if (scratch.heap.size() > size) std::push_heap(scratch.heap.begin(), scratch.heap.end());
  }
}

}  // namespace tandem::text
