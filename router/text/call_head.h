// The beginning of one call of a tool in a reply: up to its arguments, or all of it where these
// come before the name or not at all. A pure function of a text that may not be complete: what it
// decides on a text it decides on every longer one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tandem::text {

struct CallHead {
  enum class Kind : uint8_t { kMore, kNone, kCall };
  Kind kind = Kind::kMore;
  std::string_view name;
  bool in_list = false;        // a list was opened before it
  bool in_object = true;       // not f{...}
  bool whole = false;          // the call ends at `end`
  std::string_view arguments;  // whole: these; empty: it has none
  size_t end = 0;              // else: where the arguments' brace is
};

// `named`: f{...}, f[ARGS]{...} and f[CALL_ID]id[ARGS]{...} are calls too.
CallHead ReadCallHead(std::string_view text, bool named);

// What may stand between a call's arguments and the end of its object: more members, and a brace.
// npos: it is not complete; 0: it is something else.
size_t CallTailSize(std::string_view text);

size_t SpaceSize(std::string_view text);  // of the white space that it begins with

}  // namespace tandem::text
