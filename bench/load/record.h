// What became of one request: filled while it runs, read when the run is over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"

namespace tandem::load {

// Every request ends in exactly one of them; kPending only while it runs.
enum class Outcome : uint8_t {
  kPending,
  kOk,          // a stream with at least one choice, ended by [DONE]
  kConnect,     // no connection
  kNoResponse,  // the connection ended before a whole head came
  kHttpStatus,  // a status other than 200
  kProtocol,    // bytes that are no HTTP, no event stream or no JSON
  kErrorEvent,  // an error object within the stream, or as the body of a 200
  kTruncated,   // the stream ended without [DONE]
  kNoTokens,    // [DONE] without a single choice
  kTimeout,     // not over within the time allowed
  kCancelled,   // the run was interrupted
};
inline constexpr int kNumOutcomes = 11;

// As in reports: "ok", "connect", "no_response", ...
std::string_view Name(Outcome outcome);

// Times are of the monotonic clock; 0: has not happened.
struct Record {
  int64_t conversation = 0;
  int64_t turn = 0;
  Outcome outcome = Outcome::kPending;
  int http_status = 0;      // 0: no head came
  Nanos intended = 0;       // when it was due: what latencies count from
  Nanos sent = 0;           // when it was handed to a connection, perhaps one to be opened
  Nanos first = 0;          // first chunk with choices
  Nanos first_text = 0;     // first chunk with text in it
  Nanos last = 0;           // last chunk with choices or usage
  Nanos ended = 0;          // when the outcome was known
  std::vector<Nanos> gaps;  // between successive chunks with choices
  int64_t num_text_chunks = 0;
  int64_t intended_prompt_tokens = 0;  // as the workload meant it
  int64_t prompt_tokens = -1;          // as the server's usage says; -1: it did not
  int64_t completion_tokens = -1;
  int64_t cached_tokens = -1;
  std::string text;   // of the reply, escaped; kept only where it is needed: next turn, details
  std::string error;  // what happened, for people; empty when ok

  bool ok() const { return outcome == Outcome::kOk; }
  int64_t input_tokens() const {
    return prompt_tokens >= 0 ? prompt_tokens : intended_prompt_tokens;
  }
  // Without usage: one for each chunk with text, which is too few where chunks hold several.
  int64_t output_tokens() const {
    return completion_tokens >= 0 ? completion_tokens : num_text_chunks;
  }
};

}  // namespace tandem::load
