// Groups that exist only as messages: what the tests put in the place of router/link. Test code
// says what a group hears and answers; reports reach the router from a thread of the test, as the
// link's would.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "router/routing/messages.h"

namespace tandem::http {

class FakeGroups : public routing::GroupPort {
 public:
  struct CancelMessage {
    GroupId group;
    RequestId request = 0;
    uint32_t attempt = 0;
    uint32_t index = 0;
  };
  struct Sent {
    GroupId group;
    routing::GenerateRequest request;
  };

  explicit FakeGroups(routing::GroupListener& listener) : listener_(listener) {}

  void Send(GroupId group, routing::GenerateRequest request) override {
    MutexLock lock(mutex_);
    sent_.push_back({group, std::move(request)});
    changed_.NotifyAll();
  }
  void Cancel(GroupId group, RequestId request, uint32_t attempt, uint32_t index) override {
    MutexLock lock(mutex_);
    cancels_.push_back({group, request, attempt, index});
    changed_.NotifyAll();
  }

  // Waits for the next one; fails the test after ten seconds.
  Sent WaitSent() { return WaitFor(sent_, "Generate"); }
  CancelMessage WaitCancel() { return WaitFor(cancels_, "Cancel"); }
  bool HasSent() {
    MutexLock lock(mutex_);
    return !sent_.empty();
  }

  GroupId Up(const std::string& name, int max_context = 512, const std::string& model = "tiny",
             int embedding_size = 4) {
    routing::GroupInfo info;
    info.id = GroupId{next_group_++};
    info.name = name;
    info.model = model;
    info.hash_seed = "seed";
    info.block_size = 16;
    info.tp = 2;
    info.device_class = "cpu/test";
    info.max_context = max_context;
    info.max_seqs = 64;
    info.max_step_tokens = 256;
    info.num_blocks = std::max(64, max_context / 16);
    info.embedding_size = embedding_size;
    listener_.OnGroupUp(info);
    return info.id;
  }
  void Lose(GroupId group, const std::string& reason) { listener_.OnGroupLost(group, reason); }
  void StartDraining(GroupId group) { listener_.OnGroupDraining(group); }

  // One step with tokens of one sequence.
  void Answer(const Sent& to, std::vector<TokenId> tokens, int first_index,
              routing::FinishReason finish = routing::FinishReason::kNone,
              std::vector<routing::TokenLogprob> logprobs = {}) {
    routing::SequenceTokens sequence;
    sequence.request = to.request.request;
    sequence.attempt = to.request.attempt;
    sequence.index = to.request.index;
    sequence.logprobs = std::move(logprobs);
    sequence.first_index = first_index;
    sequence.tokens = std::move(tokens);
    sequence.finish = finish;
    sequence.timings.queue = 1000;
    sequence.timings.prefill = 20000;
    sequence.timings.num_computed_tokens = static_cast<int>(to.request.prompt.size()) - cached_;
    sequence.timings.num_cached_tokens = cached_;
    if (finish == routing::FinishReason::kError) sequence.error = "a step failed";
    Report(to.group, {sequence});
  }
  void AnswerEmbedding(const Sent& to, std::vector<float> embedding) {
    routing::SequenceTokens sequence;
    sequence.request = to.request.request;
    sequence.attempt = to.request.attempt;
    sequence.embedding = std::move(embedding);
    sequence.finish = routing::FinishReason::kStop;
    sequence.timings.num_cached_tokens = cached_;
    Report(to.group, {sequence});
  }
  // Ends it with an error before the first token.
  void Refuse(const Sent& to, routing::ErrorKind kind, std::string why) {
    routing::SequenceTokens sequence;
    sequence.request = to.request.request;
    sequence.attempt = to.request.attempt;
    sequence.finish = routing::FinishReason::kError;
    sequence.error = std::move(why);
    sequence.error_kind = kind;
    Report(to.group, {sequence});
  }
  // A step of `prefill_tokens` that took `duration`: how fast the group is taken to be.
  void Calibrate(GroupId group, int prefill_tokens, Nanos duration) {
    routing::StepReport report;
    report.group = group;
    report.load.total_blocks = report.load.free_blocks = 1024;
    report.load.step = 1;
    report.load.step_duration = duration;
    report.load.step_prefill_tokens = prefill_tokens;
    report.received_at = MonotonicNow();
    listener_.OnStep(std::move(report));
  }
  void Report(GroupId group, std::vector<routing::SequenceTokens> sequences,
              std::vector<routing::KvEvent> events = {}) {
    routing::StepReport report;
    report.group = group;
    report.sequences = std::move(sequences);
    report.kv_events = std::move(events);
    report.load.total_blocks = report.load.free_blocks = 1024;
    report.load.step_duration = kMillisecond;
    report.load.step_decodes = 1;
    report.received_at = MonotonicNow();
    listener_.OnStep(std::move(report));
  }

  int cached_ = 0;  // num_cached_tokens of answers

 private:
  template <class T>
  T WaitFor(std::deque<T>& queue, const char* what) {
    MutexLock lock(mutex_);
    const Nanos until = MonotonicNow() + 10 * kSecond;
    while (queue.empty() && MonotonicNow() < until) {
      changed_.WaitFor(mutex_, std::chrono::milliseconds(200));
    }
    if (queue.empty()) {
      ADD_FAILURE() << "no " << what << " came";
      return {};
    }
    T front = std::move(queue.front());
    queue.pop_front();
    return front;
  }

  routing::GroupListener& listener_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Sent> sent_;
  std::deque<CancelMessage> cancels_;
  int next_group_ = 0;
};

}  // namespace tandem::http
