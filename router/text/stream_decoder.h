// Turns one stream's tokens into text that is safe to send: never half a UTF-8 character, never
// text that might become a stop string. Control tokens (<|im_end|>, ...) have no text here, unless
// asked for.
//
// All outputs and Flush() together are Decode() of the tokens with U+FFFD for what is not UTF-8,
// cut before (or after) the stop string that is complete first (of those complete at the same
// character, the longest), however the tokens are split over calls.
//
// Thread: one per stream, no locks. Memory: what is held back (less than the longest stop string)
// and one output.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/tokenizer/tokenizer.h"
#include "common/tokenizer/utf8.h"

namespace tandem::text {

class StreamDecoder {
 public:
  struct Options {
    // Matched in text, not in tokens, because a stop string may begin inside a token. Empty ones
    // are ignored. Borrowed. REQUIRES: valid UTF-8.
    std::span<const std::string> stop = {};
    bool include_stop = false;            // the stop string is part of the text
    bool with_special = false;            // control tokens have text
    std::span<const TokenId> shown = {};  // these have in any case. Borrowed
    int min_tokens = 0;  // what ends within the text of the first of them stops nothing
    // The text goes on where the prompt's ended, so that a space which Decode would take off its
    // beginning belongs to it.
    bool continues = false;
  };
  // Borrows the tokenizer.
  StreamDecoder(const Tokenizer& tokenizer, const Options& options);

  struct Output {
    std::string_view text;  // valid until the next call; may be empty
    bool stopped = false;   // a stop string matched; its text is not included
    int num_tokens = 0;     // of this call: all, or those up to the one that completed the stop
  };
  // After a stop: empty, stopped, no tokens. `silent_end`: the last one counts but has no text.
  Output Push(std::span<const TokenId> tokens, bool silent_end = false);

  std::string_view stopped_by() const { return stopped_by_; }  // empty: no stop string

  // What was held back, once the stream has ended; empty after a stop. An incomplete character is
  // one U+FFFD.
  std::string_view Flush();

 private:
  // One stop string's matching state (Knuth, Morris, Pratt).
  struct Stop {
    std::string_view text;
    std::vector<size_t> fallback;  // [i]: longest proper border of text's first i + 1 bytes
    size_t matched = 0;            // bytes of `text` that the text so far ends with
  };

  static Stop MakeStop(std::string_view text);
  static void Advance(Stop& stop, char byte);
  bool HasText(TokenId token) const;
  std::string_view Stripped(std::string_view text);
  void DropSent();
  void Scan(size_t from);
  std::string_view TakeSafe();

  const Tokenizer& tokenizer_;
  const bool include_stop_, with_special_;
  const std::span<const TokenId> shown_;
  int unstoppable_;  // tokens to come whose text stops nothing
  std::vector<Stop> stops_;
  Utf8Stream utf8_;
  std::string text_;  // sent in the last output, then held back
  size_t sent_ = 0;
  int strip_ = 0;  // spaces that may still be taken off the beginning
  bool stopped_ = false;
  std::string_view stopped_by_;
};

}  // namespace tandem::text
