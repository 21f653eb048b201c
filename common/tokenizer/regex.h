// Regular expressions of pre-tokenizers (syntax: regex_parser.h). Of its own because the system's
// engines know other versions of Unicode than the tokenizers that models were trained with, and
// because text and step count must be bounded.
//
// How: the characters that an expression tells apart are few classes. A text becomes one byte a
// byte: the class of the character that begins there. Matching tests bits of classes, the first
// alternative that matches wins, and repeats give back what they took where needed (backtracking).
// Expressions that match the empty string are refused.
//
// Thread: immutable once compiled, any thread; Text is the caller's. Memory: about 100 KB.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "common/tokenizer/regex_parser.h"

namespace tandem::text {

class Regex {
 public:
  static StatusOr<Regex> Compile(std::string_view pattern);
  static StatusOr<Regex> Literal(std::string_view text);  // this text and no other
  static StatusOr<Regex> OneOf(const CodeSet& set, bool repeated);

  struct Frame {  // where to go on when what was tried does not match
    int pc = 0;
    size_t at = 0;
    size_t floor = 0;  // `at` may step back to here
  };
  // A text that is searched, and memory to do it in. Steps are what Find may still do in it: enough
  // for any expression that does a bounded number a byte; when they are spent nothing is found any
  // more.
  struct Text {
    std::vector<uint8_t> classes;  // one a byte, and one for the end
    std::vector<Frame> frames;
    uint64_t steps = 0;
  };
  void Begin(std::string_view bytes, Text& text) const;
  static uint64_t StepsFor(size_t size);  // that Begin grants a text of so many bytes

  struct Match {
    size_t begin = 0;  // the text's size: none
    size_t end = 0;
  };
  // The first match at or after byte `from`, never empty. REQUIRES: a character begins at `from`.
  Match Find(Text& text, size_t from) const;

 private:
  struct Instruction {
    enum Op : uint8_t { kSet, kRun, kSplit, kJump, kAhead, kAssert, kMatch };
    Op op = kMatch;
    RegexNode::Kind assertion = RegexNode::kTextEnd;  // kAssert
    bool possessive = false;                          // kRun
    bool negative = false;                            // kAhead
    uint64_t set = 0;                                 // kSet, kRun: the bit in masks_
    int min = 0;                                      // kRun
    int max = 0;                                      // kRun
    int target = 0;  // kSplit: the second choice; kJump; kAhead: what comes after it
  };

  static StatusOr<Regex> Build(const RegexNode& node);
  Status MakeClasses(const std::vector<CodeSet>& sets);
  void MakePages(const std::vector<uint8_t>& class_of);
  Status Emit(const RegexNode& node, const std::vector<CodeSet>& sets);
  Status EmitRepeat(const RegexNode& node, const std::vector<CodeSet>& sets);
  uint64_t SetBit(const CodeSet& set, const std::vector<CodeSet>& sets) const;
  Status AddAlternative(const RegexNode& node, const std::vector<CodeSet>& sets);
  uint64_t FirstBits(const RegexNode& node, const std::vector<CodeSet>& sets,
                     bool& can_be_empty) const;
  uint8_t ClassOf(uint32_t code) const { return pages_[page_of_[code >> 8]][code & 0xff]; }
  bool MatchFrom(int pc, size_t at, Text& text, size_t& end) const;
  bool TakeRun(const Instruction& run, int pc, size_t& at, Text& text) const;
  bool Holds(RegexNode::Kind assertion, const Text& text, size_t at) const;

  std::vector<Instruction> program_;
  std::vector<int> starts_;                // [alternative] where its program begins
  std::array<uint64_t, 256> viable_ = {};  // [class] the alternatives that may begin with it
  std::array<uint64_t, 256> masks_ = {};   // [class] the sets it is in
  std::vector<std::array<uint8_t, 256>> pages_;
  std::vector<uint16_t> page_of_;  // [code >> 8]
};

}  // namespace tandem::text
