// The real model over the golden prompts, with the reference's tokens forced, all in one batch.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/support/spawn_ranks.h"
#include "tests/worker/model/golden.h"
#include "tests/worker/model/script.h"
#include "worker/model/llama_runner.h"

namespace tandem::model {

inline ShardOptions ForcedOptions(std::string model_path, const char* activations, const char* kv) {
  ShardOptions options;
  options.model_path = std::move(model_path);
  options.activation_dtype = activations;
  options.kv_cache_dtype = kv;
  options.kv_memory_bytes = int64_t{512} << 20;
  options.max_seqs = 32;
  options.max_step_tokens = 1536;
  options.max_context = 1024;
  return options;
}

// on_row(sequence, position, logits, vocabulary) in the thread of the rank that samples it, each
// once.
template <class OnRow>
void RunForced(const Golden& golden, const ShardOptions& options, int tp, OnRow&& on_row) {
  constexpr int kBlocks = 512;
  const auto plans = MakeScript(ForcedSequences(golden));
  tandem::testing::SpawnRanks(tp, [&](kernels::Communicator& comm) {
    auto file = ModelSource::Open(options.model_path);
    TANDEM_CHECK(file.ok()) << Message(file.status());
    auto runner = LlamaRunner::Make(options, std::move(file).value(), comm);
    TANDEM_CHECK(runner.ok()) << Message(runner.status());
    TANDEM_CHECK((*runner)->Prepare(kBlocks).ok());
    std::vector<RowResult> results(options.max_seqs);
    for (size_t step = 0; step < plans.size(); ++step) {
      const Status status = (*runner)->Run(plans[step].View(step + 1), results);
      TANDEM_CHECK(status.ok()) << Message(status);
      const kernels::TensorView logits = (*runner)->logits();
      for (int i = 0; i < logits.rows; ++i) {  // every row of every step samples
        on_row(plans[step].sequences[i * tp + comm.rank()], step, logits.row(i),
               static_cast<int>(logits.cols));
      }
    }
  });
}

}  // namespace tandem::model
