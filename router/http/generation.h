// One request for text, from its parse to its end: shared by the connection, which reads it and
// writes its reply, and the service, which routes it. Plain state.
//
// Thread: the I/O thread. While its prompt is being prepared a text thread reads `api`, which
// nobody changes after the parse.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "router/http/error.h"
#include "router/http/latency_account.h"
#include "router/http/model_routes.h"
#include "router/http/openai_request.h"
#include "router/routing/messages.h"
#include "router/text/stream_decoder.h"

namespace tandem::http {

// Hears of a generation. Exactly one of OnFinished and OnFailed comes, last, unless the generation
// is abandoned: then nothing comes.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  virtual void OnText(std::string_view text) = 0;  // more of the reply; may be empty once
  virtual void OnFinished(std::string_view finish_reason) = 0;  // "stop" | "length"
  virtual void OnFailed(const ApiError& error) = 0;
};

struct Generation {
  // Set by the connection.
  ApiRequest api;
  std::string request_id;     // as the client knows it
  ReplySink* sink = nullptr;  // not owned; null: nobody listens any more
  bool timing = false;        // the client asked for the latency account
  uint64_t client = 0;   // who shares fairly with others: of its API key; 0: nobody in particular
  uint64_t session = 0;  // of the session header; 0: none
  int32_t priority = 0;  // class: higher goes first
  Nanos ttft_deadline = 0;  // asked for, from its first byte; 0: the router's default

  // Set by the service.
  RequestId id = 0;  // 0: not submitted yet
  bool ended = false;
  std::shared_ptr<ModelRoute> route;  // the models it may go to
  size_t choice = 0;                  // of the route: being tried
  size_t pool = 0;                    // index of that model; `prompt` is for it
  std::string served_model;           // where it was sent; empty: nowhere yet
  std::optional<ApiError> refusal;    // of the choice before
  std::optional<ApiError> lost;       // of the attempt before
  Nanos ttft_until = 0;               // when the first token is due; 0: any time
  Nanos submitted = 0;                // this attempt, to its pool; 0: not yet
  uint32_t attempt = 0;
  GroupId group;           // of this attempt; invalid: not sent
  std::string group_name;  // for the log
  std::vector<TokenId> prompt;
  uint64_t seed = 0;
  int32_t max_tokens = 0;
  std::optional<text::StreamDecoder> decoder;
  int32_t num_output_tokens = 0;
  int32_t num_cached_tokens = 0;
  Nanos predicted_ttft = 0;
  const char* route_reason = "";
  Nanos last_token = 0;
  LatencyAccount account;
};

}  // namespace tandem::http
