#include "router/http/responses_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "router/http/json_text.h"

namespace tandem::http {
namespace {

constexpr std::string_view kInProgress = "in_progress";

void AppendUsage(std::string& out, const Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 "{{\"input_tokens\":{},\"input_tokens_details\":{{\"cached_tokens\":{}}},"
                 "\"output_tokens\":{},\"output_tokens_details\":{{\"reasoning_tokens\":{}}},"
                 "\"total_tokens\":{}}}",
                 usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens,
                 std::max(usage.reasoning_tokens, 0),
                 usage.prompt_tokens + usage.completion_tokens);
}

std::string_view StatusOf(const Generation& generation) {
  return std::string_view(generation.finish_reason) == "length" ? "incomplete" : "completed";
}

void AppendNullable(std::string& out, std::string_view name, std::string_view text) {
  out += ",\"";
  out += name;
  out += "\":";
  if (text.empty()) {
    out += "null";
  } else {
    AppendJsonString(out, text);
  }
}

}  // namespace

ResponsesFormat::ResponsesFormat(const ApiCall& call, int64_t created)
    : call_(call), created_(created), items_(call) {}

// What was asked for, and what there is not.
void ResponsesFormat::AppendSettings(std::string& out) const {
  const ApiRequest& api = call_.api;
  AppendNullable(out, "instructions", api.instructions);
  out += ",\"max_output_tokens\":";
  out += api.max_tokens ? fmt::to_string(*api.max_tokens) : "null";
  const Generation& one = call_.generations.front();
  fmt::format_to(std::back_inserter(out), ",\"temperature\":{},\"top_p\":{}", one.temperature,
                 one.top_p);
  out += ",\"metadata\":";
  out += api.metadata.empty() ? "{}" : api.metadata;
  AppendNullable(out, "user", api.user);
  out +=
      ",\"service_tier\":\"default\",\"store\":false,\"background\":false,"
      "\"previous_response_id\":null,\"parallel_tool_calls\":";
  out += api.parallel_tool_calls ? "true" : "false";
  out += ",\"tool_choice\":";
  out += api.tool_choice_json.empty() ? "\"auto\"" : api.tool_choice_json;
  out += ",\"tools\":";
  out += api.tools_json.empty() ? "[]" : api.tools_json;
  out += ",\"text\":{\"format\":";
  out += api.text_format.empty() ? R"({"type":"text"})" : api.text_format;
  out += "},\"truncation\":\"disabled\",\"error\":null,\"reasoning\":{\"summary\":null";
  AppendNullable(out, "effort", api.reasoning_effort);
  out += '}';
}

void ResponsesFormat::AppendResponse(std::string& out, std::string_view status,
                                     const ResponseItems& items, const Usage* usage,
                                     std::string_view timing) const {
  fmt::format_to(std::back_inserter(out),
                 "{{\"id\":\"resp_{}\",\"object\":\"response\",\"created_at\":{},\"status\":\"{}\"",
                 call_.request_id, created_, status);
  out += ",\"model\":";
  AppendJsonString(out, call_.served_model());
  out += ",\"output\":[";
  out += items.output();
  out += "],\"incomplete_details\":";
  out += status == "incomplete" ? "{\"reason\":\"max_output_tokens\"}" : "null";
  AppendSettings(out);
  out += ",\"usage\":";
  if (usage == nullptr) {
    out += "null";
  } else {
    AppendUsage(out, *usage);
  }
  if (!timing.empty()) {
    out += ",\"timing\":";
    out += timing;
  }
  out += '}';
}

void ResponsesFormat::Begin(std::string& out, std::span<const Choice> /*one*/,
                            const Usage& /*none*/) {
  for (const char* event : {"response.created", "response.in_progress"}) {
    items_.AppendEvent(out, event, [&] {
      out += ",\"response\":";
      AppendResponse(out, kInProgress, items_, nullptr, {});
    });
  }
}

void ResponsesFormat::AppendDelta(std::string& out, Choice& choice, const Delta& delta,
                                  const Usage& /*at the end*/) {
  items_.StreamTo(&out);
  const auto& syntax = choice.generation->reply_syntax;
  if (syntax && !choice.parser) choice.parser.emplace(*syntax);
  if (choice.parser) {
    choice.parser->Push(delta.text, items_);
  } else if (!delta.text.empty()) {
    items_.OnContent(delta.text);
  }
}

void ResponsesFormat::EndChoice(std::string& /*out*/, Choice& /*one*/, const Usage& /*none*/) {}

void ResponsesFormat::End(std::string& out, Choice& last, const Usage& usage,
                          std::string_view timing) {
  const std::string_view status = StatusOf(*last.generation);
  items_.StreamTo(&out);
  if (last.parser) last.parser->Finish(items_);
  items_.Finish(status);
  items_.AppendEvent(out, status == "completed" ? "response.completed" : "response.incomplete",
                     [&] {
                       out += ",\"response\":";
                       AppendResponse(out, status, items_, &usage, timing);
                     });
}

void ResponsesFormat::Fail(std::string& out, const ApiError& error) {
  items_.AppendEvent(out, "error", [&] {
    AppendNullable(out, "code", error.code);
    out += ",\"message\":";
    AppendJsonString(out, error.message);
    AppendNullable(out, "param", error.param);
  });
}

std::string ResponsesFormat::Body(std::span<const Choice> choices, const Usage& usage,
                                  std::string_view timing) {
  const Choice& one = choices.front();
  const std::string_view status = StatusOf(*one.generation);
  ResponseItems items(call_);
  if (one.generation->reply_syntax) {
    text::ReplyParser parser(*one.generation->reply_syntax);
    parser.Push(one.text, items);
    parser.Finish(items);
  } else if (!one.text.empty()) {
    items.OnContent(one.text);
  }
  items.Finish(status);
  std::string out;
  AppendResponse(out, status, items, &usage, timing);
  return out;
}

}  // namespace tandem::http
