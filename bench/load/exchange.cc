#include "bench/load/exchange.h"

#include <algorithm>

#include "bench/load/chunk_scanner.h"
#include "common/status.h"

namespace tandem::load {
namespace {

constexpr size_t kMaxPlainBody = size_t{64} << 10;  // of an error; what is beyond is not kept
constexpr size_t kMaxErrorText = 300;

std::string_view Short(std::string_view text) { return text.substr(0, kMaxErrorText); }

// What a server sent may be anything, and this goes to terminals and into JSON.
std::string Printable(std::string_view text) {
  std::string printable(Short(text));
  for (char& c : printable) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return printable;
}

}  // namespace

void Exchange::Feed(std::string_view bytes, Nanos now) {
  if (done_) return;
  response_.Feed(bytes, body_);
  if (response_.head_read()) {
    record_->http_status = response_.status();
    OnBody(now);
  }
  if (response_.failed()) {
    Settle(Outcome::kProtocol, response_.error(), now);
    done_ = true;
  } else if (response_.done()) {
    OnEndOfResponse(now);
  }
}

void Exchange::Closed(Nanos now) {
  if (done_) return;
  response_.End();
  if (response_.done()) return OnEndOfResponse(now);
  if (!response_.head_read()) {
    Settle(Outcome::kNoResponse, response_.error(), now);
  } else if (response_.status() == 200) {
    EndEvents(response_.error(), now);
  } else {
    JudgePlainBody(now);
  }
  done_ = true;
}

void Exchange::Abandon(Outcome outcome, std::string_view why, Nanos now) {
  Settle(outcome, why, now);
  done_ = true;
}

void Exchange::Settle(Outcome outcome, std::string_view why, Nanos now) {
  if (settled()) return;
  record_->outcome = outcome;
  record_->error = Printable(why);
  record_->ended = now;
}

void Exchange::OnBody(Nanos now) {
  if (response_.status() != 200 || response_.content_type() != "text/event-stream") {
    body_.resize(std::min(body_.size(), kMaxPlainBody));
    return;
  }
  const bool bounded =
      events_.Feed(body_, [&](std::string_view data) { return OnEvent(data, now); });
  if (!bounded) Settle(Outcome::kProtocol, "an event of more than 16 MiB", now);
  body_.clear();
  // After a fault nothing of the rest is wanted; after [DONE] only its end.
  if (settled() && !record_->ok() && record_->outcome != Outcome::kNoTokens) done_ = true;
}

bool Exchange::OnEvent(std::string_view data, Nanos now) {
  if (settled()) return false;
  if (data == "[DONE]") {
    if (record_->first == 0) {
      Settle(Outcome::kNoTokens, "[DONE] before any choice", now);
    } else {
      Settle(Outcome::kOk, {}, now);
    }
    return false;
  }
  Chunk chunk;
  if (!ScanChunk(data, chunk)) {
    Settle(Outcome::kProtocol, fmt::format("an event that is no JSON object: {}", Short(data)),
           now);
    return false;
  }
  if (!chunk.error.empty()) {
    Settle(Outcome::kErrorEvent, chunk.error, now);
    return false;
  }
  if (chunk.prompt_tokens >= 0) record_->prompt_tokens = chunk.prompt_tokens;
  if (chunk.completion_tokens >= 0) record_->completion_tokens = chunk.completion_tokens;
  if (chunk.cached_tokens >= 0) record_->cached_tokens = chunk.cached_tokens;
  if (chunk.has_choices) OnChunkWithChoices(chunk.text, now);
  if (chunk.has_choices || chunk.completion_tokens >= 0) record_->last = now;
  return true;
}

void Exchange::OnChunkWithChoices(std::string_view text, Nanos now) {
  if (record_->first == 0) {
    record_->first = now;
  } else {
    record_->gaps.push_back(now - previous_);
  }
  previous_ = now;
  if (text.empty()) return;
  if (record_->first_text == 0) record_->first_text = now;
  ++record_->num_text_chunks;
  if (keep_text_) record_->text += text;
}

void Exchange::OnEndOfResponse(Nanos now) {
  done_ = true;
  if (settled()) return;
  if (response_.status() != 200 || response_.content_type() != "text/event-stream") {
    return JudgePlainBody(now);
  }
  EndEvents("the response ended without [DONE]", now);
}

// A last event may lack its blank line; one that was cut is not held against its bytes.
void Exchange::EndEvents(std::string_view why, Nanos now) {
  events_.End([&](std::string_view data) {
    Chunk chunk;
    return data == "[DONE]" || ScanChunk(data, chunk) ? OnEvent(data, now) : false;
  });
  Settle(Outcome::kTruncated, why, now);
}

void Exchange::JudgePlainBody(Nanos now) {
  if (response_.status() != 200) {
    const auto why = fmt::format("status {}: {}", response_.status(), Short(body_));
    return Settle(Outcome::kHttpStatus, why, now);
  }
  Chunk chunk;
  if (ScanChunk(body_, chunk) && !chunk.error.empty()) {
    return Settle(Outcome::kErrorEvent, chunk.error, now);
  }
  Settle(Outcome::kProtocol,
         fmt::format("status 200 with '{}', not an event stream: {}", response_.content_type(),
                     Short(body_)),
         now);
}

}  // namespace tandem::load
