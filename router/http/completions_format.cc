#include "router/http/completions_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "router/http/chat_reply.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

std::string_view ObjectName(const ReplyMeta& meta, bool chunk) {
  if (meta.endpoint == Endpoint::kCompletions) return "text_completion";
  return chunk ? "chat.completion.chunk" : "chat.completion";
}

// {"id":...,"object":...,"created":...,"model":...
void AppendHead(std::string& out, const ReplyMeta& meta, bool chunk) {
  fmt::format_to(std::back_inserter(out), "{{\"id\":\"{}\",\"object\":\"{}\",\"created\":{},",
                 meta.id, ObjectName(meta, chunk), meta.created);
  out += "\"model\":";
  AppendJsonString(out, meta.model);
  if (meta.service_tier) out += ",\"service_tier\":\"default\"";
}

void AppendUsage(std::string& out, const Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 ",\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
                 "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
  if (usage.reasoning_tokens >= 0) {
    fmt::format_to(std::back_inserter(out),
                   ",\"completion_tokens_details\":{{\"reasoning_tokens\":{}}}",
                   usage.reasoning_tokens);
  }
  out += '}';
}

void AppendTiming(std::string& out, std::string_view timing) {
  if (timing.empty()) return;
  out += ",\"timing\":";
  out += timing;
}

// What stands before and behind the text of a chunk: ..."choices":[{"index":0,"delta":{"content":
void AppendBeforeText(std::string& out, const ReplyMeta& meta, int index) {
  fmt::format_to(std::back_inserter(out), ",\"choices\":[{{\"index\":{},{}", index,
                 meta.endpoint == Endpoint::kChat ? "\"delta\":{\"content\":" : "\"text\":");
}
void AppendAfterText(std::string& out, const ReplyMeta& meta) {
  out += meta.endpoint == Endpoint::kChat ? "},\"logprobs\":" : ",\"logprobs\":";
}

TokenTextOptions OptionsOf(const ApiRequest& api, const Generation& generation) {
  return {.tokenizer = generation.tokenizer,
          .ids_for_text = api.token_ids_for_text,
          .with_special = !api.skip_special_tokens};
}

}  // namespace

TextChunkFrame MakeTextChunkFrame(const ReplyMeta& meta, int index) {
  TextChunkFrame frame;
  frame.before = "data: ";
  AppendHead(frame.before, meta, true);
  AppendBeforeText(frame.before, meta, index);
  AppendAfterText(frame.after, meta);
  frame.after += "null,\"finish_reason\":null}]";
  if (meta.include_usage) frame.after += ",\"usage\":null";
  frame.after += "}\n\n";
  return frame;
}

void AppendTextChunk(std::string& out, const TextChunkFrame& frame, std::string_view text) {
  out += frame.before;
  AppendJsonString(out, text);
  out += frame.after;
}

CompletionsFormat::CompletionsFormat(const ApiCall& call, int64_t created) : call_(call) {
  meta_.endpoint = call.api.endpoint;
  meta_.id = fmt::format("{}-{}", chat() ? "chatcmpl" : "cmpl", call.request_id);
  meta_.created = created;
  meta_.include_usage = call.api.stream && call.api.include_usage;
  meta_.service_tier = !call.api.service_tier.empty();
}

void CompletionsFormat::AppendStart(std::string& out) const {
  out += "data: ";
  AppendHead(out, meta_, true);
}

// Of a chunk that has a choice.
void CompletionsFormat::AppendUsageSoFar(std::string& out) const {
  if (call_.api.continuous_usage) {
    AppendUsage(out, usage_);
  } else if (meta_.include_usage) {
    out += ",\"usage\":null";
  }
}

void CompletionsFormat::Begin(std::string& out, std::span<const Choice> choices,
                              const Usage& usage) {
  meta_.model = call_.served_model();
  usage_ = usage;
  usage_.completion_tokens = 0;  // the first ones are in the chunk behind these
  usage_.reasoning_tokens = std::min(usage.reasoning_tokens, 0);
  for (const Choice& choice : choices) {
    frames_.push_back(MakeTextChunkFrame(meta_, choice.index));
    if (!chat()) continue;
    AppendStart(out);
    if (call_.api.return_token_ids && choice.index == 0) {
      out += ",\"prompt_token_ids\":";
      AppendIds(out, *choice.generation->prompt);
    }
    fmt::format_to(std::back_inserter(out),
                   ",\"choices\":[{{\"index\":{},\"delta\":{{\"role\":\"assistant\",\"content\":"
                   "\"\"}},\"logprobs\":null,\"finish_reason\":null}}]",
                   choice.index);
    AppendUsageSoFar(out);
    out += "}\n\n";
  }
}

void CompletionsFormat::AppendLogprobs(std::string& out, const Choice& choice,
                                       std::span<const TokenId> tokens,
                                       std::span<const routing::TokenLogprob> logprobs,
                                       size_t& offset) const {
  const TokenTextOptions options = OptionsOf(call_.api, *choice.generation);
  if (!call_.api.logprobs || logprobs.empty()) {
    out += "null";
  } else if (chat()) {
    AppendChatLogprobs(out, options, tokens, logprobs);
  } else {
    AppendCompletionLogprobs(out, options, tokens, logprobs, offset);
  }
}

// A chunk of `body_`, with what was asked for of the delta's tokens.
void CompletionsFormat::AppendChunk(std::string& out, Choice& choice, const Delta& delta) const {
  const ApiRequest& api = call_.api;
  const bool first = !choice.begun;
  choice.begun = true;
  AppendStart(out);
  fmt::format_to(std::back_inserter(out), ",\"choices\":[{{\"index\":{},", choice.index);
  out += body_;
  out += ",\"logprobs\":";
  AppendLogprobs(out, choice, delta.tokens, delta.logprobs, choice.text_offset);
  out += ",\"finish_reason\":null";
  if (api.return_token_ids) {
    out += ",\"token_ids\":";
    AppendIds(out, delta.tokens);
    if (first && !chat()) {
      out += ",\"prompt_token_ids\":";
      AppendIds(out, *choice.generation->prompt);
    }
  }
  out += "}]";
  AppendUsageSoFar(out);
  out += "}\n\n";
}

// The pieces of a chat's reply as chunks. The first has the tokens that the pieces came of.
class CompletionsFormat::Pieces final : public text::ReplyHandler {
 public:
  Pieces(CompletionsFormat& format, std::string& out, Choice& choice, const Delta& delta)
      : format_(format), out_(out), choice_(choice), tokens_(delta) {}

  // Those of a delta without a piece have a chunk too.
  void End() {
    if (!tokens_.tokens.empty() && format_.call_.api.wants_tokens()) {
      Append([](std::string&) {});
    }
  }

 private:
  void OnContent(std::string_view text) override {
    if (!format_.call_.api.wants_tokens()) {
      return AppendTextChunk(out_, format_.frames_[static_cast<size_t>(choice_.index)], text);
    }
    Append([&](std::string& body) {
      body += "\"content\":";
      AppendJsonString(body, text);
    });
  }
  void OnReasoning(std::string_view text) override {
    if (!format_.call_.api.include_reasoning) return;
    Append([&](std::string& body) { AppendReasoningDelta(body, text); });
  }
  void OnCall(int index, std::string_view name) override {
    Append([&](std::string& body) { AppendCallDelta(body, *choice_.generation, index, name); });
  }
  void OnArguments(int index, std::string_view json) override {
    Append([&](std::string& body) { AppendArgumentsDelta(body, index, json); });
  }

  template <class F>
  void Append(F&& append_members) {
    std::string& body = format_.body_;
    body = "\"delta\":{";
    append_members(body);
    body += '}';
    format_.AppendChunk(out_, choice_, tokens_);
    tokens_ = {};
  }

  CompletionsFormat& format_;
  std::string& out_;
  Choice& choice_;
  Delta tokens_;
};

void CompletionsFormat::AppendDelta(std::string& out, Choice& choice, const Delta& delta,
                                    const Usage& usage) {
  usage_ = usage;
  if (choice.generation->reply_syntax) {
    if (!choice.parser) choice.parser.emplace(*choice.generation->reply_syntax);
    Pieces pieces(*this, out, choice, delta);
    choice.parser->Push(delta.text, pieces);
    return pieces.End();
  }
  if (!call_.api.wants_tokens()) {
    if (!delta.text.empty()) {
      AppendTextChunk(out, frames_[static_cast<size_t>(choice.index)], delta.text);
    }
    return;
  }
  body_ = chat() ? "\"delta\":{\"content\":" : "\"text\":";
  AppendJsonString(body_, delta.text);
  if (chat()) body_ += '}';
  AppendChunk(out, choice, delta);
}

// "finish_reason":...,"stop_reason":...
void CompletionsFormat::AppendEnd(std::string& out, const Choice& choice, int num_calls) const {
  const Generation& g = *choice.generation;
  out += "\"finish_reason\":";
  AppendJsonString(out, ChatFinishReason(g, num_calls));
  if (!g.stop_string.empty()) {
    out += ",\"stop_reason\":";
    AppendJsonString(out, g.stop_string);
  } else if (g.stop_token != text::kNoToken) {
    fmt::format_to(std::back_inserter(out), ",\"stop_reason\":{}", g.stop_token);
  }
}

// What was held back, and the chunk that says how a choice ended.
void CompletionsFormat::AppendFinish(std::string& out, Choice& choice, std::string_view timing) {
  if (choice.parser) {
    Pieces pieces(*this, out, choice, {});
    choice.parser->Finish(pieces);
  }
  AppendStart(out);
  fmt::format_to(std::back_inserter(out), ",\"choices\":[{{\"index\":{},{},\"logprobs\":null,",
                 choice.index, chat() ? "\"delta\":{}" : "\"text\":\"\"");
  AppendEnd(out, choice, choice.parser ? choice.parser->num_calls() : 0);
  out += "}]";
  AppendUsageSoFar(out);
  AppendTiming(out, timing);
  out += "}\n\n";
}

void CompletionsFormat::EndChoice(std::string& out, Choice& choice, const Usage& usage) {
  usage_ = usage;
  AppendFinish(out, choice, {});
}

void CompletionsFormat::End(std::string& out, Choice& last, const Usage& usage,
                            std::string_view timing) {
  usage_ = usage;
  AppendFinish(out, last, meta_.include_usage ? std::string_view() : timing);
  if (meta_.include_usage) {
    AppendStart(out);
    out += ",\"choices\":[]";
    AppendUsage(out, usage);
    AppendTiming(out, timing);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

void CompletionsFormat::Fail(std::string& out, const ApiError& error) {
  out += "data: ";
  out += ErrorJson(error);
  out += "\n\n";
}

void CompletionsFormat::AppendBodyChoice(std::string& out, const Choice& choice) const {
  fmt::format_to(std::back_inserter(out), "{{\"index\":{},", choice.index);
  int num_calls = 0;
  if (chat()) {
    out += "\"message\":{\"role\":\"assistant\"";
    if (choice.generation->reply_syntax) {
      const ChatMessage message(*choice.generation, choice.text);
      num_calls = message.num_calls();
      message.AppendMembers(out);
    } else {
      out += ",\"content\":";
      AppendJsonString(out, choice.text);
    }
    out += ",\"refusal\":null}";
  } else {
    out += "\"text\":";
    AppendJsonString(out, choice.text);
  }
  out += ",\"logprobs\":";
  size_t offset = 0;
  AppendLogprobs(out, choice, choice.tokens, choice.logprobs, offset);
  out += ',';
  AppendEnd(out, choice, num_calls);
  if (call_.api.return_token_ids) {
    out += ",\"token_ids\":";
    AppendIds(out, choice.tokens);
    if (!chat()) {
      out += ",\"prompt_token_ids\":";
      AppendIds(out, *choice.generation->prompt);
    }
  }
  out += '}';
}

std::string CompletionsFormat::Body(std::span<const Choice> choices, const Usage& usage,
                                    std::string_view timing) {
  meta_.model = call_.served_model();
  std::string out;
  size_t text_bytes = 0;
  for (const Choice& choice : choices) text_bytes += choice.text.size();
  out.reserve(text_bytes + 512);
  AppendHead(out, meta_, false);
  out += ",\"choices\":[";
  for (const Choice& choice : choices) {
    if (choice.index > 0) out += ',';
    AppendBodyChoice(out, choice);
  }
  out += ']';
  if (call_.api.return_token_ids && chat()) {
    out += ",\"prompt_token_ids\":";
    AppendIds(out, *choices.front().generation->prompt);
  }
  AppendUsage(out, usage);
  AppendTiming(out, timing);
  out += '}';
  return out;
}

}  // namespace tandem::http
