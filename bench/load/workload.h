// What is asked: conversations, each a function of its index alone, so that the order in which a
// server answers changes nothing of what it is asked.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace tandem::load {

// One message of the user. Its text is escaped: it goes between the quotes of a JSON string.
struct Turn {
  std::string text;
  int64_t num_tokens = 0;  // of the text, about
  int64_t max_tokens = 1;  // of the reply
};

struct Conversation {
  std::vector<Turn> turns;  // each is sent when the one before was answered, with all before it
};

class Workload {
 public:
  virtual ~Workload() = default;
  virtual int64_t num_conversations() const = 0;
  // REQUIRES: 0 <= index < num_conversations().
  virtual Conversation Make(int64_t index) const = 0;
};

inline constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

struct Range {
  int64_t low = 0, high = 0;  // both included, each length equally likely
};

enum class Dataset : uint8_t { kSynthetic, kShareGpt, kTrace };

struct WorkloadOptions {
  Dataset dataset = Dataset::kSynthetic;
  std::string file;       // of a dataset that is not synthetic; gzip or plain
  Range input{128, 128};  // tokens of a user's message, beside the shared prefix
  Range output{64, 64};
  int64_t num_prefixes = 0;   // a conversation begins with one of so many texts ...
  int64_t prefix_tokens = 0;  // ... of so many tokens; 0: with none
  int64_t turns = 1;          // of a conversation; of ShareGPT: at most
  int64_t max_input = 0;      // longer prompts of a file are cut (ShareGPT: left out); 0: none
  int64_t max_output = 0;     // longer replies are not asked for; 0: as the file says
  uint64_t seed = 0;
};

struct LoadedWorkload {
  std::unique_ptr<Workload> workload;
  std::vector<Nanos> times;  // of a trace: when each conversation came, ascending, from 0
};

// Errors name file and line.
StatusOr<LoadedWorkload> LoadWorkload(const WorkloadOptions& options);

}  // namespace tandem::load
