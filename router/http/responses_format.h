// Replies of /v1/responses, of which nothing is kept: the response object, and a stream's events
// response.created ... response.completed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "router/http/reply_format.h"
#include "router/http/response_items.h"

namespace tandem::http {

class ResponsesFormat final : public ReplyFormat {
 public:
  // Borrows the call, which has one sequence.
  ResponsesFormat(const ApiCall& call, int64_t created);

  void Begin(std::string& out, std::span<const Choice> choices, const Usage& usage) override;
  void AppendDelta(std::string& out, Choice& choice, const Delta& delta,
                   const Usage& usage) override;
  // There is only the last one.
  void EndChoice(std::string& out, Choice& choice, const Usage& usage) override;
  void End(std::string& out, Choice& last, const Usage& usage, std::string_view timing) override;
  void Fail(std::string& out, const ApiError& error) override;
  std::string Body(std::span<const Choice> choices, const Usage& usage,
                   std::string_view timing) override;

 private:
  // `usage` null: in progress.
  void AppendResponse(std::string& out, std::string_view status, const ResponseItems& items,
                      const Usage* usage, std::string_view timing) const;
  void AppendSettings(std::string& out) const;

  const ApiCall& call_;
  const int64_t created_;
  ResponseItems items_;  // of a stream, so far
};

}  // namespace tandem::http
