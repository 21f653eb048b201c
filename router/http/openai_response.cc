#include "router/http/openai_response.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

#include "router/http/json_text.h"

namespace tandem::http {
namespace {

std::string_view ObjectName(const ReplyMeta& meta, bool chunk) {
  if (meta.endpoint == Endpoint::kCompletions) return "text_completion";
  return chunk ? "chat.completion.chunk" : "chat.completion";
}

// {"id":...,"object":...,"created":...,"model":...
void AppendStart(std::string& out, const ReplyMeta& meta, bool chunk) {
  fmt::format_to(std::back_inserter(out), "{{\"id\":\"{}\",\"object\":\"{}\",\"created\":{},",
                 meta.id, ObjectName(meta, chunk), meta.created);
  out += "\"model\":";
  AppendJsonString(out, meta.model);
}

void AppendUsage(std::string& out, const Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 ",\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
                 "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
}

void AppendTiming(std::string& out, std::string_view timing) {
  if (timing.empty()) return;
  out += ",\"timing\":";
  out += timing;
}

// One chunk but for its end, which may carry more members: `content` is the delta or the text.
void AppendChoiceChunk(std::string& out, const ReplyMeta& meta, std::string_view text, bool role,
                       std::string_view finish_reason) {
  out += "data: ";
  AppendStart(out, meta, true);
  out += ",\"choices\":[{\"index\":0,";
  if (meta.endpoint == Endpoint::kChat) {
    out += "\"delta\":{";
    if (role) out += "\"role\":\"assistant\",";
    if (finish_reason.empty()) {
      out += "\"content\":";
      AppendJsonString(out, text);
    }
    out += "}";
  } else {
    out += "\"text\":";
    AppendJsonString(out, text);
  }
  out += ",\"logprobs\":null,\"finish_reason\":";
  if (finish_reason.empty()) {
    out += "null}]";
  } else {
    AppendJsonString(out, finish_reason);
    out += "}]";
  }
  if (meta.include_usage) out += ",\"usage\":null";
}

void AppendModel(std::string& out, const std::string& model, int64_t created) {
  out += "{\"id\":";
  AppendJsonString(out, model);
  fmt::format_to(std::back_inserter(out),
                 ",\"object\":\"model\",\"created\":{},\"owned_by\":\"tandem\"}}", created);
}

}  // namespace

void AppendRoleChunk(std::string& out, const ReplyMeta& meta) {
  if (meta.endpoint != Endpoint::kChat) return;
  AppendChoiceChunk(out, meta, {}, true, {});
  out += "}\n\n";
}

TextChunkFrame MakeTextChunkFrame(const ReplyMeta& meta) {
  std::string chunk;
  AppendChoiceChunk(chunk, meta, {}, false, {});
  chunk += "}\n\n";
  // Found from the end: what follows the text is fixed.
  const std::string_view key = meta.endpoint == Endpoint::kChat ? "\"content\":" : "\"text\":";
  const size_t text = chunk.rfind(key) + key.size();
  return {chunk.substr(0, text), chunk.substr(text + 2)};
}

void AppendTextChunk(std::string& out, const TextChunkFrame& frame, std::string_view text) {
  out += frame.before;
  AppendJsonString(out, text);
  out += frame.after;
}

void AppendFinish(std::string& out, const ReplyMeta& meta, std::string_view finish_reason,
                  const Usage& usage, std::string_view timing) {
  AppendChoiceChunk(out, meta, {}, false, finish_reason);
  if (!meta.include_usage) AppendTiming(out, timing);
  out += "}\n\n";
  if (meta.include_usage) {
    out += "data: ";
    AppendStart(out, meta, true);
    out += ",\"choices\":[]";
    AppendUsage(out, usage);
    AppendTiming(out, timing);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

void AppendErrorEvent(std::string& out, const ApiError& error) {
  out += "data: ";
  out += ErrorJson(error);
  out += "\n\n";
}

std::string ReplyBody(const ReplyMeta& meta, std::string_view text, std::string_view finish_reason,
                      const Usage& usage, std::string_view timing) {
  std::string out;
  out.reserve(text.size() + 512);
  AppendStart(out, meta, false);
  out += ",\"choices\":[{\"index\":0,";
  if (meta.endpoint == Endpoint::kChat) {
    out += "\"message\":{\"role\":\"assistant\",\"content\":";
    AppendJsonString(out, text);
    out += ",\"refusal\":null}";
  } else {
    out += "\"text\":";
    AppendJsonString(out, text);
  }
  out += ",\"logprobs\":null,\"finish_reason\":";
  AppendJsonString(out, finish_reason);
  out += "}]";
  AppendUsage(out, usage);
  AppendTiming(out, timing);
  out += "}";
  return out;
}

std::string ModelsBody(const std::vector<std::string>& models, int64_t created) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  for (size_t i = 0; i < models.size(); ++i) {
    if (i > 0) out += ',';
    AppendModel(out, models[i], created);
  }
  return out + "]}";
}

std::string ModelBody(const std::string& model, int64_t created) {
  std::string out;
  AppendModel(out, model, created);
  return out;
}

std::string HeadText(const Head& head) {
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "HTTP/1.1 {} {}\r\n", head.status, ReasonPhrase(head.status));
  fmt::format_to(to, "date: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", fmt::gmtime(std::time(nullptr)));
  if (!head.content_type.empty()) fmt::format_to(to, "content-type: {}\r\n", head.content_type);
  if (head.content_length >= 0) fmt::format_to(to, "content-length: {}\r\n", head.content_length);
  if (head.chunked) out += "transfer-encoding: chunked\r\n";
  if (head.stream) out += "cache-control: no-cache\r\nx-accel-buffering: no\r\n";
  if (!head.request_id.empty()) fmt::format_to(to, "x-request-id: {}\r\n", head.request_id);
  // A name may hold anything; a header may not.
  if (!head.model.empty() && std::all_of(head.model.begin(), head.model.end(),
                                         [](char c) { return c > ' ' && c < 0x7f; })) {
    fmt::format_to(to, "x-tandem-model: {}\r\n", head.model);
  }
  if (!head.allow.empty()) fmt::format_to(to, "allow: {}\r\n", head.allow);
  if (head.status == 401) out += "www-authenticate: Bearer\r\n";
  if (head.retry_after > 0) fmt::format_to(to, "retry-after: {}\r\n", head.retry_after);
  if (head.close) out += "connection: close\r\n";
  out += "\r\n";
  return out;
}

void AppendHttpChunk(std::string& out, std::string_view data) {
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", data.size());
  out += data;
  out += "\r\n";
}

}  // namespace tandem::http
