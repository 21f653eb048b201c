// Real conversations from a file in the ShareGPT format:
//   [{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}]
// The human's messages are sent; the reply recorded after each says how long one is asked for.
// Later turns carry what the server under test replied, not what was recorded.
#pragma once

#include <string>
#include <vector>

#include "bench/load/workload.h"

namespace tandem::load {

class ShareGptWorkload : public Workload {
 public:
  // In an order drawn from the seed. Lengths in tokens are guessed: four bytes each. Conversations
  // that do not begin with a message and its reply, or with one over max_input, are left out.
  static StatusOr<std::unique_ptr<ShareGptWorkload>> Read(const WorkloadOptions& options);

  int64_t num_conversations() const override { return static_cast<int64_t>(conversations_.size()); }
  Conversation Make(int64_t index) const override {
    return conversations_[static_cast<size_t>(index)];
  }

 private:
  std::vector<Conversation> conversations_;
};

}  // namespace tandem::load
