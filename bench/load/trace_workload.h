// The prompts of recorded traffic: lengths as recorded, text made up. Equal hash ids become equal
// text, so a server's prefix cache finds what the recorded one could have found.
#pragma once

#include <utility>
#include <vector>

#include "bench/load/workload.h"
#include "bench/trace/trace.h"

namespace tandem::load {

class TraceWorkload : public Workload {
 public:
  TraceWorkload(trace::Trace trace, const WorkloadOptions& options)
      : trace_(std::move(trace)), options_(options) {}
  int64_t num_conversations() const override {
    return static_cast<int64_t>(trace_.requests.size());
  }
  Conversation Make(int64_t index) const override;
  std::vector<Nanos> Times() const;

 private:
  trace::Trace trace_;
  WorkloadOptions options_;
};

}  // namespace tandem::load
