// The router's metrics: the code says what happened, this knows what it is called.
// Thread: any.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/observe/metrics.h"
#include "router/routing/messages.h"

namespace tandem::http {

class Probe {
 public:
  explicit Probe(observe::Metrics& metrics);  // not owned

  void ConnectionOpened() { connections_.Add(1); }
  void ConnectionClosed() { connections_.Add(-1); }
  void ConnectionRefused() { connections_refused_.Add(); }
  void RequestStarted() { in_flight_.Add(1); }
  void RequestEnded() { in_flight_.Add(-1); }
  void Answered(int status);           // every HTTP response
  void Failed(std::string_view kind);  // an error's code: "group_lost", "client_gone", ...
  void TextPrepared(Nanos cpu, int64_t known_tokens) {
    text_cpu_.Add(Seconds(cpu));
    known_tokens_.Add(static_cast<double>(known_tokens));
  }
  void Prompt(int32_t prompt_tokens, int32_t cached_tokens);
  // `ttft`: from its receipt to the first token, or to the embedding that it was for.
  void FirstToken(Nanos ttft, bool is_embedding, Nanos queue, Nanos predicted, Nanos observed);
  void TokenGap(Nanos gap) { itl_.Observe(Seconds(gap)); }
  void OutputTokens(int n) { output_tokens_.Add(n); }
  void Retried() { retries_.Add(); }
  void KvEventGap() { kv_event_gaps_.Add(); }
  void GroupUp(const std::string& group, bool up);

  // One model's series.
  class Pool {
   public:
    void Routed(const char* reason);  // static text
    void Rejected(const std::string& why);
    struct State {
      int queued = 0;
      int in_flight = 0;         // attempts in the ledger
      int64_t index_blocks = 0;  // in memory
      double p50 = 0, p95 = 0;   // observed over predicted TTFT; 0: nothing was observed
    };
    void Look(const State& state);

   private:
    friend class Probe;
    Pool(observe::Metrics& metrics, std::string model);
    observe::Metrics& metrics_;
    std::string model_;
    observe::Gauge queued_, in_flight_, index_blocks_, p50_, p95_;
    std::map<const char*, observe::Counter> routed_;  // by reason
  };
  Pool AddPool(const std::string& model) { return {metrics_, model}; }

  // One group's series, looked up once: reports come with every step.
  struct Group {
    observe::Histogram step;
    observe::Gauge running, waiting, kv_use;
  };
  Group AddGroup(const std::string& name);
  static void Step(Group& group, const routing::GroupLoad& load);

 private:
  static double Seconds(Nanos n) { return static_cast<double>(n) / static_cast<double>(kSecond); }

  observe::Metrics& metrics_;
  observe::Gauge connections_, in_flight_;
  observe::Counter connections_refused_, prompt_tokens_, cached_tokens_, output_tokens_, retries_,
      kv_event_gaps_, text_cpu_, known_tokens_;
  observe::Histogram ttft_, embedding_, itl_, queue_, predicted_ratio_;
};

}  // namespace tandem::http
