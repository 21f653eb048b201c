// What came of a simulated run: of each request, of each group, and the figures made of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"

namespace tandem::simulator {

// One request's fate.
struct Outcome {
  enum class End : uint8_t { kNone, kFinished, kRejected, kFailed };
  Nanos arrival = 0;
  Nanos first_token = -1;  // when the client has it; -1: never
  Nanos last_token = -1;
  Nanos predicted_ttft = 0;  // from when it was sent to its group
  Nanos sent_at = 0;
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;  // that came
  int32_t cached_tokens = 0;  // of the prompt
  int32_t group = -1;
  End end = End::kNone;
};

// Objectives of a single request; 0: none.
struct Slo {
  Nanos ttft = 0;
  Nanos itl = 0;  // mean gap between its tokens
};

// Busy time of the groups in windows of equal length.
class LoadWindows {
 public:
  LoadWindows(int num_groups, Nanos length) : num_groups_(num_groups), length_(length) {}
  void Add(int group, Nanos end, Nanos duration);  // attributed to the window in which it ends
  struct Share {
    double mean = 0, max = 0;  // over groups, of the window
  };
  std::vector<Share> Shares() const;
  Nanos length() const { return length_; }

 private:
  int num_groups_;
  Nanos length_;
  std::vector<Nanos> busy_;  // [windows, num_groups]
};

// Milliseconds, but for `count`.
struct Summary {
  int64_t count = 0;
  double mean = 0, p50 = 0, p95 = 0, p99 = 0;
};
// Percentiles by nearest rank: each is a value that occurred. Reorders `values_ms`.
Summary Summarize(std::vector<float>& values_ms);

struct RawResult {
  std::vector<Outcome> outcomes;  // by request
  std::vector<float> itl_ms;      // every gap between two tokens of a reply
  std::vector<Nanos> busy;        // by group
  LoadWindows windows{0, kSecond};
  Nanos duration = 0;  // first arrival to last event
  int64_t num_steps = 0;
  int64_t num_preemptions = 0;
};

struct PolicyResult {
  std::string name;
  int64_t requests = 0, finished = 0, rejected = 0, failed = 0;
  double duration_s = 0;
  Summary ttft, itl, e2e;
  double hit_rate = 0;     // prompt tokens found in a group's cache, of all of finished requests
  double goodput = 0;      // finished requests a second that met the objectives
  double imbalance = 0;    // busy time of the busiest group over the mean; 1: even
  double utilization = 0;  // mean share of time that groups were busy
  double prediction_p50 = 0, prediction_p95 = 0;  // predicted TTFT over observed, from sending
  int64_t preemptions = 0;
  std::vector<float> ttft_cdf_ms;  // 0th, 0.5th, ... 100th percentile
  std::vector<LoadWindows::Share> load;
  double load_window_s = 0;
};

PolicyResult Evaluate(const std::string& name, RawResult& raw, const Slo& slo);

}  // namespace tandem::simulator
