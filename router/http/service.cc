#include "router/http/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "common/check.h"
#include "common/clock.h"
#include "common/config/values.h"
#include "router/http/json_fields.h"
#include "router/http/tokenize.h"

namespace tandem::http {
namespace {

// Of one call for embeddings, however many it has: others are served in between, and neither queues
// nor limits of requests need to hold two thousand at a time.
constexpr size_t kInputsAtOnce = 64;

// Whole seconds, rounded up, and at least one: a client that comes back at once changes nothing.
int RetryAfterSeconds(Nanos retry_after) {
  return static_cast<int>(std::clamp<Nanos>((retry_after + kSecond - 1) / kSecond, 1, 3600));
}

std::vector<std::string> NamesOf(const std::vector<ServedModel>& models) {
  std::vector<std::string> names;
  names.reserve(models.size());
  for (const ServedModel& model : models) names.push_back(model.name);
  return names;
}

ApiError RejectionError(const routing::Rejection& rejection, const std::string& model) {
  using Why = routing::Rejection::Why;
  const bool late = rejection.why == Why::kDeadline;
  const std::string why =
      late ? fmt::format(
                 "the first token of this request is predicted after {} ms, which is beyond "
                 "its deadline",
                 rejection.predicted_ttft / kMillisecond)
           : fmt::format("as many requests wait for the model '{}' as may", model);
  ApiError error = TooManyRequests(why + "; try again later");
  error.code = late ? "deadline" : "queue_full";
  error.retry_after = RetryAfterSeconds(rejection.retry_after);
  return error;
}

}  // namespace

ServiceSettings ServiceSettings::Of(const config::Cluster& cluster) {
  ServiceSettings settings;
  for (const config::Group& group : cluster.groups) {
    settings.groups.push_back({group.name, group.model});
  }
  settings.aliases = cluster.aliases;
  settings.policy = cluster.router.policy;
  settings.admission = cluster.router.admission;
  settings.max_queued_requests = cluster.router.limits.max_queued_requests;
  return settings;
}

Service::Service(ServiceOptions options, observe::Metrics& metrics, Post post)
    : options_(std::move(options)),
      settings_(options_.settings),
      routes_(NamesOf(options_.models), settings_.aliases),
      probe_(metrics),
      post_(std::move(post)),
      rng_(std::random_device{}()),
      text_pool_(options_.text_threads) {
  TANDEM_CHECK(!options_.models.empty()) << "a router without a model";
  for (const ServedModel& model : options_.models) {
    pools_.push_back(std::make_unique<Pool>(model, settings_.policy, settings_.admission, probe_));
  }
  Reload(settings_);
}

Service::~Service() = default;

void Service::Reload(const ServiceSettings& settings) {
  settings_ = settings;
  routes_ = ModelRoutes(NamesOf(options_.models), settings_.aliases);
  for (const auto& pool : pools_) {
    pool->SetPolicy(settings_.policy);
    pool->SetAdmission(settings_.admission);
    std::vector<std::string> names;
    for (const ServiceSettings::Group& group : settings_.groups) {
      if (group.model == pool->model().name) names.push_back(group.name);
    }
    pool->ForgetAllBut(names);
    for (const std::string& name : names) pool->Expect(name);
    PollPool(*pool, MonotonicNow());  // there may be room now
  }
}

void Service::Submit(const std::shared_ptr<ApiCall>& shared) {
  ApiCall& call = *shared;
  const size_t all = call.generations.size();
  Enter(shared, call.api.embeds() ? std::min(all, kInputsAtOnce) : all);
  const GenerationPtr first(shared, &call.generations.front());
  if (draining_) {
    ApiError error = ServerError(503, "draining", "the server is shutting down; try another one");
    error.close = true;
    return Fail(first, error);
  }
  call.text_bytes = call.api.num_text_bytes();
  call.route = routes_.Find(call.api.model);
  if (call.route == nullptr) return Fail(first, NotFound(call.api.model));
  if (num_active() > settings_.max_queued_requests) {
    return Fail(first, TooManyRequests(fmt::format(
                           "{} requests are in flight, the most this server takes; try again",
                           settings_.max_queued_requests)));
  }
  // Or one that floods would lock all others out.
  const int most = std::max(1, settings_.max_queued_requests / 2);
  if (settings_.several_keys && active_of_[call.client] > most) {
    return Fail(first, TooManyRequests(fmt::format(
                           "{} requests of this API key are in flight, the most that one key may "
                           "have here; try again",
                           most)));
  }
  const Nanos bound =
      call.ttft_deadline > 0 ? call.ttft_deadline : settings_.admission.ttft_deadline;
  if (bound > 0) call.ttft_until = call.before.received + bound;
  call.seed = call.api.seed ? *call.api.seed : rng_();
  // The first sequence of each prompt; the others follow once it is tokens (Prepared).
  for (size_t i = 0; i < call.num_entered; ++i) {
    Generation& g = call.generations[i];
    if (g.index == 0 && !g.ended) Advance(GenerationPtr(shared, &g));
  }
}

// The next `count` of its sequences are requests from here on.
void Service::Enter(const std::shared_ptr<ApiCall>& call, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Generation& g = call->generations[call->num_entered++];
    g.id = ++last_id_;
    active_.emplace(g.id, GenerationPtr(call, &g));
    ++active_of_[call->client];
    probe_.RequestStarted();
  }
}

// Prepares the prompt for the choice that g.choice names, or the next one whose model is up.
void Service::Advance(const GenerationPtr& generation) {
  Generation& g = *generation;
  const ModelRoute& route = *g.call->route;
  while (g.choice < route.size() && !pools_[route.at(g.choice).model]->ready()) ++g.choice;
  if (g.choice == route.size()) return Fail(generation, g.refusal ? *g.refusal : NoGroup(route));
  g.pool = route.at(g.choice).model;
  const ServedModel& model = PoolOf(g).model();
  const int context = PoolOf(g).dispatcher().max_context();
  const auto prompt_index = static_cast<size_t>(g.prompt_index);
  if (g.call->text_bytes <= options_.inline_text_bytes) {
    return Prepared(generation, PreparePrompt(g.call->api, prompt_index, model, context));
  }
  const Nanos queued_at = MonotonicNow();
  text_pool_.Run([this, generation, queued_at, prompt_index, context, &model] {
    if (generation->call->unwanted.load(std::memory_order_relaxed)) return;
    const Nanos started_at = MonotonicNow();
    auto prompt = std::make_shared<PreparedPrompt>(
        PreparePrompt(generation->call->api, prompt_index, model, context));
    const Nanos done_at = MonotonicNow();
    post_([this, generation, prompt, waited = started_at - queued_at, done_at] {
      prompt->wait = waited + (MonotonicNow() - done_at);
      if (!generation->ended) Prepared(generation, std::move(*prompt));
    });
  });
}

// This choice does not serve it; `why` is what the client hears if no other does.
void Service::PassOver(const GenerationPtr& generation, const ApiError& why) {
  Generation& g = *generation;
  if (g.call->route->is_last(g.choice)) return Fail(generation, why);
  g.refusal = why;
  g.prompt = nullptr;  // it was of this choice's model
  ++g.choice;
  Advance(generation);
}

void Service::Prepared(const GenerationPtr& generation, PreparedPrompt prompt) {
  Generation& g = *generation;
  g.account.text_wait += prompt.wait;
  g.account.render += prompt.render;
  g.account.tokenize += prompt.tokenize;
  probe_.TextPrepared(prompt.cpu, prompt.known_tokens);
  if (prompt.error) return PassOver(generation, *prompt.error);
  g.prompt = std::make_shared<const std::vector<TokenId>>(std::move(prompt.tokens));
  g.reply_syntax = prompt.reply_syntax;
  g.grammar = std::move(prompt.grammar);
  g.begun = true;
  Consider(generation);
  // Its siblings only: of many prompts each looks at its own.
  const auto of_each = static_cast<size_t>(g.call->api.best_of);
  const std::span<Generation> all = g.call->generations;
  for (Generation& sibling : all.subspan(static_cast<size_t>(g.prompt_index) * of_each, of_each)) {
    if (g.prompt == nullptr) return;  // it went on to another model: they follow from there
    if (sibling.begun || sibling.ended) continue;
    sibling.begun = true;
    sibling.prompt = g.prompt;
    sibling.reply_syntax = g.reply_syntax;
    sibling.grammar = g.grammar;
    sibling.choice = g.choice;
    sibling.pool = g.pool;
    Consider(GenerationPtr(generation, &sibling));
  }
}

// Whether the rules of the route leave it to the model that it was prepared for.
void Service::Consider(const GenerationPtr& generation) {
  Generation& g = *generation;
  Pool& pool = PoolOf(g);
  ModelRoute& route = *g.call->route;
  const ModelRoute::Choice& choice = route.at(g.choice);
  if (!pool.ready()) return PassOver(generation, NoGroup(route));
  const int length = static_cast<int>(g.prompt->size());
  if (choice.max_prompt_tokens > 0 && length > choice.max_prompt_tokens) {
    return PassOver(generation, NoGroup(route));
  }
  if (auto error = g.call->api.embeds() ? CheckInput(g, pool) : CheckLength(g, pool)) {
    return PassOver(generation, *error);
  }
  if (!route.TakeShare(g.choice)) return PassOver(generation, NoGroup(route));
  g.tokenizer = pool.model().tokenizer;
  if (!g.call->api.embeds()) MakeDecoder(g, pool);
  Dispatch(generation);
}

void Service::Dispatch(const GenerationPtr& generation) {
  Generation& g = *generation;
  Pool& pool = PoolOf(g);
  const Nanos now = MonotonicNow();
  const ApiCall& call = *g.call;
  const ModelRoute::Choice& choice = call.route->at(g.choice);
  routing::RouteRequest request{.id = g.id,
                                .attempt = g.attempt,
                                .prompt = *g.prompt,
                                .cache_salt = call.api.cache_salt,
                                .max_tokens = g.max_tokens,
                                .embeds = call.api.embeds(),
                                .reads_cache = PoolingOf(g) != routing::Pooling::kMean,
                                .priority = call.priority,
                                .deadline = 0,
                                .client = call.client,
                                .session = call.session};
  if (call.ttft_until > 0) request.deadline = std::max<Nanos>(1, call.ttft_until - now);
  // Where a smaller model can take over, it does so instead of a longer wait.
  if (choice.max_ttft > 0 && (request.deadline == 0 || choice.max_ttft < request.deadline)) {
    request.deadline = choice.max_ttft;
  }
  g.submitted = now;
  const routing::Decision decision = pool.dispatcher().Submit(request, now);
  if (const auto* dispatch = std::get_if<routing::Dispatch>(&decision)) {
    Send(generation, *dispatch);
  } else if (const auto* rejection = std::get_if<routing::Rejection>(&decision)) {
    Refuse(generation, *rejection);
  }
}

void Service::Send(const GenerationPtr& generation, const routing::Dispatch& dispatch) {
  Generation& g = *generation;
  Pool& pool = PoolOf(g);
  const Pool::Group* group = pool.Find(dispatch.group);
  TANDEM_CHECK(group != nullptr) << "request " << g.id << " goes to a group that is not up";
  g.group = dispatch.group;
  g.group_name = group->info.name;
  g.predicted_ttft = dispatch.predicted_ttft;
  g.route_reason = dispatch.reason;
  g.served_model = pool.model().name;
  ++g.account.num_attempts;
  pool.series().Routed(dispatch.reason);

  routing::GenerateRequest request = RequestOf(g);
  request.priority = dispatch.priority;
  g.account.sent = MonotonicNow();
  // Not the dispatch's: a choice's own bound decides where it goes, it does not end it there.
  const Nanos until = g.call->ttft_until;
  if (until > 0) request.deadline_in = std::max<Nanos>(1, until - g.account.sent);
  g.account.admission += dispatch.queued;
  g.account.route += g.account.sent - g.submitted - dispatch.queued;
  port_->Send(g.group, std::move(request));
}

void Service::Refuse(const GenerationPtr& generation, const routing::Rejection& rejection) {
  Generation& g = *generation;
  using Why = routing::Rejection::Why;
  PoolOf(g).series().Rejected(rejection.why == Why::kDeadline    ? "deadline"
                              : rejection.why == Why::kQueueFull ? "queue_full"
                                                                 : "no_group");
  g.account.admission += MonotonicNow() - g.submitted;
  if (g.lost) return Fail(generation, *g.lost);  // nobody may start it over
  PassOver(generation, rejection.why == Why::kNoGroup
                           ? NoGroup(*g.call->route)
                           : RejectionError(rejection, PoolOf(g).model().name));
}

void Service::PollPool(Pool& pool, Nanos now) {
  std::vector<routing::Dispatch> dispatches;
  std::vector<routing::Rejection> rejections;
  pool.dispatcher().Poll(now, dispatches, rejections);
  for (const routing::Dispatch& dispatch : dispatches) {
    Send(active_.at(dispatch.id), dispatch);
  }
  for (const routing::Rejection& rejection : rejections) {
    const auto found = active_.find(rejection.id);
    if (found == active_.end()) continue;  // ended with a sibling that was rejected before
    const GenerationPtr generation = found->second;
    Refuse(generation, rejection);
  }
}

void Service::Tick(Nanos now) {
  for (const auto& pool : pools_) {
    const Nanos wake = pool->dispatcher().next_wake();
    if (wake != 0 && now >= wake) PollPool(*pool, now);
  }
}

// Its place in the queue, or its sequence at the group.
void Service::Withdraw(Generation& g) {
  if (g.submitted == 0) return;
  if (PoolOf(g).dispatcher().Cancel(g.id, g.attempt)) {
    port_->Cancel(g.group, g.id, g.attempt, g.index);
  }
}

void Service::Abandon(ApiCall& call, std::string_view why) {
  if (call.generations.empty() || call.generations.front().id == 0 || call.ended()) return;
  probe_.Failed(why);
  call.sink = nullptr;
  EndAll(call);
}

// Those that have not ended: nobody hears of them any more.
void Service::EndAll(ApiCall& call) {
  call.unwanted.store(true, std::memory_order_relaxed);
  for (Generation& g : call.generations) {
    if (g.ended) continue;
    Withdraw(g);
    End(g);
  }
}

// One that fails takes its siblings along: half a reply is none.
void Service::Fail(const GenerationPtr& generation, const ApiError& error) {
  Generation& g = *generation;
  if (g.ended) return;
  ApiCall& call = *g.call;
  ReplySink* const sink = std::exchange(call.sink, nullptr);
  probe_.Failed(error.code.empty() ? error.type : error.code);
  End(g);
  EndAll(call);
  if (sink != nullptr) sink->OnFailed(error);
}

void Service::FailAll(const ApiError& error) {
  std::vector<GenerationPtr> all;
  for (const auto& [id, generation] : active_) all.push_back(generation);
  for (const GenerationPtr& generation : all) {
    if (generation->ended) continue;  // with a sibling
    Withdraw(*generation);
    Fail(generation, error);
  }
}

void Service::End(Generation& g) {
  if (g.ended) return;
  g.ended = true;
  if (g.id == 0) return;  // it was never entered
  g.account.ended = MonotonicNow();
  if (options_.recorder != nullptr && g.num_output_tokens > 0) {
    const ServedModel& model = PoolOf(g).model();
    options_.recorder->Record({.arrival = g.account.received,
                               .model = model.name,
                               .hash_seed = model.fingerprint,
                               .prompt = *g.prompt,
                               .output_tokens = g.num_output_tokens,
                               .cache_salt = g.call->api.cache_salt});
  }
  probe_.RequestEnded();
  active_.erase(g.id);
  const auto of = active_of_.find(g.call->client);
  if (--of->second == 0) active_of_.erase(of);
}

void Service::Tokenize(const std::shared_ptr<const ApiRequest>& api, TokenizeDone done) {
  const bool named = !api->model.empty();
  if (!named && options_.models.size() > 1) return done(MissingField("model"));
  const auto route = routes_.Find(named ? api->model : options_.models.front().name);
  if (route == nullptr) return done(NotFound(api->model));
  const Pool& pool = *pools_[route->at(0).model];  // of an alias its first
  const int context = pool.dispatcher().max_context();
  if (api->num_text_bytes() <= options_.inline_text_bytes) {
    return done(TokenizeReply(*api, pool.model(), context));
  }
  text_pool_.Run([this, api, context, &pool, done = std::move(done)]() mutable {
    post_([reply = TokenizeReply(*api, pool.model(), context), done = std::move(done)]() mutable {
      done(std::move(reply));
    });
  });
}

void Service::MakeAside(std::function<std::string()> make, std::function<void(std::string)> done) {
  text_pool_.Run([this, make = std::move(make), done = std::move(done)]() mutable {
    post_([made = make(), done = std::move(done)]() mutable { done(std::move(made)); });
  });
}

ApiError Service::NotFound(const std::string& model) const {
  ApiError error = RequestError(404, "model_not_found",
                                fmt::format("The model '{}' does not exist; this server has '{}'.",
                                            model, config::Join(routes_.names(), "', '")));
  error.param = "model";
  return error;
}

ApiError Service::NoGroup(const ModelRoute& route) const {
  std::string states;
  for (size_t i = 0; i < route.size(); ++i) {
    for (const auto& [name, why] : pools_[route.at(i).model]->down_why()) {
      fmt::format_to(std::back_inserter(states), "{}group '{}' {}", states.empty() ? ": " : "; ",
                     name, why);
    }
  }
  return ServerError(503, "no_group_ready", "no group can serve the model now" + states);
}

bool Service::ready() const {
  return std::any_of(pools_.begin(), pools_.end(), [](const auto& pool) { return pool->ready(); });
}

void Service::CheckInvariants() const {
  for (const auto& pool : pools_) pool->dispatcher().CheckInvariants();
}

}  // namespace tandem::http
