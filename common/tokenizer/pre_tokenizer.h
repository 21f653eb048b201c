// Cuts text into the pieces that merges never cross, as a model's tokenizer was trained: steps that
// each cut (and some change) the pieces of the one before. Every pre-tokenizer of Hugging Face's
// `tokenizers` that decoder models use is made of these steps.
//
// Thread: immutable once built, any thread; scratch memory is the caller's. Time: linear in the
// text for the expressions in use; an expression that would need more leaves the rest of its piece
// in one (regex.h).
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "common/status.h"
#include "common/tokenizer/regex.h"

namespace tandem::text {

class PreTokenizer {
 public:
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

  // Cuts at matches; `invert`: what lies between them counts as the matches.
  void AddSplit(Regex regex, Behavior behavior, bool invert = false);
  // A space before every piece that does not begin with one.
  void AddPrefixSpace();
  enum class Prepend { kAlways, kFirst, kNever };
  // Spaces become `replacement`; one more goes before a piece that does not begin with it (kFirst:
  // only before the piece that begins the text).
  void AddMetaspace(std::string replacement, Prepend prepend);

  // GPT-2's expression, the one of ByteLevel with use_regex.
  static StatusOr<Regex> Gpt2();
  // By the name that GGUF files have in tokenizer.ggml.pre. Results are those of the Hugging Face
  // tokenizers these names stand for: llama.cpp rewrites some expressions (tekken, gpt-4o:
  // ASCII case only; deepseek-llm: runs of digits) and has other versions of Unicode.
  static StatusOr<PreTokenizer> FromGgufName(std::string_view name);

  bool empty() const { return steps_.empty(); }

  struct Scratch {
    std::vector<Regex::Text> texts;  // [step]
    uint64_t steps = 0;              // of matching, in all that was done with this: for tests
  };
  // Pieces are not empty, in order, and valid during the call. `begins_text`: nothing came before.
  using Emit = absl::FunctionRef<void(std::string_view piece)>;
  void Apply(std::string_view text, bool begins_text, Scratch& scratch, Emit emit) const;

 private:
  struct Split {
    Regex regex;
    Behavior behavior;
    bool invert;
  };
  struct PrefixSpace {};
  struct Metaspace {
    std::string replacement;
    Prepend prepend;
  };
  using Step = std::variant<Split, PrefixSpace, Metaspace>;

  // What a step needs to hand its pieces to the steps after it.
  struct Rest {
    size_t step;
    bool begins_text;
    Scratch& scratch;
    Emit emit;
  };
  void Go(std::string_view piece, const Rest& rest) const;
  void Cut(const Split& split, std::string_view piece, const Rest& rest) const;

  std::vector<Step> steps_;
};

}  // namespace tandem::text
