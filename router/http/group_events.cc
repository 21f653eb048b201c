// The half of Service that hears from groups.
#include <fmt/format.h>
#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/observe/log.h"
#include "router/http/service.h"

namespace tandem::http {

using routing::FinishReason;

namespace {

template <class T>
void DropFirst(size_t count, std::vector<T>& from) {
  from.erase(from.begin(), from.begin() + static_cast<ptrdiff_t>(std::min(count, from.size())));
}

}  // namespace

void Service::OnGroupUp(const routing::GroupInfo& info) { Queue(info); }
void Service::OnStep(routing::StepReport report) { Queue(std::move(report)); }
void Service::OnGroupLost(GroupId group, const std::string& reason) { Queue(Lost{group, reason}); }
void Service::OnGroupDraining(GroupId group) { Queue(Draining{group}); }

void Service::Queue(Event event) {
  bool first = false;
  {
    MutexLock lock(events_mutex_);
    first = events_.empty();
    events_.push_back(std::move(event));
  }
  // What arrives until the I/O thread gets there is handled with it.
  if (first) post_([this] { HandleEvents(); });
}

void Service::HandleEvents() {
  {
    MutexLock lock(events_mutex_);
    handled_.swap(events_);
  }
  for (Event& event : handled_) {
    std::visit([this](auto& e) { Handle(e); }, event);
  }
  handled_.clear();
  // Once for all that came: what waits may have room now.
  const Nanos now = MonotonicNow();
  for (const auto& pool : pools_) PollPool(*pool, now);
}

void Service::Handle(routing::GroupInfo& info) {
  for (const auto& pool : pools_) {
    if (pool->model().name != info.model) continue;
    pool_of_group_[info.id.value] = pool.get();
    return pool->GroupUp(std::move(info), MonotonicNow());
  }
  observe::LogError("group '{}' serves the model '{}', which this router does not know", info.name,
                    info.model);
}

void Service::Handle(Draining& draining) {
  const auto it = pool_of_group_.find(draining.group.value);
  if (it != pool_of_group_.end()) it->second->GroupDraining(draining.group);
}

void Service::Handle(Lost& lost) {
  const auto it = pool_of_group_.find(lost.group.value);
  if (it == pool_of_group_.end()) return;
  Pool& pool = *it->second;
  pool_of_group_.erase(it);
  const std::string name = pool.Find(lost.group)->info.name;
  for (const routing::Attempt& attempt : pool.GroupLost(lost.group, lost.reason)) {
    Resend(attempt, name, lost.reason);
  }
}

void Service::Resend(const routing::Attempt& attempt, const std::string& group,
                     const std::string& why) {
  const auto found = active_.find(attempt.key.request);
  if (found == active_.end() || found->second->attempt != attempt.key.attempt) return;
  const GenerationPtr generation = found->second;
  Generation& g = *generation;
  g.group = GroupId{};
  g.lost = ServerError(503, "group_lost",
                       fmt::format("the group '{}' that served this request was lost after {} "
                                   "tokens: {}; send it again",
                                   group, g.num_output_tokens, why));
  // Nothing was seen of it: another group may start over. Once, or a prompt that brings groups down
  // would bring down all of them.
  if (g.num_output_tokens > 0 || g.attempt > 0) return Fail(generation, *g.lost);
  g.account.lost += MonotonicNow() - g.account.sent;
  ++g.attempt;
  Dispatch(generation);
  if (!g.ended) probe_.Retried();
}

void Service::Handle(routing::StepReport& report) {
  const auto it = pool_of_group_.find(report.group.value);
  if (it == pool_of_group_.end() || !it->second->Report(report)) return;
  for (routing::SequenceTokens& sequence : report.sequences) HandleTokens(report, sequence);
}

void Service::HandleTokens(const routing::StepReport& report, routing::SequenceTokens& sequence) {
  const bool ends = sequence.finish != FinishReason::kNone;
  const auto found = active_.find(sequence.request);
  if (found == active_.end() || found->second->attempt != sequence.attempt) return;  // late
  const GenerationPtr generation = found->second;
  Generation& g = *generation;

  const Nanos now = MonotonicNow();
  g.account.total_worker = sequence.timings;
  if (g.call->api.embeds()) return DeliverEmbedding(generation, report, sequence, now);
  if (sequence.first_index > g.num_output_tokens) {
    if (!ends) Withdraw(g);
    return Fail(generation, ServerError(500, "tokens_lost",
                                        fmt::format("token {} came where {} was due",
                                                    sequence.first_index, g.num_output_tokens)));
  }
  const auto known = static_cast<size_t>(g.num_output_tokens - sequence.first_index);
  DropFirst(known, sequence.tokens);
  DropFirst(known, sequence.logprobs);
  if (!sequence.tokens.empty()) {
    if (g.num_output_tokens == 0) {
      AccountFirstToken(g, report, sequence, now);
    } else {
      probe_.TokenGap(now - g.last_token);
    }
    g.last_token = now;
    probe_.OutputTokens(static_cast<int>(sequence.tokens.size()));
  }
  Deliver(generation, sequence);
}

void Service::AccountFirstToken(Generation& g, const routing::StepReport& report,
                                const routing::SequenceTokens& sequence, Nanos now) {
  LatencyAccount& account = g.account;
  account.worker = sequence.timings;
  account.deliver = now - report.received_at;
  const routing::WorkerTimings& w = account.worker;
  account.wire = report.received_at - account.sent - w.inbox - w.queue - w.prefill - w.waiting -
                 w.decode - w.preempted - w.outbox;
  g.num_cached_tokens = w.num_cached_tokens;
  probe_.Prompt(static_cast<int32_t>(g.prompt->size()), g.num_cached_tokens);
  probe_.FirstToken(now - account.received, g.call->api.embeds(), w.queue, g.predicted_ttft,
                    now - account.sent);
}

namespace {

bool IsAskedStop(const Generation& g, TokenId token) {
  const std::vector<TokenId>& ids = g.call->api.stop_token_ids;
  return std::find(ids.begin(), ids.end(), token) != ids.end();
}

// Its last token is one that ends replies. A grammar may end one without.
bool EndedByToken(const Generation& g, const routing::SequenceTokens& sequence) {
  if (sequence.finish != FinishReason::kStop || sequence.tokens.empty()) return false;
  const TokenId last = sequence.tokens.back();
  const std::span<const TokenId> ends = g.tokenizer->end_ids();  // of any kind
  return g.grammar.kind == grammar::GrammarSpec::Kind::kNone || g.tokenizer->IsControl(last) ||
         std::binary_search(ends.begin(), ends.end(), last) || IsAskedStop(g, last);
}

}  // namespace

// The token that ended it has no text, unless that was asked for.
void Service::Deliver(const GenerationPtr& generation, const routing::SequenceTokens& sequence) {
  Generation& g = *generation;
  const ApiRequest& api = g.call->api;
  ReplySink* const sink = g.call->sink;
  const Nanos start = MonotonicNow();
  const bool first = g.num_output_tokens == 0 && !sequence.tokens.empty();
  const bool by_token = EndedByToken(g, sequence);
  const text::StreamDecoder::Output output =
      g.decoder->Push(sequence.tokens, by_token && !api.include_stop);
  g.num_output_tokens += output.num_tokens;
  const bool clean = sequence.finish == FinishReason::kStop ||
                     sequence.finish == FinishReason::kLength || output.stopped;
  Delta delta{.text = output.text};
  const auto num_tokens = static_cast<size_t>(output.num_tokens);
  delta.tokens = std::span(sequence.tokens).first(num_tokens);
  if (!sequence.logprobs.empty()) delta.logprobs = std::span(sequence.logprobs).first(num_tokens);
  for (const routing::TokenLogprob& token : delta.logprobs) g.cumulative_logprob += token.logprob;
  if (first && api.echo) {
    sink->OnDelta(g, {.text = EchoOf(api, static_cast<size_t>(g.prompt_index), *g.tokenizer)});
  }
  if (first || !delta.text.empty() || (api.wants_tokens() && num_tokens > 0)) {
    sink->OnDelta(g, delta);
  }
  if (clean && !output.stopped) {
    if (const std::string_view rest = g.decoder->Flush(); !rest.empty()) sink->OnDelta(g, {rest});
  }
  if (first) {
    g.account.first_token = MonotonicNow();
    g.account.detokenize = g.account.first_token - start;
  }
  if (clean) {
    Finish(generation, sequence);
  } else if (sequence.finish != FinishReason::kNone) {
    FailedAtGroup(generation, sequence);
  }
}

void Service::Finish(const GenerationPtr& generation, const routing::SequenceTokens& sequence) {
  Generation& g = *generation;
  g.stop_string = g.decoder->stopped_by();
  const bool by_string = !g.stop_string.empty();
  if (sequence.finish == FinishReason::kNone)
    Withdraw(g);  // a stop string: the group does not know
  if (!by_string && EndedByToken(g, sequence) && IsAskedStop(g, sequence.tokens.back())) {
    g.stop_token = sequence.tokens.back();
  }
  g.finish_reason = by_string || sequence.finish == FinishReason::kStop ? "stop" : "length";
  ReplySink* const sink = g.call->sink;
  End(g);
  if (g.call->ended()) g.call->sink = nullptr;
  sink->OnFinished(g);
}

void Service::FailedAtGroup(const GenerationPtr& generation,
                            const routing::SequenceTokens& sequence) {
  const std::string why = sequence.error.empty() ? "the group ended it" : sequence.error;
  if (sequence.finish == FinishReason::kDeadline) {
    ApiError error = TooManyRequests("the first token did not come before the deadline; try again");
    error.code = "deadline";
    return Fail(generation, error);
  }
  std::string form;
  if (generation->grammar.kind != grammar::GrammarSpec::Kind::kNone) {
    const std::string& param = generation->call->api.grammar_param;
    form = param.empty() ? "tools" : param;
  }
  Fail(generation,
       sequence.finish == FinishReason::kError
           ? FromGroup(sequence.error_kind, why, form)
           : ServerError(503, "generation_failed", "the request could not be finished: " + why));
}

}  // namespace tandem::http
