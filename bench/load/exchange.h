// One request as seen in the bytes that come back: HTTP, events, chunks, until it has its outcome.
// Pure: bytes and `now` come in, the record is filled.
//
//   waiting --Feed--> streaming --[DONE]--> settled --end of the response--> done
//
// Any fault leads to done at once. `settled` has its outcome already and only waits for the end of
// the response, so that the connection can take another request.
#pragma once

#include <string>
#include <string_view>

#include "bench/load/record.h"
#include "bench/load/response_parser.h"
#include "bench/load/sse_parser.h"

namespace tandem::load {

class Exchange {
 public:
  // `record` must outlive this. keep_text: the reply's text is wanted.
  Exchange(Record* record, bool keep_text) : record_(record), keep_text_(keep_text) {}

  void Feed(std::string_view bytes, Nanos now);
  void Closed(Nanos now);  // the connection ended, however it did
  // Ends it from outside: no connection, out of time, interrupted. No effect on an outcome known.
  void Abandon(Outcome outcome, std::string_view why, Nanos now);

  bool settled() const { return record_->outcome != Outcome::kPending; }
  bool done() const { return done_; }
  bool answered() const { return response_.started(); }  // a byte of a response has come
  bool reusable() const { return response_.done() && response_.keep_alive(); }

 private:
  void OnBody(Nanos now);
  bool OnEvent(std::string_view data, Nanos now);
  void OnChunkWithChoices(std::string_view text, Nanos now);
  void OnEndOfResponse(Nanos now);
  void EndEvents(std::string_view why, Nanos now);
  void JudgePlainBody(Nanos now);
  void Settle(Outcome outcome, std::string_view why, Nanos now);

  Record* record_;
  bool keep_text_;
  bool done_ = false;
  Nanos previous_ = 0;  // chunk with choices
  ResponseParser response_;
  SseParser events_;
  std::string body_;  // not yet taken; of a response that is no stream: all, to a bound
};

}  // namespace tandem::load
