#include "router/text/reply_syntax.h"

namespace tandem::text {
namespace {

using Layout = ToolFormat::Layout;

constexpr ToolFormat kHermes = {
    .name = "hermes", .begin = "<tool_call>", .end = "</tool_call>", .layout = Layout::kEach};
constexpr ToolFormat kLlama = {.name = "llama3_json",
                               .begin = "<|python_tag|>",
                               .layout = Layout::kJoined,
                               .bare = true,
                               .arguments = "parameters"};
constexpr ToolFormat kMistral = {
    .name = "mistral", .begin = "[TOOL_CALLS]", .named = true, .short_ids = true};
constexpr ToolFormat kGranite = {.name = "granite", .begin = "<|tool_call|>", .bare = true};
constexpr ToolFormat kListed = {
    .name = "tool_calls", .begin = "<tool_calls>", .end = "</tool_calls>"};
constexpr ToolFormat kFunctools = {.name = "functools", .begin = "functools", .bare = true};
constexpr ReasoningMarks kThink = {"<think>", "</think>"};
constexpr ReasoningMarks kThinkTokens = {"[THINK]", "[/THINK]"};

const ToolFormat* ToolsOf(std::string_view source) {
  const auto has = [&](std::string_view word) { return source.find(word) != source.npos; };
  // Calls as XML, with these inside <tool_call>, and YAML are other formats.
  if (has("<function=") || has("<arg_key>") || has("- name: <function-name")) return nullptr;
  if (has("[TOOL_CALLS]")) return &kMistral;
  if (has("<tool_calls>")) return &kListed;
  if (has("<|tool_call|>")) return &kGranite;
  if (has("ns_token ~ '<tool_call>'")) return nullptr;  // MiniMax's, behind a token of its own
  if (has("<tool_call>") && has("name") && has("arguments")) return &kHermes;
  if (has("<|python_tag|>") || has(R"({"name": function name, "parameters": )")) return &kLlama;
  if (has("functools[")) return &kFunctools;
  return has("tools") ? nullptr : &kPlainCalls;
}

}  // namespace

constexpr ToolFormat kPlainCalls = {.name = "json", .bare = true};

ReplySyntax ReplySyntaxOf(std::string_view source) {
  ReplySyntax syntax;
  syntax.tools = ToolsOf(source);
  syntax.shows_tools = source.find("tools") != source.npos;
  for (const ReasoningMarks* marks : {&kThink, &kThinkTokens}) {
    if (source.find(marks->end) != source.npos) syntax.reasoning = marks;
  }
  return syntax;
}

}  // namespace tandem::text
