#include "tests/router/routing/group_model.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/prompt_order.h"

namespace tandem::routing::testing {

std::vector<TokenId> UniquePrompt(int num_tokens, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<TokenId> tokens(static_cast<size_t>(num_tokens));
  for (TokenId& token : tokens) token = static_cast<TokenId>(rng() % 1'000'000);
  return tokens;
}

Nanos Quantile(std::vector<Nanos> values, double q) {
  TANDEM_CHECK(!values.empty()) << "no values";
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

Cluster::Cluster(const GroupModelOptions& options, const DispatcherOptions& dispatcher,
                 std::string_view policy, uint64_t seed)
    : options_(options), dispatcher_(dispatcher, MakePolicy(policy).value(), seed) {
  for (int g = 0; g < options.num_groups; ++g) {
    Group& group = groups_.emplace_back();
    group.info.id = GroupId{g};
    group.info.name = "group" + std::to_string(g);
    group.info.hash_seed = "seed";
    group.info.block_size = options.block_size;
    group.info.device_class = "model";
    group.info.max_context = 1 << 20;
    group.info.max_seqs = 256;
    group.info.max_step_tokens = options.max_step_tokens;
    group.info.num_blocks = 1 << 20;
    if (static_cast<size_t>(g) < options.speed.size()) {
      group.speed = options.speed[static_cast<size_t>(g)];
    }
    dispatcher_.GroupUp(group.info, now_);
  }
}

std::vector<Outcome> Cluster::Run(std::vector<Arrival> arrivals) {
  arrivals_ = std::move(arrivals);
  outcomes_.assign(arrivals_.size(), {});
  for (size_t i = 0; i < arrivals_.size(); ++i) Push(now_ + arrivals_[i].at, 0, i);
  for (const auto& [at, group] : losses_) Push(now_ + at, 2, static_cast<size_t>(group.value));
  while (!events_.empty()) {
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    if (event.kind == 0) Submit(event.index, 0);
    if (event.kind == 1) EndStep(groups_[event.index]);
    if (event.kind == 2) Lose(groups_[event.index]);
    Poll();
  }
  return outcomes_;
}

void Cluster::Submit(size_t i, uint32_t attempt) {
  const Arrival& a = arrivals_[i];
  const Decision decision = dispatcher_.Submit({.id = i + 1,
                                                .attempt = attempt,
                                                .prompt = a.prompt,
                                                .cache_salt = {},
                                                .max_tokens = a.max_tokens,
                                                .priority = a.priority,
                                                .deadline = a.deadline,
                                                .client = a.client,
                                                .session = 0},
                                               now_);
  if (const auto* dispatch = std::get_if<Dispatch>(&decision)) Start(*dispatch);
  if (const auto* rejection = std::get_if<Rejection>(&decision)) Settle(*rejection);
}

void Cluster::Settle(const Rejection& rejection) {
  Outcome& outcome = outcomes_[rejection.id - 1];
  TANDEM_CHECK(!outcome.rejected && outcome.ended < 0) << rejection.id << " is settled twice";
  outcome.rejected = true;
  outcome.rejection = rejection;
}

void Cluster::Start(const Dispatch& dispatch) {
  Group& group = groups_[static_cast<size_t>(dispatch.group.value)];
  const Arrival& a = arrivals_[dispatch.id - 1];
  outcomes_[dispatch.id - 1].dispatch = dispatch;
  Sequence seq{.id = dispatch.id,
               .attempt = dispatch.attempt,
               .length = static_cast<int32_t>(a.prompt.size()),
               .priority = dispatch.priority,
               .to_decode = a.max_tokens,
               .arrival = now_};
  const size_t block = static_cast<size_t>(options_.block_size);
  BlockHash hash = RootHash("seed", {});
  const std::span<const TokenId> tokens(a.prompt);
  bool cached = true;
  for (size_t b = 0; (b + 1) * block < tokens.size(); ++b) {
    seq.chain.push_back(hash = HashBlock(hash, tokens.subspan(b * block, block)));
    cached = cached && group.cache.contains(hash);
    if (cached) seq.cached += options_.block_size;
  }
  seq.remaining = seq.length - seq.cached;
  group.last_seen = dispatch.id;
  group.sequences.push_back(std::move(seq));
  if (!group.running) BeginStep(group);
}

void Cluster::BeginStep(Group& group) {
  if (group.sequences.empty() || !group.up) return;
  group.chunks.clear();
  group.work = {.num_steps = 1};
  std::vector<Sequence*> prefills;
  for (Sequence& seq : group.sequences) {
    if (seq.remaining == 0) {
      group.chunks.emplace_back(seq.id, 0);
      ++group.work.num_decodes;
      group.work.context_tokens += seq.length + seq.num_output;
    } else {
      prefills.push_back(&seq);
    }
  }
  const auto score = [&](const Sequence* s) {
    return PromptScore(s->remaining, now_ - s->arrival, s->priority);
  };
  std::stable_sort(prefills.begin(), prefills.end(),
                   [&](auto* a, auto* b) { return score(a) < score(b); });
  int32_t left = options_.max_step_tokens - group.work.num_decodes;
  for (const Sequence* seq : prefills) {
    const int32_t kept =  // engine.planning.patient
        seq->priority < 0 ? options_.max_step_tokens - options_.max_step_tokens / kPatientPart : 0;
    const int32_t chunk = std::min(left - kept, seq->remaining);
    if (chunk <= 0) continue;
    group.chunks.emplace_back(seq->id, chunk);
    group.work.prefill_tokens += chunk;
    group.work.prefill_attention +=
        static_cast<int64_t>(AttentionWork(seq->length - seq->remaining, chunk));
    left -= chunk;
  }
  const double seconds =
      group.speed * (options_.base + options_.per_token * group.work.prefill_tokens +
                     options_.per_decode * group.work.num_decodes);
  group.running = true;
  group.began = now_;
  Push(now_ + static_cast<Nanos>(seconds * kSecond), 1, static_cast<size_t>(group.info.id.value));
}

void Cluster::EndStep(Group& group) {
  if (!group.up) return;
  StepReport report;
  report.group = group.info.id;
  report.received_at = now_;
  GroupLoad& load = report.load;
  load.step = ++group.step;
  load.step_duration = now_ - group.began;
  load.step_prefill_tokens = group.work.prefill_tokens;
  load.step_prefill_attention = group.work.prefill_attention;
  load.step_decodes = group.work.num_decodes;
  load.step_context_tokens = group.work.context_tokens;
  for (const auto& [id, chunk] : group.chunks) {
    const auto it = std::find_if(group.sequences.begin(), group.sequences.end(),
                                 [id = id](const Sequence& s) { return s.id == id; });
    Sequence& seq = *it;
    seq.remaining -= chunk;
    const auto computed = static_cast<size_t>((seq.length - seq.remaining) / options_.block_size);
    for (size_t b = 0; b < std::min(computed, seq.chain.size()); ++b) {
      if (!group.cache.insert(seq.chain[b]).second) continue;
      report.kv_events.push_back({++group.last_event, KvEvent::Kind::kStored, seq.chain[b],
                                  b == 0 ? RootHash("seed", {}) : seq.chain[b - 1]});
    }
    if (seq.remaining > 0) continue;
    SequenceTokens tokens;
    tokens.request = seq.id;
    tokens.attempt = seq.attempt;
    tokens.first_index = seq.num_output;
    tokens.tokens = {1};
    Outcome& outcome = outcomes_[seq.id - 1];
    const Nanos since = now_ - kSecond - arrivals_[seq.id - 1].at;
    if (++seq.num_output == 1 && outcome.ttft < 0) outcome.ttft = since;
    if (seq.num_output == seq.to_decode) {
      tokens.finish = FinishReason::kLength;
      outcome.ended = since;
    }
    report.sequences.push_back(std::move(tokens));
  }
  std::erase_if(group.sequences, [](const Sequence& s) { return s.num_output == s.to_decode; });
  group.running = false;
  for (const Sequence& seq : group.sequences) {
    if (seq.remaining == 0) {
      ++load.num_running;
      load.context_tokens += seq.length + seq.num_output;
    } else {
      ++load.num_waiting;
      load.queued_tokens += seq.remaining;
      if (load.queue.size() < 64) {
        load.queue.push_back({seq.remaining, seq.length, now_ - seq.arrival, seq.priority});
      }
    }
  }
  load.last_request_seen = group.last_seen;
  dispatcher_.OnReport(report);
  BeginStep(group);
}

void Cluster::Lose(Group& group) {
  group.up = false;
  group.sequences.clear();
  for (const Attempt& attempt : dispatcher_.GroupLost(group.info.id)) {
    Submit(attempt.key.request - 1, attempt.key.attempt + 1);
  }
}

void Cluster::Poll() {
  std::vector<Dispatch> dispatches;
  std::vector<Rejection> rejections;
  dispatcher_.Poll(now_, dispatches, rejections);
  for (const Dispatch& dispatch : dispatches) Start(dispatch);
  for (const Rejection& rejection : rejections) Settle(rejection);
  const Nanos wake = dispatcher_.next_wake();
  if (wake > now_ && wake != wake_) Push(wake_ = wake, 3, 0);
}

}  // namespace tandem::routing::testing
