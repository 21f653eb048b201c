// A set of Unicode characters, such as \p{L} or [^\s\d], as sorted ranges; and the classes that
// pre-tokenizers name, as Hugging Face's `tokenizers` has them (unicode_classes.inc; the system's
// own Unicode tables may be older or newer, and then text would be cut elsewhere).
// Thread: a value.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace tandem::text {

struct CodeRange {
  uint32_t first = 0;
  uint32_t last = 0;  // included
  bool operator==(const CodeRange&) const = default;
};

inline constexpr uint32_t kLastCode = 0x10ffff;

class CodeSet {
 public:
  CodeSet() = default;
  explicit CodeSet(std::vector<CodeRange> ranges);  // any order, may overlap

  static CodeSet Of(uint32_t code) { return CodeSet({{code, code}}); }
  // "L", "Lu", "Punct", ...: a general category or its initial; nullopt: no name we know.
  static std::optional<CodeSet> Property(std::string_view name);
  static CodeSet Space();        // \s
  static CodeSet Digit();        // \d
  static CodeSet Word();         // \w, as Rust has it
  static CodeSet Number();       // what the pre-tokenizer Digits looks for
  static CodeSet Punctuation();  // what the pre-tokenizer Punctuation looks for
  static CodeSet LateMarks();    // what the normalizers NFC, ... do not know to be marks

  CodeSet Complement() const;
  CodeSet operator|(const CodeSet& other) const;
  CodeSet operator&(const CodeSet& other) const;
  bool operator==(const CodeSet&) const = default;

  bool Contains(uint32_t code) const;
  std::span<const CodeRange> ranges() const { return ranges_; }

 private:
  std::vector<CodeRange> ranges_;  // ascending, neither overlapping nor touching
};

}  // namespace tandem::text
