// Structured output in a group's leader: grammars are compiled, and the vocabulary is walked, by a
// thread of their own, so that the step loop never waits for that; compiled ones are kept for the
// requests that ask for the same again.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/grammar_spec.h"
#include "common/hash.h"
#include "common/mutex.h"
#include "common/status.h"
#include "worker/engine/token_filter.h"
#include "worker/grammar/token_masks.h"

namespace tandem::worker {

class Grammars {
 public:
  // Reads the tokenizer of `model_path` on the thread. `vocab_size`: of the model, which may have
  // more ids than the tokenizer. `on_ready`: called on the thread when something is done.
  Grammars(std::string model_path, int vocab_size, std::function<void()> on_ready);
  ~Grammars();
  Grammars(const Grammars&) = delete;
  Grammars& operator=(const Grammars&) = delete;

  // Engine thread, as all that follows.
  //
  // Whether NewFilter has an answer; if not, it is being made, the shortest text first.
  bool Prepare(const grammar::GrammarSpec& spec);
  // Whether one that was being made when it was asked last is ready now.
  bool AnyDone();
  // Nobody waits for it any more.
  void Abandon(const grammar::GrammarSpec& spec);
  // REQUIRES: Prepare(spec) was true just now. Errors: the client's, or the model has no tokenizer
  // that is known here.
  StatusOr<std::unique_ptr<engine::TokenFilter>> NewFilter(const grammar::GrammarSpec& spec);

  // Compiled ones that are kept; the one used longest ago goes first.
  static constexpr size_t kMaxKept = 64;
  static constexpr int64_t kMaxBytes = int64_t{512} << 20;

 private:
  class Filter;
  struct Compiled {
    grammar::GrammarSpec spec;
    BlockHash hash;  // of the spec
    Status status;
    // With an OK status.
    std::shared_ptr<grammar::TokenMasks> masks;
    std::shared_ptr<const grammar::Vocabulary> vocabulary;
  };
  struct Todo {
    grammar::GrammarSpec spec;
    BlockHash hash;
  };
  // Of a reply that came where the vocabulary was not walked yet.
  struct Nodes {
    std::shared_ptr<grammar::TokenMasks> masks;
    std::vector<grammar::NodeId> nodes;
  };

  void Walk(Nodes nodes);
  void Run();
  Compiled Compile(Todo todo) const;
  Compiled* Find(const grammar::GrammarSpec& spec, const BlockHash& hash);
  void TakeDone();

  const std::string model_path_;
  const int vocab_size_;
  const std::function<void()> on_ready_;

  // Engine thread.
  std::list<Compiled> kept_;      // used last first
  std::vector<BlockHash> asked_;  // of the thread, and not taken yet

  // The thread.
  StatusOr<std::shared_ptr<const grammar::Vocabulary>> vocabulary_;

  Mutex mutex_;
  CondVar wake_;
  std::deque<Todo> todo_ TANDEM_GUARDED_BY(mutex_);
  std::deque<Nodes> walks_ TANDEM_GUARDED_BY(mutex_);
  std::vector<Compiled> done_ TANDEM_GUARDED_BY(mutex_);
  bool stopping_ TANDEM_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tandem::worker
