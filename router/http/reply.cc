#include "router/http/reply.h"

#include <fmt/format.h>

#include <ctime>
#include <utility>

#include "common/clock.h"

namespace tandem::http {

Reply::Reply(std::shared_ptr<Generation> generation, Options options, std::function<void()> wake)
    : generation_(std::move(generation)), options_(options), wake_(std::move(wake)) {
  const ApiRequest& api = generation_->api;
  meta_.endpoint = api.endpoint;
  meta_.id = fmt::format("{}-{}", api.endpoint == Endpoint::kChat ? "chatcmpl" : "cmpl",
                         generation_->request_id);
  meta_.created = std::time(nullptr);
  meta_.include_usage = api.stream && api.include_usage;
}

void Reply::Start() {
  started_ = true;
  options_.close = options_.close || options_.http_1_0;
  meta_.model = generation_->served_model;
  head_ = HeadText({.content_type = "text/event-stream",
                    .request_id = generation_->request_id,
                    .model = meta_.model,
                    .allow = {},
                    .chunked = !options_.http_1_0,
                    .close = options_.close,
                    .stream = true});
  frame_ = MakeTextChunkFrame(meta_);
  AppendRoleChunk(pending_, meta_);
}

void Reply::OnText(std::string_view text) {
  if (generation_->api.stream) {
    if (!started_) Start();
    if (!text.empty()) AppendTextChunk(pending_, frame_, text);
    wake_();
  } else {
    pending_ += text;
  }
}

void Reply::OnFinished(std::string_view finish_reason) {
  if (generation_->api.stream && !started_) Start();
  finish_reason_ = finish_reason;
  ended_ = true;
  wake_();
}

void Reply::OnFailed(const ApiError& error) {
  error_ = error;
  error_code_ = error.code;
  if (!started_) status_ = error.status;
  ended_ = true;
  wake_();
}

Usage Reply::usage() const {
  return {.prompt_tokens = static_cast<int>(generation_->prompt.size()),
          .completion_tokens = generation_->num_output_tokens,
          .cached_tokens = generation_->num_cached_tokens};
}

void Reply::Take(std::string& out) {
  out = head_;
  head_.clear();
  if (started_ && !pending_.empty()) {
    if (options_.http_1_0) {
      out += pending_;
    } else {
      AppendHttpChunk(out, pending_);
    }
    pending_.clear();
  }
  // With the account asked for, the end waits until the first token has left: its flush is part
  // of it.
  const bool wait = started_ && generation_->timing && !flushed_ && !out.empty();
  if (ended_ && !taken_end_ && !wait) TakeEnd(out);
}

void Reply::TakeEnd(std::string& out) {
  taken_end_ = true;
  const LatencyAccount& account = generation_->account;
  if (started_) {
    std::string events;
    if (error_) {
      AppendErrorEvent(events, *error_);
      options_.close = true;
    } else {
      AppendFinish(events, meta_, finish_reason_, usage(),
                   generation_->timing ? account.Json() : std::string());
    }
    if (options_.http_1_0) {
      out += events;
    } else {
      AppendHttpChunk(out, events);
      AppendHttpChunk(out, {});
    }
    return;
  }
  Head head{.content_type = "application/json", .request_id = generation_->request_id, .allow = {}};
  std::string body;
  if (error_) {
    options_.close = options_.close || error_->close;
    head.status = error_->status;
    head.retry_after = error_->retry_after;
    body = ErrorJson(*error_);
  } else {
    if (generation_->account.first_flushed == 0) {
      generation_->account.first_flushed = account.first_token;
    }
    meta_.model = generation_->served_model;
    head.model = meta_.model;
    body = ReplyBody(meta_, pending_, finish_reason_, usage(),
                     generation_->timing ? account.Json() : std::string());
  }
  head.close = options_.close;
  head.content_length = static_cast<int64_t>(body.size());
  out += HeadText(head);
  out += body;
}

void Reply::Flushed(Nanos now) {
  if (flushed_ || !started_) return;
  flushed_ = true;
  LatencyAccount& account = generation_->account;
  account.first_flushed = now;
  account.flush = now - account.first_token;
}

}  // namespace tandem::http
