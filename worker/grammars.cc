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

class MaskFilter final : public engine::TokenFilter {
 public:
  MaskFilter(std::shared_ptr<TokenMasks> masks, std::shared_ptr<const grammar::Vocabulary> tokens)
      : masks_(std::move(masks)), vocabulary_(std::move(tokens)), state_(masks_->Start()) {}
  ~MaskFilter() override { masks_->Release(state_); }
  MaskFilter(const MaskFilter&) = delete;
  MaskFilter& operator=(const MaskFilter&) = delete;

  bool Accept(TokenId token) override {
    const StateId next = masks_->Advance(state_, token);
    if (next == TokenMasks::kDead) return false;
    masks_->Release(std::exchange(state_, next));
    return true;
  }
  bool Fill(std::span<uint32_t> mask) override {
    masks_->Fill(state_, mask);
    return std::any_of(mask.begin(), mask.end(), [](uint32_t word) { return word != 0; });
  }
  bool CanEnd() const override { return masks_->CanEnd(state_); }
  bool IsControl(TokenId token) const override {
    return vocabulary_->bytes[static_cast<size_t>(token)].empty();
  }

 private:
  const std::shared_ptr<TokenMasks> masks_;  // of all sequences with this grammar
  const std::shared_ptr<const grammar::Vocabulary> vocabulary_;
  StateId state_;
};

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

bool Grammars::Prepare(const GrammarSpec& spec) {
  TakeDone();
  if (Find(spec) != nullptr) return true;
  if (std::find(asked_.begin(), asked_.end(), spec) != asked_.end()) return false;
  asked_.push_back(spec);
  const MutexLock lock(mutex_);
  todo_.push_back(spec);
  wake_.NotifyAll();
  return false;
}

StatusOr<std::unique_ptr<engine::TokenFilter>> Grammars::NewFilter(const GrammarSpec& spec) {
  const Compiled* const compiled = Find(spec);
  if (compiled == nullptr) return Internal("the grammar is not compiled yet");
  if (!compiled->status.ok()) return compiled->status;
  return std::make_unique<MaskFilter>(compiled->masks, compiled->vocabulary);
}

Grammars::Compiled* Grammars::Find(const GrammarSpec& spec) {
  const auto it = std::find_if(kept_.begin(), kept_.end(),
                               [&](const Compiled& compiled) { return compiled.spec == spec; });
  if (it == kept_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, it);
  return &kept_.front();
}

void Grammars::TakeDone() {
  std::vector<Compiled> done;
  {
    const MutexLock lock(mutex_);
    done.swap(done_);
  }
  for (Compiled& compiled : done) {
    std::erase(asked_, compiled.spec);
    kept_.push_front(std::move(compiled));
  }
  int nodes = 0;
  size_t kept = 0;
  for (auto it = kept_.begin(); it != kept_.end(); ++kept) {
    nodes += it->masks == nullptr ? 0 : it->masks->num_nodes();
    const bool keep = kept == 0 || (kept < kMaxKept && nodes <= kMaxNodes);
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
    std::optional<GrammarSpec> spec;
    {
      const MutexLock lock(mutex_);
      while (todo_.empty() && preparing.empty() && !stopping_) wake_.Wait(mutex_);
      if (stopping_) return;
      if (!todo_.empty()) {
        spec = std::move(todo_.front());
        todo_.pop_front();
      }
    }
    if (!spec) {
      Preparing& first = preparing.front();
      const bool more = first.masks->Prepare(kPrepareSlice);
      if (!more || ++first.slices == kPrepareSlices) preparing.pop_front();
      continue;
    }
    Compiled compiled = Compile(*std::move(spec));
    if (compiled.masks != nullptr) preparing.push_back({compiled.masks});
    {
      const MutexLock lock(mutex_);
      done_.push_back(std::move(compiled));
    }
    on_ready_();
  }
}

Grammars::Compiled Grammars::Compile(GrammarSpec spec) const {
  Compiled compiled;
  compiled.spec = std::move(spec);
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
  compiled.vocabulary = *vocabulary_;
  compiled.masks = std::make_shared<TokenMasks>(*vocabulary_, std::move(automaton).value());
  observe::LogDebug("a grammar of {} bytes was compiled in {} ms", compiled.spec.text.size(),
                    (MonotonicNow() - start) / kMillisecond);
  return compiled;
}

}  // namespace tandem::worker
