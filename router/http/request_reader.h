// Reads HTTP/1.1 requests from the bytes of one connection. Boost.Beast's parser behind it; no
// socket, no clock.
//
//   kNeedMore ──▶ kHeader (once: header complete, body not looked at) ──▶ kNeedMore ──▶ kDone
//        └──────────────┴──────────▶ kFailed (error() says why; the connection is of no use)
//
// Thread: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "router/http/error.h"

namespace tandem::http {

// What of a request matters here.
struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // decoded; without scheme, authority and query; a malformed one: as it came
  std::string content_type, content_encoding, authorization, request_id, timing;
  std::string ttft_deadline_ms, priority, session;
  bool http_1_0 = false;
  bool keep_alive = true;
  bool expects_continue = false;
  bool bad_expectation = false;           // an Expect that is not 100-continue
  std::optional<int64_t> content_length;  // nothing: chunked, or no body
  bool chunked = false;
  std::string body;
  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

class RequestReader {
 public:
  // `session_header`: the header that `session` is read from, as it is when a request comes; empty:
  // none. Not owned; null: none.
  RequestReader(int max_header_bytes, int64_t max_body_bytes,
                const std::string* session_header = nullptr);
  ~RequestReader();

  enum class State : uint8_t { kNeedMore, kHeader, kDone, kFailed };

  // Takes the bytes that come next; `consumed` says how many of them were used. What is left
  // belongs in front of the next call's bytes. After kDone or kFailed: call Reset() first.
  State Put(std::string_view bytes, size_t& consumed);

  const HttpRequest& request() const { return request_; }  // body: after kDone
  HttpRequest Take() { return std::move(request_); }       // after kDone
  const ApiError& error() const { return error_; }

  void Reset();  // for the next request of this connection

 private:
  struct Parser;
  void ReadHeader();
  bool Refuse(int status, std::string_view why);
  bool CheckFraming();  // false: error() says why
  State NeedMore(size_t unconsumed);

  const int max_header_bytes_;
  const int64_t max_body_bytes_;
  const std::string* const session_header_;
  std::unique_ptr<Parser> parser_;
  bool header_seen_ = false;
  HttpRequest request_;
  ApiError error_;
};

}  // namespace tandem::http
