// Random lengths, shared prefixes, several turns: one endless workload with all three as options.
#pragma once

#include "bench/load/workload.h"

namespace tandem::load {

class SyntheticWorkload : public Workload {
 public:
  explicit SyntheticWorkload(const WorkloadOptions& options) : options_(options) {}
  int64_t num_conversations() const override { return kEndless; }
  Conversation Make(int64_t index) const override;

 private:
  WorkloadOptions options_;
};

}  // namespace tandem::load
