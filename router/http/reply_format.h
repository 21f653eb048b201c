// How an endpoint says what a reply is: the events of a stream, or one body. Implemented by
// completions_format.h and responses_format.h; knows no connection and no order of calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "router/http/generation.h"

namespace tandem::http {

struct Usage {
  int prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  int reasoning_tokens = -1;  // of the completion's; -1: the model does not reason apart
};

// One of the sequences that are returned, and where it stands.
struct Choice {
  int index = 0;  // as the client counts
  const Generation* generation = nullptr;
  // Of a body only: all of it, tokens and logprobs if they were asked for.
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<routing::TokenLogprob> logprobs;
  // Of a stream only.
  bool begun = false;      // a delta was appended
  size_t text_offset = 0;  // code points of its tokens so far
  // Of a chat whose text is more.
  std::optional<text::ReplyParser> parser = std::nullopt;
  int num_reasoning_tokens = 0;
};

class ReplyFormat {
 public:
  virtual ~ReplyFormat() = default;

  // A stream: Server-Sent Events are appended to `out`.
  // `usage`: so far, if chunks say it (continuous_usage).
  virtual void Begin(std::string& out, std::span<const Choice> choices,
                     const Usage& usage) = 0;  // once, first
  virtual void AppendDelta(std::string& out, Choice& choice, const Delta& delta,
                           const Usage& usage) = 0;
  virtual void EndChoice(std::string& out, Choice& choice, const Usage& usage) = 0;  // but the last
  // `timing`: JSON, or empty.
  virtual void End(std::string& out, Choice& last, const Usage& usage, std::string_view timing) = 0;
  virtual void Fail(std::string& out, const ApiError& error) = 0;  // instead of the end

  // Not a stream.
  virtual std::string Body(std::span<const Choice> choices, const Usage& usage,
                           std::string_view timing) = 0;
};

}  // namespace tandem::http
