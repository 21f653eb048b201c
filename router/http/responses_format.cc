#include "router/http/responses_format.h"

#include <fmt/format.h>

#include <iterator>

#include "router/http/json_text.h"

namespace tandem::http {
namespace {

constexpr std::string_view kInProgress = "in_progress";

void AppendPart(std::string& out, std::string_view text) {
  out += "{\"type\":\"output_text\",\"text\":";
  AppendJsonString(out, text);
  out += ",\"annotations\":[],\"logprobs\":[]}";
}

void AppendUsage(std::string& out, const Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 "{{\"input_tokens\":{},\"input_tokens_details\":{{\"cached_tokens\":{}}},"
                 "\"output_tokens\":{},\"output_tokens_details\":{{\"reasoning_tokens\":0}},"
                 "\"total_tokens\":{}}}",
                 usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens,
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
    : call_(call), created_(created) {}

template <class F>
void ResponsesFormat::AppendEvent(std::string& out, std::string_view type, F&& members) {
  fmt::format_to(std::back_inserter(out),
                 "event: {}\ndata: {{\"type\":\"{}\",\"sequence_number\":{}", type, type,
                 next_number_++);
  members();
  out += "}\n\n";
}

// The message that the reply is. `text` null: its content has not begun.
void ResponsesFormat::AppendItem(std::string& out, std::string_view status,
                                 std::string_view text) const {
  fmt::format_to(std::back_inserter(out),
                 "{{\"type\":\"message\",\"id\":\"msg_{}\",\"status\":\"{}\",\"role\":"
                 "\"assistant\",\"content\":[",
                 call_.request_id, status);
  if (status != kInProgress) AppendPart(out, text);
  out += "]}";
}

void ResponsesFormat::AppendItemPlace(std::string& out) const {
  fmt::format_to(std::back_inserter(out),
                 ",\"item_id\":\"msg_{}\",\"output_index\":0,\"content_index\":0",
                 call_.request_id);
}

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
      "\"previous_response_id\":null,\"parallel_tool_calls\":true,\"tool_choice\":\"auto\","
      "\"tools\":[],\"text\":{\"format\":";
  out += api.text_format.empty() ? R"({"type":"text"})" : api.text_format;
  out +=
      "},\"truncation\":\"disabled\","
      "\"reasoning\":{\"effort\":null,\"summary\":null},\"error\":null";
}

void ResponsesFormat::AppendResponse(std::string& out, std::string_view status,
                                     std::string_view text, const Usage* usage,
                                     std::string_view timing) const {
  fmt::format_to(std::back_inserter(out),
                 "{{\"id\":\"resp_{}\",\"object\":\"response\",\"created_at\":{},\"status\":\"{}\"",
                 call_.request_id, created_, status);
  out += ",\"model\":";
  AppendJsonString(out, call_.served_model());
  out += ",\"output\":[";
  if (usage != nullptr) AppendItem(out, status, text);
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

void ResponsesFormat::Begin(std::string& out, std::span<const Choice> /*one*/) {
  const auto response = [&] {
    out += ",\"response\":";
    AppendResponse(out, kInProgress, {}, nullptr, {});
  };
  AppendEvent(out, "response.created", response);
  AppendEvent(out, "response.in_progress", response);
  AppendEvent(out, "response.output_item.added", [&] {
    out += ",\"output_index\":0,\"item\":";
    AppendItem(out, kInProgress, {});
  });
  AppendEvent(out, "response.content_part.added", [&] {
    AppendItemPlace(out);
    out += ",\"part\":";
    AppendPart(out, {});
  });
}

void ResponsesFormat::AppendDelta(std::string& out, Choice& /*one*/, const Delta& delta,
                                  const Usage& /*at the end*/) {
  if (delta.text.empty()) return;
  text_ += delta.text;
  AppendEvent(out, "response.output_text.delta", [&] {
    AppendItemPlace(out);
    out += ",\"delta\":";
    AppendJsonString(out, delta.text);
    out += ",\"logprobs\":[]";
  });
}

void ResponsesFormat::EndChoice(std::string& /*out*/, Choice& /*one*/) {}

void ResponsesFormat::End(std::string& out, Choice& last, const Usage& usage,
                          std::string_view timing) {
  const std::string_view status = StatusOf(*last.generation);
  AppendEvent(out, "response.output_text.done", [&] {
    AppendItemPlace(out);
    out += ",\"text\":";
    AppendJsonString(out, text_);
    out += ",\"logprobs\":[]";
  });
  AppendEvent(out, "response.content_part.done", [&] {
    AppendItemPlace(out);
    out += ",\"part\":";
    AppendPart(out, text_);
  });
  AppendEvent(out, "response.output_item.done", [&] {
    out += ",\"output_index\":0,\"item\":";
    AppendItem(out, status, text_);
  });
  AppendEvent(out, status == "completed" ? "response.completed" : "response.incomplete", [&] {
    out += ",\"response\":";
    AppendResponse(out, status, text_, &usage, timing);
  });
}

void ResponsesFormat::Fail(std::string& out, const ApiError& error) {
  AppendEvent(out, "error", [&] {
    AppendNullable(out, "code", error.code);
    out += ",\"message\":";
    AppendJsonString(out, error.message);
    AppendNullable(out, "param", error.param);
  });
}

std::string ResponsesFormat::Body(std::span<const Choice> choices, const Usage& usage,
                                  std::string_view timing) {
  std::string out;
  const Choice& one = choices.front();
  AppendResponse(out, StatusOf(*one.generation), one.text, &usage, timing);
  return out;
}

}  // namespace tandem::http
