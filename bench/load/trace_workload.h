// The prompts of recorded traffic: lengths as recorded, text made up. Equal hash ids become equal
// text, so a server's prefix cache finds what the recorded one could have found.
#pragma once

#include <vector>

#include "bench/load/trace_file.h"
#include "bench/load/workload.h"

namespace tandem::load {

class TraceWorkload : public Workload {
 public:
  TraceWorkload(std::vector<TraceRow> rows, const WorkloadOptions& options)
      : rows_(std::move(rows)), options_(options) {}
  int64_t num_conversations() const override { return static_cast<int64_t>(rows_.size()); }
  Conversation Make(int64_t index) const override;
  std::vector<Nanos> Times() const;

 private:
  std::vector<TraceRow> rows_;
  WorkloadOptions options_;
};

}  // namespace tandem::load
