// Cuts a template into tokens, with white space around tags handled as Hugging Face sets it: one
// newline after a block tag goes (trim_blocks), spaces before one that is first on its line too
// (lstrip_blocks); '-' and '+' inside a tag's brackets say otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace tandem::text {

struct JinjaToken {
  enum class Kind : uint8_t {
    kData,       // text outside of tags
    kBlock,      // {%
    kBlockEnd,   // %}
    kOutput,     // {{
    kOutputEnd,  // }}
    kName,
    kInteger,
    kFloat,
    kString,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;  // of strings: without quotes, escapes resolved; of numbers: without '_'
  int line = 1;
};

// The last token is kEnd. Errors name the line.
StatusOr<std::vector<JinjaToken>> LexJinja(std::string_view source);

}  // namespace tandem::text
