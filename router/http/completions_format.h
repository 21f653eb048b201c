// Replies of /v1/chat/completions and /v1/completions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "router/http/openai_request.h"
#include "router/http/reply_format.h"
#include "router/http/token_text.h"

namespace tandem::http {

// What is the same in all chunks of one reply.
struct ReplyMeta {
  Endpoint endpoint = Endpoint::kChat;
  std::string id;       // "chatcmpl-..." | "cmpl-..."
  int64_t created = 0;  // Unix seconds
  std::string model;
  bool include_usage = false;  // chunks without usage then say null
  bool service_tier = false;   // was asked for
};

// All text chunks of a choice are the same but for their text: made once, appended around it.
struct TextChunkFrame {
  std::string before, after;
};
TextChunkFrame MakeTextChunkFrame(const ReplyMeta& meta, int index);
void AppendTextChunk(std::string& out, const TextChunkFrame& frame, std::string_view text);

class CompletionsFormat final : public ReplyFormat {
 public:
  // Borrows the call, which knows which model serves it.
  CompletionsFormat(const ApiCall& call, int64_t created);

  void Begin(std::string& out, std::span<const Choice> choices, const Usage& usage) override;
  void AppendDelta(std::string& out, Choice& choice, const Delta& delta,
                   const Usage& usage) override;
  void EndChoice(std::string& out, Choice& choice, const Usage& usage) override;
  void End(std::string& out, Choice& last, const Usage& usage, std::string_view timing) override;
  void Fail(std::string& out, const ApiError& error) override;
  std::string Body(std::span<const Choice> choices, const Usage& usage,
                   std::string_view timing) override;

 private:
  bool chat() const { return meta_.endpoint == Endpoint::kChat; }
  void AppendStart(std::string& out) const;
  void AppendUsageSoFar(std::string& out) const;
  void AppendLogprobs(std::string& out, const Choice& choice, std::span<const TokenId> tokens,
                      std::span<const routing::TokenLogprob> logprobs, size_t& offset) const;
  class Pieces;

  void AppendChunk(std::string& out, Choice& choice, const Delta& delta) const;
  void AppendEnd(std::string& out, const Choice& choice, int num_calls) const;
  void AppendBodyChoice(std::string& out, const Choice& choice) const;
  void AppendFinish(std::string& out, Choice& choice, std::string_view timing);

  const ApiCall& call_;
  ReplyMeta meta_;
  std::string body_;                    // of a chunk, while it is made
  Usage usage_;                         // so far, where chunks say it
  std::vector<TextChunkFrame> frames_;  // by choice
};

}  // namespace tandem::http
