#include "router/http/reply.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "common/clock.h"
#include "router/http/completions_format.h"
#include "router/http/embeddings_format.h"
#include "router/http/openai_response.h"
#include "router/http/responses_format.h"

namespace tandem::http {
namespace {

constexpr size_t kLargeBody = 32'768;  // numbers or tokens: about a millisecond

// Null: embeddings, which have no choices and no stream.
std::unique_ptr<ReplyFormat> FormatOf(const ApiCall& call) {
  if (call.api.embeds()) return nullptr;
  const int64_t created = std::time(nullptr);
  if (call.api.endpoint == Endpoint::kResponses) {
    return std::make_unique<ResponsesFormat>(call, created);
  }
  return std::make_unique<CompletionsFormat>(call, created);
}

struct Unheard final : text::ReplyHandler {
  void OnReasoning(std::string_view) override {}
  void OnContent(std::string_view) override {}
  void OnCall(int, std::string_view) override {}
  void OnArguments(int, std::string_view) override {}
};

}  // namespace

Reply::Reply(std::shared_ptr<ApiCall> call, Options options, std::function<void()> wake)
    : call_(std::move(call)),
      format_(FormatOf(*call_)),
      options_(options),
      wake_(std::move(wake)),
      choices_(call_->generations.size()) {
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].index = static_cast<int>(i);
    choices_[i].generation = &call_->generations[i];
  }
}

Choice& Reply::ChoiceOf(const Generation& generation) {
  return choices_[static_cast<size_t>(&generation - call_->generations.data())];
}

// The tokens before the one that ends it: what was sampled while nothing else had begun.
void Reply::CountReasoning(Choice& choice) {
  if (!choice.parser || !choice.parser->is_reasoning()) return;
  choice.num_reasoning_tokens = choice.generation->num_output_tokens;
}

LatencyAccount& Reply::account() {
  return call_->generations[static_cast<size_t>(first_ - call_->generations.data())].account;
}

std::string_view Reply::finish_reason() const {
  return error_ || !ended_ ? "" : call_->generations.front().finish_reason;
}

void Reply::Start() {
  started_ = true;
  options_.close = options_.close || options_.http_1_0;
  head_ = HeadText({.content_type = "text/event-stream",
                    .request_id = call_->request_id,
                    .model = call_->served_model(),
                    .allow = {},
                    .chunked = !options_.http_1_0,
                    .close = options_.close,
                    .stream = true});
  format_->Begin(pending_, choices_, UsageSoFar());
}

void Reply::OnDelta(const Generation& generation, const Delta& delta) {
  if (first_ == nullptr) first_ = &generation;
  const ApiRequest& api = call_->api;
  Choice& choice = ChoiceOf(generation);
  if (api.stream) {
    if (!started_) Start();
    format_->AppendDelta(pending_, choice, delta, UsageSoFar());
    CountReasoning(choice);
    return wake_();
  }
  choice.text += delta.text;
  const auto& syntax = generation.reply_syntax;
  if (syntax && syntax->reasoning != nullptr) {  // the body is made of all its text, at the end
    Unheard unheard;
    if (!choice.parser) choice.parser.emplace(*syntax);
    choice.parser->Push(delta.text, unheard);
    CountReasoning(choice);
  }
  if (!api.wants_tokens()) return;
  choice.tokens.insert(choice.tokens.end(), delta.tokens.begin(), delta.tokens.end());
  choice.logprobs.insert(choice.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
}

void Reply::OnFinished(const Generation& generation) {
  if (first_ == nullptr) first_ = &generation;
  last_ = &generation;
  CountReasoning(ChoiceOf(generation));
  if (call_->api.stream && !started_) Start();
  ended_ = static_cast<size_t>(++num_finished_) == choices_.size();
  if (call_->api.stream && !ended_) {
    format_->EndChoice(pending_, ChoiceOf(generation), UsageSoFar());
  }
  wake_();
}

void Reply::OnFailed(const ApiError& error) {
  error_ = error;
  error_code_ = error.code;
  if (!started_) status_ = error.status;
  ended_ = true;
  wake_();
}

// A prompt counts once, however many sequences it has.
Usage Reply::usage() const {
  Usage usage;
  for (const Generation& g : call_->generations) {
    usage.completion_tokens += g.num_output_tokens;
    if (g.reply_syntax && g.reply_syntax->reasoning != nullptr) {
      const int before = std::max(usage.reasoning_tokens, 0);
      usage.reasoning_tokens =
          before +
          choices_[static_cast<size_t>(&g - call_->generations.data())].num_reasoning_tokens;
    }
    if (g.index > 0) continue;
    usage.prompt_tokens += static_cast<int>(g.num_prompt_tokens());
    usage.cached_tokens += g.num_cached_tokens;
  }
  return usage;
}

Usage Reply::UsageSoFar() const { return call_->api.continuous_usage ? usage() : Usage{}; }

std::string Reply::Timing() { return call_->timing ? account().Json() : std::string(); }

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
  const bool wait = started_ && call_->timing && !flushed_ && !out.empty();
  if (ended_ && !taken_end_ && !wait) TakeEnd(out);
}

std::string Reply::StreamEnd() {
  std::string events;
  if (error_) {
    format_->Fail(events, *error_);
    options_.close = true;
  } else {
    format_->End(events, ChoiceOf(*last_), usage(), Timing());
  }
  return events;
}

// Of each prompt's sequences the n most likely, best first; all of them, in their order, if that is
// how many there are.
std::vector<Choice> Reply::Best() {
  const ApiRequest& api = call_->api;
  if (api.best_of == api.n) return std::move(choices_);
  const auto more_likely = [](const Choice& a, const Choice& b) {
    return a.generation->cumulative_logprob > b.generation->cumulative_logprob;
  };
  std::vector<Choice> best;
  for (auto from = choices_.begin(); from != choices_.end(); from += api.best_of) {
    std::stable_sort(from, from + api.best_of, more_likely);
    for (auto choice = from; choice != from + api.n; ++choice) {
      choice->index = static_cast<int>(best.size());
      best.push_back(std::move(*choice));
    }
  }
  return best;
}

std::function<std::string()> Reply::BodyMaker() {
  LatencyAccount& timed = account();
  if (timed.first_flushed == 0) timed.first_flushed = timed.first_token;
  const Usage all = usage();  // of those that are left out too
  if (call_->api.embeds()) {
    return [call = call_, now = std::time(nullptr), all, timing = Timing()] {
      return EmbeddingsBody(*call, now, all, timing);
    };
  }
  return [call = call_, format = format_, best = std::make_shared<std::vector<Choice>>(Best()), all,
          timing = Timing()] { return format->Body(*best, all, timing); };
}

// By what it has of numbers and tokens, which take some ten nanoseconds each to write.
bool Reply::IsLarge() const {
  size_t size = 0;
  for (const Choice& choice : choices_) {
    size += choice.generation->embedding.size() + choice.text.size() / 16 + choice.tokens.size();
    for (const routing::TokenLogprob& token : choice.logprobs) size += 4 * token.top.size();
  }
  return size > kLargeBody;
}

void Reply::TakeBody(std::string& out) {
  if (making_) return;
  if (!made_ && options_.make_aside && IsLarge()) {
    making_ = true;
    options_.make_aside(BodyMaker(), [this, alive = std::weak_ptr(alive_)](std::string body) {
      if (alive.expired()) return;
      making_ = false;
      made_ = std::move(body);
      wake_();
    });
    return;
  }
  if (head_taken_) {
    out = *std::move(made_);  // it is not copied behind its head
    taken_end_ = true;
    return;
  }
  const bool aside = made_.has_value();
  if (!aside) made_ = BodyMaker()();
  out += HeadText({.content_type = "application/json",
                   .request_id = call_->request_id,
                   .model = call_->served_model(),
                   .allow = {},
                   .content_length = static_cast<int64_t>(made_->size()),
                   .close = options_.close});
  head_taken_ = aside;
  if (aside) return;
  out += *made_;
  taken_end_ = true;
}

void Reply::TakeEnd(std::string& out) {
  if (!started_ && !error_) return TakeBody(out);
  taken_end_ = true;
  if (started_) {
    const std::string events = StreamEnd();
    if (options_.http_1_0) {
      out += events;
    } else {
      AppendHttpChunk(out, events);
      AppendHttpChunk(out, {});
    }
    return;
  }
  options_.close = options_.close || error_->close;
  const std::string body = ErrorJson(*error_);
  out += HeadText({.status = error_->status,
                   .content_type = "application/json",
                   .request_id = call_->request_id,
                   .allow = {},
                   .retry_after = error_->retry_after,
                   .content_length = static_cast<int64_t>(body.size()),
                   .close = options_.close});
  out += body;
}

void Reply::Flushed(Nanos now) {
  if (flushed_ || !started_) return;
  flushed_ = true;
  LatencyAccount& timed = account();
  timed.first_flushed = now;
  timed.flush = now - timed.first_token;
}

}  // namespace tandem::http
