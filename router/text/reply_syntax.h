// How a model writes what is not plain text in its replies: calls of tools, and what it thinks
// before it answers. Known from its chat template, which shows the model the same.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem::text {

// Calls are JSON objects, {"name": "f", "arguments": {...}} ("parameters" is read too), alone or in
// a list; more members are skipped.
struct ToolFormat {
  // How several calls stand: in a list behind the mark, each in its marks, or joined by "; ".
  enum class Layout : uint8_t { kList, kEach, kJoined };
  std::string_view name;
  std::string_view begin = {};  // before calls; empty: there is no mark
  std::string_view end = {};    // behind them; empty: none
  Layout layout = Layout::kList;
  bool bare = false;                         // a reply that begins with a call needs no mark
  bool named = false;                        // f{...} and f[ARGS]{...} are calls too
  bool short_ids = false;                    // the template wants ids of nine letters and digits
  std::string_view arguments = "arguments";  // the key that the model was trained on
};

// Of calls f[CALL_ID]id[ARGS]{...}.
inline constexpr std::string_view kArgumentsMark = "[ARGS]", kCallIdMark = "[CALL_ID]";

struct ReasoningMarks {
  std::string_view begin, end;
};

struct ReplySyntax {
  const ToolFormat* tools = nullptr;          // null: a format that is not read here
  bool shows_tools = false;                   // the template tells the model which tools there are
  const ReasoningMarks* reasoning = nullptr;  // null: the model does not reason apart
};

// Where a template's own format is not read, and calls must be: JSON without marks.
extern const ToolFormat kPlainCalls;

// `source`: the text of the template, and of those beside it.
ReplySyntax ReplySyntaxOf(std::string_view source);

}  // namespace tandem::text
