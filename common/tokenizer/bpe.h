// Byte-pair merging: the symbols of one piece of text become tokens, the pair of lowest rank first,
// of equal ones the leftmost. Symbols are bytes, or characters with bytes for those that the
// vocabulary lacks. Knows symbols and ids, not where pieces end.
// Thread: immutable once built, any thread; scratch memory is the caller's.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"

namespace tandem::text {

class Bpe {
 public:
  struct Merge {  // rank: the index in the list of merges
    TokenId left = 0;
    TokenId right = 0;
    TokenId merged = 0;
    bool ties = false;  // has the rank of the merge before it instead
  };
  struct Alphabet {
    Alphabet() { bytes.fill(-1); }
    std::array<TokenId, 256> bytes;  // the token of each byte alone, or -1
    // The tokens of single characters, by code point; empty: symbols are bytes.
    absl::flat_hash_map<uint32_t, TokenId> characters;
    // What a character becomes that is not in `characters`, and whose bytes are not all in `bytes`;
    // -1: nothing, it is left out. `fuse_unknown`: neighbours become one.
    TokenId unknown = -1;
    bool fuse_unknown = false;
  };

  Bpe() = default;
  // If a pair comes twice the last rank holds.
  Bpe(Alphabet alphabet, std::span<const Merge> merges);

  // Lets Encode answer with `id` at once for a piece that is `text`: if merging gives that and
  // nothing else, or `always`. `text` must outlive this object.
  void AddShortcut(std::string_view text, TokenId id, bool always = false);

  struct Symbol {
    TokenId id;
    int32_t previous;  // index of the neighbours, or -1; of merged symbols: id -1
    int32_t next;
  };
  struct Candidate {
    uint64_t order;  // rank, then position
    TokenId left, right, merged;
    bool operator<(const Candidate& other) const { return order > other.order; }  // for a min-heap
  };
  struct Part {
    TokenId id;
    uint32_t rank;  // of the pair with the next part; kNoRank: none
    TokenId merged;
  };
  struct Scratch {
    std::vector<Part> parts;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Appends the tokens of `piece`. What has no symbol is left out before merging. O(n log n).
  void Encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const;

 private:
  struct Rank {
    uint32_t rank;
    TokenId merged;
  };
  const Rank* Find(TokenId left, TokenId right) const;
  template <class Take>
  void ForEachSymbol(std::string_view piece, Take take) const;
  TokenId CharacterToken(uint32_t code) const;
  void SetPair(std::vector<Part>& parts, size_t i) const;
  void EncodeShort(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const;
  void EncodeLong(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const;
  void Offer(const std::vector<Symbol>& symbols, int32_t at, std::vector<Candidate>& heap) const;
  void MergeAt(const Candidate& candidate, Scratch& scratch) const;

  Alphabet alphabet_;
  std::array<TokenId, 128> ascii_ = {};        // of alphabet_.characters
  absl::flat_hash_map<uint64_t, Rank> ranks_;  // by the pair's ids
  absl::flat_hash_map<absl::string_view, TokenId> shortcuts_;
  size_t longest_shortcut_ = 0;
};

}  // namespace tandem::text
