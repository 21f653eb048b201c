#include "bench/load/request_text.h"

#include <boost/json.hpp>
#include <iterator>

namespace tandem::load {
namespace {

constexpr std::string_view kWarmUp = "warm up ";

void AppendMessage(std::string& out, std::string_view role, std::string_view prefix,
                   std::string_view text) {
  out += "{\"role\":\"";
  out += role;
  out += "\",\"content\":\"";
  out += prefix;
  out += text;
  out += "\"}";
}

void AppendChat(std::string& out, const Conversation& conversation, size_t turn,
                std::span<const std::string> replies, std::string_view prefix) {
  out += ",\"messages\":[";
  for (size_t i = 0; i <= turn; ++i) {
    if (i > 0) out += ',';
    AppendMessage(out, "user", i == 0 ? prefix : "", conversation.turns[i].text);
    if (i == turn) break;
    out += ',';
    AppendMessage(out, "assistant", "", replies[i]);
  }
  out += ']';
}

void AppendPrompt(std::string& out, const Conversation& conversation, size_t turn,
                  std::span<const std::string> replies, std::string_view prefix) {
  out += ",\"prompt\":\"";
  out += prefix;
  for (size_t i = 0; i <= turn; ++i) {
    out += conversation.turns[i].text;
    if (i < turn) out.append("\\n").append(replies[i]).append("\\n");
  }
  out += '"';
}

void AppendHeaders(std::string& out, const Target& target, const RequestOptions& options) {
  auto to = std::back_inserter(out);
  fmt::format_to(to, "Host: {}\r\nUser-Agent: tandem-bench\r\n", target.authority());
  if (!options.api_key.empty()) {
    fmt::format_to(to, "Authorization: Bearer {}\r\n", options.api_key);
  }
  for (const auto& [name, value] : options.headers) fmt::format_to(to, "{}: {}\r\n", name, value);
}

}  // namespace

std::string Quoted(std::string_view text) {
  return boost::json::serialize(boost::json::string(text.data(), text.size()));
}

std::string RequestText(const Target& target, const RequestOptions& options,
                        const Conversation& conversation, size_t turn,
                        std::span<const std::string> replies, bool warm_up) {
  const bool chat = options.endpoint == Endpoint::kChat;
  const std::string_view prefix = warm_up ? kWarmUp : "";
  std::string body = "{\"model\":" + Quoted(options.model);
  if (chat) {
    AppendChat(body, conversation, turn, replies, prefix);
  } else {
    AppendPrompt(body, conversation, turn, replies, prefix);
  }
  fmt::format_to(std::back_inserter(body),
                 ",\"max_tokens\":{},\"stream\":true,\"stream_options\":{{\"include_usage\":true}}",
                 conversation.turns[turn].max_tokens);
  if (!options.extra_members.empty()) body.append(",").append(options.extra_members);
  body += '}';

  std::string out = fmt::format("POST {}/v1/{} HTTP/1.1\r\n", target.base_path,
                                chat ? "chat/completions" : "completions");
  AppendHeaders(out, target, options);
  fmt::format_to(std::back_inserter(out),
                 "Accept: text/event-stream\r\nContent-Type: application/json\r\n"
                 "Content-Length: {}\r\n\r\n",
                 body.size());
  return out + body;
}

std::string GetText(const Target& target, const RequestOptions& options, std::string_view path) {
  std::string out = fmt::format("GET {}{} HTTP/1.1\r\n", target.base_path, path);
  AppendHeaders(out, target, options);
  return out + "Connection: close\r\n\r\n";
}

}  // namespace tandem::load
