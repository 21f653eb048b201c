// Where one request's time went, as durations that add up to what its client saw. Measured where
// they pass: on this router's clock, or by the worker as durations of its own; clocks of two
// machines are never compared. What is not covered is shown as the residual.
#pragma once

#include <string>

#include "common/ids.h"
#include "router/routing/messages.h"

namespace tandem::http {

struct LatencyAccount {
  // Points in time, router's clock; 0: not reached.
  Nanos received = 0;       // first byte of the request
  Nanos sent = 0;           // this attempt, to its group
  Nanos first_token = 0;    // decoded
  Nanos first_flushed = 0;  // its bytes left for the client; no stream: same as first_token
  Nanos ended = 0;

  // Up to the first token, in the order in which they pass.
  Nanos read = 0;       // first byte to last byte of the request
  Nanos parse = 0;      // JSON and checks
  Nanos text_wait = 0;  // for a text thread, long prompts only
  Nanos render = 0;     // chat template
  Nanos tokenize = 0;
  Nanos admission = 0;            // in the router's queue
  Nanos route = 0;                // hash, choose, hand to the link
  Nanos lost = 0;                 // attempts at groups that were lost
  Nanos wire = 0;                 // both ways: our elapsed time less what the worker accounts for
  routing::WorkerTimings worker;  // as of the first token
  Nanos deliver = 0;              // left our socket to handled here
  Nanos detokenize = 0;           // and building the chunk
  Nanos flush = 0;

  routing::WorkerTimings total_worker;  // as of the end
  int32_t num_attempts = 0;

  Nanos Ttft() const { return first_flushed - received; }
  Nanos Sum() const;
  Nanos Residual() const { return Ttft() - Sum(); }

  // {"ttft_us":...,"parts":{...},"residual_us":...,"total":{...}}: `timing` of a reply.
  std::string Json() const;
};

}  // namespace tandem::http
