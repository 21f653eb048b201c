// One call of the API for text, from its parse to its end, and the sequences that it is made of:
// shared by the connection, which reads it and writes its reply, and the service, which routes it.
// Plain state.
//
// Thread: the I/O thread. While a prompt is being prepared a text thread reads `api`, which nobody
// changes after the parse; and all of it while the body is made of a call that has ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/grammar_spec.h"
#include "common/ids.h"
#include "router/http/error.h"
#include "router/http/latency_account.h"
#include "router/http/model_routes.h"
#include "router/http/openai_request.h"
#include "router/routing/messages.h"
#include "router/text/reply_parser.h"
#include "router/text/stream_decoder.h"

namespace tandem::http {

struct Generation;

// What a sequence has given since the last time. Tokens and logprobs are there as they are sampled,
// text once it is safe to send. Valid within the call.
struct Delta {
  std::string_view text;
  std::span<const TokenId> tokens = {};
  std::span<const routing::TokenLogprob> logprobs = {};  // empty, or parallel
};

// Hears of a call. OnFinished comes once for each sequence, or OnFailed once for all, last; of one
// that is abandoned nothing comes.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  virtual void OnDelta(const Generation& generation, const Delta& delta) = 0;  // may have no text
  virtual void OnFinished(const Generation& generation) = 0;
  virtual void OnFailed(const ApiError& error) = 0;
};

struct ApiCall;

// One sequence.
struct Generation {
  ApiCall* call = nullptr;  // which has it in `generations`
  int prompt_index = 0;     // of the call's prompts
  uint32_t index = 0;       // of the prompt's sequences: part of the sampler's key

  // Set by the service.
  RequestId id = 0;    // 0: not submitted yet
  bool begun = false;  // on its way to a group
  bool ended = false;
  size_t choice = 0;                // of the route: being tried
  size_t pool = 0;                  // index of that model; `prompt` is for it
  std::string served_model;         // where it was sent; empty: nowhere yet
  std::optional<ApiError> refusal;  // of the choice before
  std::optional<ApiError> lost;     // of the attempt before
  Nanos submitted = 0;              // this attempt, to its pool; 0: not yet
  uint32_t attempt = 0;
  GroupId group;                                       // of this attempt; invalid: not sent
  std::string group_name;                              // for the log
  std::shared_ptr<const std::vector<TokenId>> prompt;  // shared by its sequences; null: not yet
  int32_t max_tokens = 0;
  float temperature = 1, top_p = 1;            // what it samples with
  const text::Tokenizer* tokenizer = nullptr;  // of the pool's model
  std::optional<text::StreamDecoder> decoder;
  std::optional<text::ReplyParser::Options> reply_syntax;  // its text is more than content
  grammar::GrammarSpec grammar;                            // of its text
  std::vector<float> embedding;  // instead of output, if that was asked for
  int32_t num_output_tokens = 0;
  int32_t num_cached_tokens = 0;
  double cumulative_logprob = 0;  // if logprobs were asked of the group
  Nanos predicted_ttft = 0;
  const char* route_reason = "";
  Nanos last_token = 0;
  LatencyAccount account;

  // Once it has ended well.
  const char* finish_reason = "";       // "stop" | "length"
  std::string stop_string;              // that ended it; empty: none did
  TokenId stop_token = text::kNoToken;  // of stop_token_ids

  size_t num_prompt_tokens() const { return prompt == nullptr ? 0 : prompt->size(); }
};

struct ApiCall {
  // Set by the connection.
  ApiRequest api;
  std::string request_id;     // as the client knows it
  ReplySink* sink = nullptr;  // not owned; null: nobody listens any more
  bool timing = false;        // the client asked for the latency account
  uint64_t client = 0;   // who shares fairly with others: of its API key; 0: nobody in particular
  uint64_t session = 0;  // of the session header; 0: none
  int32_t priority = 0;  // class: higher goes first
  Nanos ttft_deadline = 0;  // asked for, from its first byte; 0: the router's default
  LatencyAccount before;    // of what came before its sequences were made

  // Set by the service.
  std::shared_ptr<ModelRoute> route;  // the models it may go to
  Nanos ttft_until = 0;               // when the first token is due; 0: any time
  uint64_t seed = 0;
  std::vector<Generation> generations;  // by prompt, then index; not resized once it is submitted
  size_t num_entered = 0;               // leading ones that the service has taken up
  size_t text_bytes = 0;                // api.num_text_bytes()
  // It failed or was abandoned: what waits for a text thread need not be done. Any thread.
  std::atomic<bool> unwanted = false;

  // Empty: none yet. A prompt that is still being read does not hide what serves another one.
  std::string_view served_model() const;
  bool ended() const;
};

// Makes the sequences that `call.api` asks for.
void MakeGenerations(ApiCall& call);

}  // namespace tandem::http
