// Which request is answered how: paths, methods, authentication, and the answers that need no
// group. Knows no socket.
// Thread: the I/O thread.
#pragma once

#include <optional>
#include <random>
#include <string>
#include <utility>
#include <variant>

#include "common/observe/metrics.h"
#include "router/http/api_keys.h"
#include "router/http/error.h"
#include "router/http/openai_request.h"
#include "router/http/request_reader.h"
#include "router/http/service.h"

namespace tandem::http {

// A response that is complete at once.
struct Answer {
  int status = 200;
  std::string content_type;  // empty: no body
  std::string body;
  std::string allow;
  int retry_after = 0;
  bool close = false;
  bool head_only = false;  // of a HEAD: content-length, no body
  std::string error_code;  // for the log
};

class Handler {
 public:
  Handler(Service& service, ApiKeys keys, const observe::Metrics& metrics);  // borrows

  // By the header alone: an error saves reading the body.
  std::optional<ApiError> Check(const HttpRequest& request) const;

  // REQUIRES: Check() had no objection. An Endpoint: parse the body and submit it.
  std::variant<Answer, Endpoint> Handle(const HttpRequest& request) const;

  static Answer ErrorAnswer(const ApiError& error);
  static Answer JsonAnswer(std::string body);  // 200

  // The client's x-request-id if it is 1 to 128 of [A-Za-z0-9._:-], else a new one.
  std::string RequestIdFor(const HttpRequest& request);

  // Of the request's API key; 0: keys are not required, so a client is whoever it says.
  uint64_t ClientOf(const HttpRequest& request) const {
    return keys_.ClientOf(request.authorization);
  }

  void SetKeys(ApiKeys keys) { keys_ = std::move(keys); }

  Service& service() { return service_; }

 private:
  Answer Get(const std::string& path) const;

  Service& service_;
  ApiKeys keys_;
  const observe::Metrics& metrics_;
  const int64_t started_at_;  // Unix seconds; "created" of the model
  std::mt19937_64 rng_;
};

}  // namespace tandem::http
