#include "router/http/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/clock.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

// A text job that runs this long will not end: the router is not well.
constexpr Nanos kStuckTextJob = 30 * kSecond;

}  // namespace

Service::Service(ServiceOptions options, const text::Tokenizer& tokenizer,
                 const text::ChatTemplate* chat_template, observe::Metrics& metrics, Post post)
    : options_(std::move(options)),
      tokenizer_(tokenizer),
      chat_template_(chat_template),
      probe_(metrics),
      post_(std::move(post)),
      rng_(std::random_device{}()),
      text_pool_(options_.text_threads) {
  for (const std::string& name : options_.groups) {
    down_why_[name] = "has not connected yet";
    probe_.GroupUp(name, false);
  }
}

Service::~Service() = default;

void Service::Submit(GenerationPtr generation) {
  Generation& g = *generation;
  g.id = ++last_id_;
  active_.emplace(g.id, generation);
  probe_.RequestStarted();
  if (draining_) {
    ApiError error = ServerError(503, "draining", "the server is shutting down; try another one");
    error.close = true;
    return Fail(generation, error);
  }
  if (g.api.model != options_.model) {
    ApiError error =
        RequestError(404, "model_not_found",
                     fmt::format("The model '{}' does not exist; this server has '{}'.",
                                 g.api.model, options_.model));
    error.param = "model";
    return Fail(generation, error);
  }
  if (num_active() > options_.max_queued_requests) {
    return Fail(generation, TooManyRequests(fmt::format(
                                "{} requests are in flight, the most this server takes; try again",
                                options_.max_queued_requests)));
  }
  if (!ready()) return Fail(generation, NoGroup());
  if (g.api.num_text_bytes() <= options_.inline_text_bytes) {
    return Prepared(generation, Prepare(g.api));
  }
  const Nanos queued_at = MonotonicNow();
  text_pool_.Run([this, generation, queued_at] {
    const Nanos started_at = MonotonicNow();
    auto prompt = std::make_shared<Prompt>(Prepare(generation->api));
    const Nanos done_at = MonotonicNow();
    post_([this, generation, prompt, waited = started_at - queued_at, done_at] {
      prompt->wait = waited + (MonotonicNow() - done_at);
      if (!generation->ended) Prepared(generation, std::move(*prompt));
    });
  });
}

Service::Prompt Service::Prepare(const ApiRequest& api) const {
  Prompt prompt;
  const Nanos start = MonotonicNow();
  std::string rendered;
  const bool chat = api.endpoint == Endpoint::kChat;
  if (chat) {
    if (chat_template_ == nullptr) {
      prompt.tokens = InvalidArgument(
          "this model has no chat template, so it takes no messages; use /v1/completions");
      return prompt;
    }
    std::vector<text::Message> messages;
    messages.reserve(api.messages.size());
    for (const ApiMessage& m : api.messages) messages.push_back({m.role, m.content});
    StatusOr<std::string> result = chat_template_->Render(messages, true);
    if (!result.ok()) {
      prompt.tokens = result.status();
      return prompt;
    }
    rendered = *std::move(result);
  }
  const Nanos rendered_at = MonotonicNow();
  std::vector<TokenId> tokens = tokenizer_.Encode(chat ? rendered : api.prompt);
  if (!chat && tokenizer_.add_bos() && tokenizer_.bos_id() != text::kNoToken) {
    tokens.insert(tokens.begin(), tokenizer_.bos_id());
  }
  prompt.tokens = std::move(tokens);
  prompt.render = rendered_at - start;
  prompt.tokenize = MonotonicNow() - rendered_at;
  return prompt;
}

void Service::Prepared(const GenerationPtr& generation, Prompt prompt) {
  Generation& g = *generation;
  g.account.text_wait = prompt.wait;
  g.account.render = prompt.render;
  g.account.tokenize = prompt.tokenize;
  if (!prompt.tokens.ok()) {
    ApiError error = FromStatus(prompt.tokens.status());
    if (error.status == 400) error.param = "messages";
    return Fail(generation, error);
  }
  g.prompt = *std::move(prompt.tokens);
  if (!ready()) return Fail(generation, NoGroup());
  if (std::optional<ApiError> error = CheckLength(g)) return Fail(generation, *error);
  g.seed = g.api.seed ? *g.api.seed : rng_();
  g.decoder.emplace(tokenizer_, g.api.stop);
  if (!Dispatch(generation)) Fail(generation, NoGroup());
}

std::optional<ApiError> Service::CheckLength(Generation& g) const {
  const int context = max_context();
  const int length = static_cast<int>(g.prompt.size());
  const char* param = g.api.endpoint == Endpoint::kChat ? "messages" : "prompt";
  if (length == 0) {
    return InvalidRequest(param, "The prompt has no tokens.", "invalid_value");
  }
  if (length >= context) {
    return InvalidRequest(
        param,
        fmt::format("This model's maximum context length is {} tokens. However, your {} {} {} "
                    "tokens. Please shorten it; at least one token must be left for the reply.",
                    context, param, length == 1 ? "is" : "are", length),
        "context_length_exceeded");
  }
  if (g.api.max_tokens && *g.api.max_tokens > context - length) {
    return InvalidRequest(
        "max_tokens",
        fmt::format("This model's maximum context length is {} tokens. However, you requested {} "
                    "tokens ({} in the {}, {} in the completion).",
                    context, int64_t{length} + *g.api.max_tokens, length, param, *g.api.max_tokens),
        "context_length_exceeded");
  }
  g.max_tokens = g.api.max_tokens.value_or(context - length);
  return std::nullopt;
}

bool Service::Dispatch(const GenerationPtr& generation) {
  Generation& g = *generation;
  const Nanos start = MonotonicNow();
  std::vector<routing::Candidate> candidates;
  std::vector<BlockHash> chain;  // of the group looked at last: groups of a cluster hash alike
  const routing::GroupInfo* hashed_for = nullptr;
  const int needed = static_cast<int>(g.prompt.size()) + g.max_tokens;
  for (auto& [id, group] : groups_) {
    const routing::GroupInfo& info = group.info;
    if (group.draining || needed > info.max_context) continue;
    if (hashed_for == nullptr || hashed_for->hash_seed != info.hash_seed ||
        hashed_for->block_size != info.block_size) {
      chain = HashChain(g, info);
      hashed_for = &info;
    }
    int32_t depth = 0;
    const GroupId here{id};
    index_.Match(chain, {&here, 1}, {&depth, 1});
    candidates.push_back({.group = here,
                          .load = &group.load,
                          .reported_at = group.reported_at,
                          .outstanding = ledger_.Outstanding(here),
                          .model = &models_[info.device_class],
                          .max_step_tokens = info.max_step_tokens,
                          .cached_tokens = depth * info.block_size});
  }
  const int length = static_cast<int>(g.prompt.size());
  const routing::Choice choice = routing::SelectGroup(candidates, length, start, rng_);
  if (!choice.group.valid()) return false;
  const Group& group = groups_.at(choice.group.value);
  g.group = choice.group;
  g.group_name = group.info.name;
  g.predicted_ttft = choice.predicted_ttft;
  g.route_reason = choice.reason;
  ++g.account.num_attempts;
  index_.Expect(g.group, g.id, HashChain(g, group.info));
  ledger_.Sent({.key = {g.id, g.attempt},
                .group = g.group,
                .uncached_tokens = std::max(1, length - choice.cached_tokens),
                .prompt_tokens = length,
                .now = start,
                .predicted_ttft = choice.predicted_ttft});

  const std::span<const TokenId> ends = tokenizer_.end_ids();
  routing::GenerateRequest request;
  request.request = g.id;
  request.attempt = g.attempt;
  request.prompt = g.prompt;
  request.max_tokens = g.max_tokens;
  request.temperature = g.api.temperature;
  request.top_p = g.api.top_p;
  request.min_p = g.api.min_p;
  request.top_k = g.api.top_k;
  request.seed = g.seed;
  request.stop_ids.assign(ends.begin(), ends.end());
  g.account.sent = MonotonicNow();
  g.account.route += g.account.sent - start;
  port_->Send(g.group, std::move(request));
  return true;
}

std::vector<BlockHash> Service::HashChain(const Generation& g,
                                          const routing::GroupInfo& info) const {
  std::vector<BlockHash> chain;
  const size_t block = static_cast<size_t>(info.block_size);
  // A fully cached prompt still computes its last token, so its last full block may not count.
  const size_t blocks = block == 0 ? 0 : (g.prompt.size() - 1) / block;
  chain.reserve(blocks);
  BlockHash hash = RootHash(info.hash_seed, {});
  const std::span<const TokenId> tokens(g.prompt);
  for (size_t i = 0; i < blocks; ++i) {
    chain.push_back(hash = HashBlock(hash, tokens.subspan(i * block, block)));
  }
  return chain;
}

void Service::SendCancel(Generation& g) {
  if (ledger_.Cancelled({g.id, g.attempt})) port_->Cancel(g.group, g.id, g.attempt, 0);
}

void Service::Abandon(Generation& g, std::string_view why) {
  if (g.ended || g.id == 0) return;
  if (g.group.valid()) SendCancel(g);
  g.sink = nullptr;
  probe_.Failed(why);
  End(g);
}

void Service::Fail(const GenerationPtr& generation, const ApiError& error) {
  Generation& g = *generation;
  ReplySink* const sink = g.sink;
  g.sink = nullptr;
  probe_.Failed(error.code.empty() ? error.type : error.code);
  End(g);
  if (sink != nullptr) sink->OnFailed(error);
}

void Service::FailAll(const ApiError& error) {
  std::vector<GenerationPtr> all;
  for (const auto& [id, generation] : active_) all.push_back(generation);
  for (const GenerationPtr& generation : all) {
    if (generation->group.valid()) SendCancel(*generation);
    Fail(generation, error);
  }
}

void Service::End(Generation& g) {
  if (g.ended) return;
  g.ended = true;
  g.account.ended = MonotonicNow();
  index_.Settle(g.id);
  probe_.RequestEnded();
  active_.erase(g.id);
}

bool Service::ready() const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [](const auto& entry) { return !entry.second.draining; });
}

int Service::max_context() const {
  int most = 0;
  for (const auto& [id, group] : groups_) {
    if (!group.draining) most = std::max(most, group.info.max_context);
  }
  return most;
}

ApiError Service::NoGroup() const {
  std::string states;
  for (const auto& [name, why] : down_why_) {
    fmt::format_to(std::back_inserter(states), "{}group '{}' {}", states.empty() ? ": " : "; ",
                   name, why);
  }
  return ServerError(503, "no_group_ready", "no group can serve the model now" + states);
}

bool Service::Health(std::string& json) const {
  const Nanos oldest = text_pool_.oldest_start();
  const bool well = oldest == 0 || MonotonicNow() - oldest < kStuckTextJob;
  json = fmt::format("{{\"status\":\"{}\",\"requests_in_flight\":{},\"groups\":[",
                     !well       ? "text_threads_stuck"
                     : draining_ ? "draining"
                                 : "ok",
                     num_active());
  bool first = true;
  const auto begin_group = [&](const std::string& name, std::string_view state) {
    json += first ? "{\"name\":" : ",{\"name\":";
    first = false;
    AppendJsonString(json, name);
    fmt::format_to(std::back_inserter(json), ",\"state\":\"{}\"", state);
  };
  for (const auto& [id, group] : groups_) {
    begin_group(group.info.name, group.draining ? "draining" : "up");
    fmt::format_to(std::back_inserter(json),
                   ",\"tp\":{},\"in_flight\":{},\"running\":{},\"waiting\":{},\"free_blocks\":{},"
                   "\"total_blocks\":{}}}",
                   group.info.tp, ledger_.Outstanding(GroupId{id}).num_attempts,
                   group.load.num_running, group.load.num_waiting, group.load.free_blocks,
                   group.load.total_blocks);
  }
  for (const auto& [name, why] : down_why_) {
    begin_group(name, "down");
    json += ",\"reason\":";
    AppendJsonString(json, why);
    json += '}';
  }
  json += "]}";
  return well;
}

}  // namespace tandem::http
