#include "worker/grammars.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "common/clock.h"
#include "common/gguf/gguf_file.h"
#include "common/grammar/grammar.h"
#include "common/huggingface/model_folder.h"
#include "common/observe/log.h"
#include "common/tokenizer/tokenizer.h"

namespace tandem::worker {
namespace {

using grammar::GrammarSpec;
using grammar::StateId;
using grammar::TokenMasks;

// Of the vocabulary's walk, ahead of replies: while the prompts of the first ones are computed,
// some milliseconds at a time, so that the next grammar need not wait. What is left is walked when
// a reply comes there.
constexpr int64_t kPrepareSlice = 500'000;
constexpr int kPrepareSlices = 40;

BlockHash HashOf(const GrammarSpec& spec) {
  BlockHash hash = HashBytes(spec.text);
  hash.high ^= static_cast<uint64_t>(spec.kind);
  return hash;
}

StatusOr<std::unique_ptr<const text::Tokenizer>> ReadTokenizer(const std::string& model_path) {
  if (huggingface::IsFolder(model_path)) return text::Tokenizer::FromFolder(model_path);
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<gguf::File> file, gguf::File::Open(model_path));
  return text::Tokenizer::FromGguf(*file);
}

StatusOr<std::shared_ptr<const grammar::Vocabulary>> ReadVocabulary(const std::string& model_path,
                                                                    int vocab_size) {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                          ReadTokenizer(model_path));
  std::vector<std::string> bytes(static_cast<size_t>(vocab_size));
  for (TokenId id = 0; id < std::min(vocab_size, tokenizer->vocab_size()); ++id) {
    if (!tokenizer->IsControl(id)) bytes[static_cast<size_t>(id)] = tokenizer->TokenText(id);
  }
  // Whatever kind the file gives them: they end replies, so they are no text of one.
  for (const TokenId id : tokenizer->end_ids()) bytes.at(static_cast<size_t>(id)).clear();
  return grammar::MakeVocabulary(std::move(bytes));
}

}  // namespace

Grammars::Grammars(std::string model_path, int vocab_size, std::function<void()> on_ready)
    : model_path_(std::move(model_path)),
      vocab_size_(vocab_size),
      on_ready_(std::move(on_ready)),
      vocabulary_(Internal("the vocabulary was not read")),
      thread_([this] { Run(); }) {}

Grammars::~Grammars() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

// The place of one sequence.
class Grammars::Filter final : public engine::TokenFilter {
 public:
  Filter(Grammars& grammars, const Compiled& compiled)
      : grammars_(grammars),
        masks_(compiled.masks),
        vocabulary_(compiled.vocabulary),
        state_(masks_->Start()) {}
  ~Filter() override { masks_->Release(state_); }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  bool Accept(TokenId token) override {
    const StateId next = masks_->Advance(state_, token);
    if (next == TokenMasks::kDead) return false;
    masks_->Release(std::exchange(state_, next));
    asked_ = false;
    return true;
  }

  Filled Fill(std::span<uint32_t> mask) override {
    switch (masks_->Fill(state_, mask, /*walk=*/false)) {
      case TokenMasks::Filled::kTokens:
        return Filled::kTokens;
      case TokenMasks::Filled::kNothing:
        return Filled::kNothing;
      case TokenMasks::Filled::kTooMuch:
        return Filled::kTooMuch;
      case TokenMasks::Filled::kPending:
        break;
    }
    if (!std::exchange(asked_, true)) grammars_.Walk({masks_, masks_->NodesOf(state_)});
    return Filled::kPending;
  }

  bool CanEnd() const override { return masks_->CanEnd(state_); }
  bool IsControl(TokenId token) const override {
    return vocabulary_->bytes[static_cast<size_t>(token)].empty();
  }

 private:
  Grammars& grammars_;
  const std::shared_ptr<TokenMasks> masks_;  // of all sequences with this grammar
  const std::shared_ptr<const grammar::Vocabulary> vocabulary_;
  StateId state_;
  bool asked_ = false;  // for what `state_` lacks
};

bool Grammars::Prepare(const GrammarSpec& spec) {
  TakeDone();
  const BlockHash hash = HashOf(spec);
  if (Find(spec, hash) != nullptr) return true;
  if (std::find(asked_.begin(), asked_.end(), hash) != asked_.end()) return false;
  asked_.push_back(hash);
  const MutexLock lock(mutex_);
  todo_.push_back({spec, hash});
  wake_.NotifyAll();
  return false;
}

bool Grammars::AnyDone() {
  const MutexLock lock(mutex_);
  return !done_.empty();
}

void Grammars::Abandon(const GrammarSpec& spec) {
  const BlockHash hash = HashOf(spec);
  const MutexLock lock(mutex_);
  // Not one that the thread has begun.
  if (std::erase_if(todo_, [&](const Todo& todo) { return todo.hash == hash; }) > 0) {
    std::erase(asked_, hash);
  }
}

void Grammars::Walk(Nodes nodes) {
  const MutexLock lock(mutex_);
  walks_.push_back(std::move(nodes));
  wake_.NotifyAll();
}

StatusOr<std::unique_ptr<engine::TokenFilter>> Grammars::NewFilter(const GrammarSpec& spec) {
  const Compiled* const compiled = Find(spec, HashOf(spec));
  if (compiled == nullptr) return Internal("the grammar is not compiled yet");
  if (!compiled->status.ok()) return compiled->status;
  return std::make_unique<Filter>(*this, *compiled);
}

Grammars::Compiled* Grammars::Find(const GrammarSpec& spec, const BlockHash& hash) {
  const auto it = std::find_if(kept_.begin(), kept_.end(), [&](const Compiled& compiled) {
    return compiled.hash == hash && compiled.spec == spec;
  });
  if (it == kept_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, it);
  return &kept_.front();
}

void Grammars::TakeDone() {
  std::vector<Compiled> done;
  {
    const MutexLock lock(mutex_);
    if (done_.empty()) return;
    done.swap(done_);
  }
  for (Compiled& compiled : done) {
    std::erase(asked_, compiled.hash);
    kept_.push_front(std::move(compiled));
  }
  int64_t bytes = 0;
  size_t kept = 0;
  for (auto it = kept_.begin(); it != kept_.end(); ++kept) {
    bytes += static_cast<int64_t>(it->spec.text.size());
    bytes += it->masks == nullptr ? 0 : it->masks->memory();
    const bool keep = kept < done.size() || (kept < kMaxKept && bytes <= kMaxBytes);
    it = keep ? std::next(it) : kept_.erase(it);
  }
}

void Grammars::Run() {
  vocabulary_ = ReadVocabulary(model_path_, vocab_size_);
  if (!vocabulary_.ok()) {
    observe::LogWarn("no structured output: {}", Message(vocabulary_.status()));
  }
  struct Preparing {
    std::shared_ptr<TokenMasks> masks;
    int slices = 0;
  };
  std::deque<Preparing> preparing;
  for (;;) {
    std::optional<Todo> todo;
    std::optional<Nodes> walk;
    {
      const MutexLock lock(mutex_);
      while (todo_.empty() && walks_.empty() && preparing.empty() && !stopping_) {
        wake_.Wait(mutex_);
      }
      if (stopping_) return;
      if (!walks_.empty()) {
        walk = std::move(walks_.front());
        walks_.pop_front();
      } else if (!todo_.empty()) {
        const auto shortest = std::min_element(
            todo_.begin(), todo_.end(),
            [](const Todo& a, const Todo& b) { return a.spec.text.size() < b.spec.text.size(); });
        todo = std::move(*shortest);
        todo_.erase(shortest);
      }
    }
    if (walk) {
      walk->masks->PrepareNodes(walk->nodes);
      on_ready_();
    } else if (todo) {
      Compiled compiled = Compile(*std::move(todo));
      if (compiled.masks != nullptr) preparing.push_back({compiled.masks});
      {
        const MutexLock lock(mutex_);
        done_.push_back(std::move(compiled));
      }
      on_ready_();
    } else {
      Preparing& first = preparing.front();
      const bool more = first.masks->Prepare(kPrepareSlice);
      if (!more || ++first.slices == kPrepareSlices) preparing.pop_front();
    }
  }
}

// What a reply begins with is found here too.
Grammars::Compiled Grammars::Compile(Todo todo) const {
  Compiled compiled;
  compiled.spec = std::move(todo.spec);
  compiled.hash = todo.hash;
  if (!vocabulary_.ok()) {
    compiled.status = vocabulary_.status();
    return compiled;
  }
  const Nanos start = MonotonicNow();
  StatusOr<grammar::Automaton> automaton = grammar::CompileGrammar(compiled.spec);
  if (!automaton.ok()) {
    compiled.status = automaton.status();
    return compiled;
  }
  auto masks = std::make_shared<TokenMasks>(*vocabulary_, std::move(automaton).value());
  const StateId first = masks->Start();
  std::vector<uint32_t> mask((static_cast<size_t>((*vocabulary_)->size) + 31) / 32);
  if (first == TokenMasks::kDead || masks->Fill(first, mask) == TokenMasks::Filled::kTooMuch) {
    compiled.status = InvalidArgument("the grammar may begin in too many ways at once");
    return compiled;
  }
  masks->Release(first);
  compiled.masks = std::move(masks);
  compiled.vocabulary = *vocabulary_;
  observe::LogDebug("a grammar of {} bytes was compiled in {} ms", compiled.spec.text.size(),
                    (MonotonicNow() - start) / kMillisecond);
  return compiled;
}

}  // namespace tandem::worker
