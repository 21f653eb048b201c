// What a chat's reply consists of: content, what the model thought, calls of tools.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "router/http/generation.h"
#include "router/text/reply_parser.h"

namespace tandem::http {

// All of a reply, as it is read.
class ChatMessage final : public text::ReplyHandler {
 public:
  // REQUIRES: generation.reply_syntax.
  ChatMessage(const Generation& generation, std::string_view text);

  int num_calls() const { return static_cast<int>(calls_.size()); }
  // ,"content":...,"reasoning_content":...,"tool_calls":[...]
  void AppendMembers(std::string& out) const;

 private:
  struct Call {
    std::string name, arguments;
  };
  void OnReasoning(std::string_view text) override { reasoning_ += text; }
  void OnContent(std::string_view text) override { content_ += text; }
  void OnCall(int /*index*/, std::string_view name) override {
    calls_.push_back({std::string(name), {}});
  }
  void OnArguments(int /*index*/, std::string_view json) override {
    calls_.back().arguments += json;
  }

  const Generation& generation_;
  std::string reasoning_, content_;
  std::vector<Call> calls_;
};

// The end of a reply as OpenAI says it: one that calls a tool it was not told to call, and ends
// there, ends with "tool_calls".
std::string_view ChatFinishReason(const Generation& generation, int num_calls);

// Ids differ between the calls of all replies, so that an answer to one is never taken for
// another's.
std::string CallId(const Generation& generation, int index);

// The members of a delta: "reasoning_content":..., or "tool_calls":[{...}] that begins a call or
// goes on with its arguments.
void AppendReasoningDelta(std::string& out, std::string_view text);
void AppendCallDelta(std::string& out, const Generation& generation, int index,
                     std::string_view name);
void AppendArgumentsDelta(std::string& out, int index, std::string_view json);

}  // namespace tandem::http
