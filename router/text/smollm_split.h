// SmolLM's pre-tokenizer: cuts text into the pieces that byte-pair merges never cross. Every digit
// is a piece; what lies between digits is cut by GPT-2's regular expression
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// with Hugging Face's notion of \p{L}, \s and digits (unicode_classes.inc). Written out by hand:
// one pass, constant work a character, no backtracking.
#pragma once

#include <cstddef>
#include <string_view>

namespace tandem::text {

// The end of the piece that begins at text[begin]. REQUIRES: begin < text.size(), and begin is 0 or
// the end of a piece.
size_t SmolLmPieceEnd(std::string_view text, size_t begin);

}  // namespace tandem::text
