// libFuzzer target: whatever the format and the text, a reply in pieces is heard as the whole is;
// what is heard stood in it, in that order; without a call nothing is lost; and what waits is
// bounded. The first bytes say how it is read and where it is cut, the rest is the reply.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/reply_parser.h"
#include "router/text/reply_syntax.h"

namespace {

using tandem::text::ReplyParser;
using tandem::text::ReplySyntax;

// By what their templates have in them.
constexpr std::string_view kSources[] = {"tools <tool_call> name arguments",
                                         "tools <|python_tag|>",
                                         "tools [TOOL_CALLS]",
                                         "tools <|tool_call|>",
                                         "tools <tool_calls>",
                                         "tools functools[",
                                         "messages",
                                         "tools <function=x>"};
constexpr size_t kNumCuts = 8;
constexpr size_t kMostBytes = 12'000;  // beyond every bound

void Require(bool holds) {
  if (!holds) std::abort();
}

struct Heard final : tandem::text::ReplyHandler {
  std::string reasoning, content, said;  // said: both, in their order
  std::string calls;                     // each as \0name\0arguments
  int num_calls = 0;

  void OnReasoning(std::string_view text) override {
    Require(!text.empty() && content.empty() && num_calls == 0);
    reasoning += text;
    said += text;
  }
  void OnContent(std::string_view text) override {
    Require(!text.empty());
    content += text;
    said += text;
  }
  void OnCall(int index, std::string_view name) override {
    Require(index == num_calls++ && !name.empty());
    calls += '\0';
    calls += name;
    calls += '\0';
  }
  void OnArguments(int index, std::string_view json) override {
    Require(index + 1 == num_calls && !json.empty());
    calls += json;
  }
};

bool IsSubsequence(std::string_view part, std::string_view of) {
  size_t at = 0;
  for (const char c : of) {
    if (at < part.size() && part[at] == c) ++at;
  }
  return at == part.size();
}

bool IsSpace(std::string_view text) { return text.find_first_not_of(" \n\r\t") == text.npos; }

// Whether the text is what was heard, but for the marks around the reasoning.
bool NothingIsLost(const Heard& heard, std::string_view text, const ReplyParser::Options& options) {
  if (options.reasoning == nullptr || text == heard.content) return text == heard.content;
  const size_t begun = text.find(options.reasoning->begin);
  const bool has_mark = begun != text.npos && IsSpace(text.substr(0, begun));
  if (!has_mark && !options.reasoning_begun) return false;
  if (has_mark) text.remove_prefix(begun + options.reasoning->begin.size());
  if (!text.starts_with(heard.reasoning)) return false;
  text.remove_prefix(heard.reasoning.size());
  if (text.starts_with(options.reasoning->end)) text.remove_prefix(options.reasoning->end.size());
  return text == heard.content;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 + kNumCuts) return 0;
  static const std::vector<std::string> names = {"add", "f"};
  const ReplySyntax calls = tandem::text::ReplySyntaxOf(kSources[data[0] % std::size(kSources)]);
  const ReplySyntax thinks = tandem::text::ReplySyntaxOf((data[1] & 1) == 0   ? "</think>"
                                                         : (data[1] & 2) == 0 ? "[/THINK]"
                                                                              : "");
  const ReplyParser::Options options = {.reasoning = thinks.reasoning,
                                        .reasoning_begun = (data[1] & 4) != 0,
                                        .tools = calls.tools,
                                        .names = names,
                                        .bare = (data[1] & 8) != 0,
                                        .one_call = (data[1] & 16) != 0};
  const uint8_t* const cuts = data + 2;
  const std::string_view text(reinterpret_cast<const char*>(cuts + kNumCuts),
                              std::min(size - 2 - kNumCuts, kMostBytes));

  Heard whole;
  ReplyParser at_once(options);
  at_once.Push(text, whole);
  at_once.Finish(whole);
  Require(at_once.num_calls() == whole.num_calls && at_once.num_waiting_bytes() == 0);
  Require(IsSubsequence(whole.said, text));
  if (whole.num_calls == 0) Require(NothingIsLost(whole, text, options));

  Heard pieces;
  ReplyParser parser(options);
  size_t at = 0;
  const size_t least = 1 + text.size() / 256;  // what is not decided is read anew with each piece
  for (size_t i = 0; at < text.size(); ++i) {
    const std::string_view piece = text.substr(at, least + cuts[i % kNumCuts]);
    parser.Push(piece, pieces);
    at += piece.size();
    Require(parser.num_waiting_bytes() <= ReplyParser::kMaxWaitingBytes);
  }
  parser.Finish(pieces);
  Require(pieces.reasoning == whole.reasoning && pieces.content == whole.content &&
          pieces.calls == whole.calls && parser.num_calls() == whole.num_calls);
  return 0;
}
