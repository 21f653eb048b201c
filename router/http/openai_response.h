// What goes back to clients, as text: bodies and chunks of the OpenAI API, heads of HTTP responses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/http/error.h"
#include "router/http/openai_request.h"

namespace tandem::http {

// What is the same in all chunks of one reply.
struct ReplyMeta {
  Endpoint endpoint = Endpoint::kChat;
  std::string id;       // "chatcmpl-..." | "cmpl-..."
  int64_t created = 0;  // Unix seconds
  std::string model;
  bool include_usage = false;  // chunks without usage then say null
};

struct Usage {
  int prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
};

// Chunks, each one SSE event ("data: {...}\n\n").
void AppendRoleChunk(std::string& out, const ReplyMeta& meta);
// All text chunks of a stream are the same but for their text: made once, appended around it.
struct TextChunkFrame {
  std::string before, after;
};
TextChunkFrame MakeTextChunkFrame(const ReplyMeta& meta);
void AppendTextChunk(std::string& out, const TextChunkFrame& frame, std::string_view text);
// The last one(s) and "[DONE]": finish reason, usage if asked for, `timing` (JSON, or empty).
void AppendFinish(std::string& out, const ReplyMeta& meta, std::string_view finish_reason,
                  const Usage& usage, std::string_view timing);
void AppendErrorEvent(std::string& out, const ApiError& error);

// The body of a reply that is not streamed.
std::string ReplyBody(const ReplyMeta& meta, std::string_view text, std::string_view finish_reason,
                      const Usage& usage, std::string_view timing);

// {"object":"list","data":[...]} | one model.
std::string ModelsBody(const std::vector<std::string>& models, int64_t created);
std::string ModelBody(const std::string& model, int64_t created);

struct Head {
  int status = 200;
  std::string_view content_type;  // empty: no body
  std::string_view request_id;    // empty: none
  std::string_view model = {};    // that served; empty: none did
  std::string_view allow;
  int retry_after = 0;
  int64_t content_length = -1;  // -1: not known; then chunked, or until the connection closes
  bool chunked = false;
  bool close = false;
  bool stream = false;  // must not be buffered on its way
};
std::string HeadText(const Head& head);

// `data` as one chunk of a chunked body. The last chunk is AppendChunk of nothing.
void AppendHttpChunk(std::string& out, std::string_view data);

}  // namespace tandem::http
