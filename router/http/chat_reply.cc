#include "router/http/chat_reply.h"

#include <fmt/format.h>

#include <iterator>

#include "common/hash.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

// "id":...,"type":"function","function":{"name":...,"arguments":...}
void AppendCall(std::string& out, const Generation& g, int index, std::string_view name,
                std::string_view arguments) {
  fmt::format_to(std::back_inserter(out), R"("id":"{}","type":"function","function":{{"name":)",
                 CallId(g, index));
  AppendJsonString(out, name);
  out += ",\"arguments\":";
  AppendJsonString(out, arguments);
  out += '}';
}

}  // namespace

std::string CallId(const Generation& g, int index) {
  const BlockHash hash =
      HashBytes(fmt::format("{}/{}/{}/{}", g.call->request_id, g.id, g.account.received, index));
  if (!g.reply_syntax->tools->short_ids)
    return fmt::format("call_{:016x}{:08x}", hash.high, hash.low & 0xffffffff);
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  std::string id;
  for (uint64_t rest = hash.high; id.size() < 9; rest /= kDigits.size()) {
    id += kDigits[rest % kDigits.size()];
  }
  return id;
}

ChatMessage::ChatMessage(const Generation& generation, std::string_view text)
    : generation_(generation) {
  text::ReplyParser parser(*generation.reply_syntax);
  parser.Push(text, *this);
  parser.Finish(*this);
}

void ChatMessage::AppendMembers(std::string& out) const {
  out += ",\"content\":";
  if (content_.empty() && !(reasoning_.empty() && calls_.empty())) {
    out += "null";
  } else {
    AppendJsonString(out, content_);
  }
  if (!reasoning_.empty() && generation_.call->api.include_reasoning) {
    out += ",\"reasoning_content\":";
    AppendJsonString(out, reasoning_);
  }
  if (calls_.empty()) return;
  out += ",\"tool_calls\":[";
  for (int i = 0; i < num_calls(); ++i) {
    const Call& call = calls_[static_cast<size_t>(i)];
    out += i > 0 ? ",{" : "{";
    AppendCall(out, generation_, i, call.name, call.arguments);
    out += '}';
  }
  out += ']';
}

std::string_view ChatFinishReason(const Generation& generation, int num_calls) {
  const std::string_view reason = generation.finish_reason;
  const bool told = generation.call->api.tool_choice == ToolChoice::kNamed;
  return num_calls > 0 && !told && reason == "stop" ? "tool_calls" : reason;
}

void AppendReasoningDelta(std::string& out, std::string_view text) {
  out += "\"reasoning_content\":";
  AppendJsonString(out, text);
}

void AppendCallDelta(std::string& out, const Generation& generation, int index,
                     std::string_view name) {
  fmt::format_to(std::back_inserter(out), "\"tool_calls\":[{{\"index\":{},", index);
  AppendCall(out, generation, index, name, {});
  out += "}]";
}

void AppendArgumentsDelta(std::string& out, int index, std::string_view json) {
  fmt::format_to(std::back_inserter(out),
                 "\"tool_calls\":[{{\"index\":{},\"function\":{{\"arguments\":", index);
  AppendJsonString(out, json);
  out += "}}]";
}

}  // namespace tandem::http
