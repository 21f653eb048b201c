// The half of Service that hears from groups.
#include <fmt/format.h>
#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/observe/log.h"
#include "router/http/service.h"

namespace tandem::http {

using routing::FinishReason;

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
}

void Service::Handle(routing::GroupInfo& info) {
  observe::LogEvent(observe::LogLevel::kInfo, "group up",
                    {{"group", info.name},
                     {"tp", info.tp},
                     {"dtype", info.dtype},
                     {"device", info.device_class},
                     {"context", info.max_context},
                     {"blocks", info.num_blocks}});
  // One sequence cannot be longer than the whole pool.
  const int64_t pool = int64_t{info.num_blocks} * info.block_size;
  if (pool > 0) info.max_context = static_cast<int>(std::min<int64_t>(info.max_context, pool));
  probe_.GroupUp(info.name, true);
  down_why_.erase(info.name);
  Group group;
  group.info = std::move(info);
  group.series = probe_.AddGroup(group.info.name);
  group.load.total_blocks = group.load.free_blocks = group.info.num_blocks;
  groups_.insert_or_assign(group.info.id.value, std::move(group));
}

void Service::Handle(Draining& draining) {
  const auto it = groups_.find(draining.group.value);
  if (it == groups_.end()) return;
  it->second.draining = true;
  probe_.GroupUp(it->second.info.name, false);
  observe::LogInfo("group '{}' is draining", it->second.info.name);
}

void Service::Handle(Lost& lost) {
  const auto it = groups_.find(lost.group.value);
  if (it == groups_.end()) return;
  const std::string name = it->second.info.name;
  groups_.erase(it);
  index_.Clear(lost.group);
  const std::vector<routing::Attempt> attempts = ledger_.GroupLost(lost.group);
  const bool back = std::any_of(groups_.begin(), groups_.end(),
                                [&](const auto& entry) { return entry.second.info.name == name; });
  if (!back) {  // a new incarnation may be up already
    down_why_[name] = "was lost: " + lost.reason;
    probe_.GroupUp(name, false);
  }
  observe::LogEvent(observe::LogLevel::kError, "group lost",
                    {{"group", name},
                     {"reason", lost.reason},
                     {"attempts", static_cast<int64_t>(attempts.size())}});
  for (const routing::Attempt& attempt : attempts) {
    const auto found = active_.find(attempt.key.request);
    if (found == active_.end() || found->second->attempt != attempt.key.attempt) continue;
    const GenerationPtr generation = found->second;
    Generation& g = *generation;
    index_.Settle(g.id);
    g.group = GroupId{};
    // Nothing was seen of it: another group may start over. Once, or a prompt that brings groups
    // down would bring down all of them.
    if (g.num_output_tokens == 0 && g.attempt == 0) {
      g.account.lost += MonotonicNow() - g.account.sent;
      ++g.attempt;
      if (Dispatch(generation)) {
        probe_.Retried();
        continue;
      }
    }
    Fail(generation, ServerError(503, "group_lost",
                                 fmt::format("the group '{}' that served this request was lost "
                                             "after {} tokens: {}; send it again",
                                             name, g.num_output_tokens, lost.reason)));
  }
}

void Service::Handle(routing::StepReport& report) {
  const auto it = groups_.find(report.group.value);
  if (it == groups_.end()) return;
  Group& group = it->second;
  const routing::GroupLoad& load = report.load;
  HandleKvEvents(report);
  ledger_.Reported(report.group, load.last_request_seen);
  models_[group.info.device_class].Observe(
      {.prefill_tokens = static_cast<double>(load.step_prefill_tokens),
       .attention = static_cast<double>(load.step_prefill_attention),
       .decodes = static_cast<double>(load.step_decodes),
       .context_tokens = static_cast<double>(load.step_context_tokens)},
      load.step_duration);
  Probe::Step(group.series, load);
  group.load = std::move(report.load);
  group.reported_at = report.received_at;
  for (routing::SequenceTokens& sequence : report.sequences) HandleTokens(report, sequence);
}

void Service::HandleKvEvents(const routing::StepReport& report) {
  for (const routing::KvEvent& event : report.kv_events) {
    if (index_.Apply(report.group, event)) continue;
    // Known to be behind the truth from here on, which only costs hits.
    probe_.KvEventGap();
    index_.Clear(report.group);
    if (!index_.Apply(report.group, event)) return;
  }
}

void Service::HandleTokens(const routing::StepReport& report, routing::SequenceTokens& sequence) {
  const routing::AttemptKey key{sequence.request, sequence.attempt};
  const bool ends = sequence.finish != FinishReason::kNone;
  if (ends) {
    ledger_.Finished(key, sequence.finish);
  } else if (!sequence.tokens.empty()) {
    ledger_.Progressed(key);
  }
  const auto found = active_.find(sequence.request);
  if (found == active_.end() || found->second->attempt != sequence.attempt) return;  // late
  const GenerationPtr generation = found->second;
  Generation& g = *generation;

  const Nanos now = MonotonicNow();
  g.account.total_worker = sequence.timings;
  if (sequence.first_index > g.num_output_tokens) {
    if (!ends) SendCancel(g);
    return Fail(generation, ServerError(500, "tokens_lost",
                                        fmt::format("token {} came where {} was due",
                                                    sequence.first_index, g.num_output_tokens)));
  }
  const auto known = static_cast<size_t>(g.num_output_tokens - sequence.first_index);
  sequence.tokens.erase(
      sequence.tokens.begin(),
      sequence.tokens.begin() + static_cast<ptrdiff_t>(std::min(known, sequence.tokens.size())));
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
  index_.Settle(g.id);  // its events came in this report or before it
  probe_.Prompt(static_cast<int32_t>(g.prompt.size()), g.num_cached_tokens);
  probe_.FirstToken(now - account.received, w.queue, g.predicted_ttft, now - account.sent);
}

void Service::Deliver(const GenerationPtr& generation, const routing::SequenceTokens& sequence) {
  Generation& g = *generation;
  const Nanos start = MonotonicNow();
  const bool first = g.num_output_tokens == 0 && !sequence.tokens.empty();
  std::span<const TokenId> tokens(sequence.tokens);
  const bool ends = sequence.finish != FinishReason::kNone;
  const text::StreamDecoder::Output output = g.decoder->Push(tokens);
  g.num_output_tokens += output.num_tokens;
  const bool clean = sequence.finish == FinishReason::kStop ||
                     sequence.finish == FinishReason::kLength || output.stopped;
  if (first || !output.text.empty()) g.sink->OnText(output.text);
  if (clean && !output.stopped) {
    if (const std::string_view rest = g.decoder->Flush(); !rest.empty()) g.sink->OnText(rest);
  }
  if (first) {
    g.account.first_token = MonotonicNow();
    g.account.detokenize = g.account.first_token - start;
  }
  if (clean) {
    if (!ends) SendCancel(g);  // a stop string: the group does not know
    ReplySink* const sink = g.sink;
    const bool stop = output.stopped || sequence.finish == FinishReason::kStop;
    End(g);
    g.sink = nullptr;
    sink->OnFinished(stop ? "stop" : "length");
  } else if (ends) {
    const std::string why = sequence.error.empty() ? "the group ended it" : sequence.error;
    Fail(generation,
         sequence.finish == FinishReason::kError
             ? FromGroup(sequence.error_kind, why)
             : ServerError(503, "generation_failed", "the request could not be finished: " + why));
  }
}

}  // namespace tandem::http
