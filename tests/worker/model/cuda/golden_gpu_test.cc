// The real model on a GPU against independent software, teacher-forced: what deploy/gpu_check.sh
// runs. TANDEM_GOLDEN_SMALL=1, for the emulation: a few tokens of a few prompts.
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "kernels/comm/local_communicator.h"
#include "tests/worker/model/golden.h"
#include "tests/worker/model/script.h"
#include "worker/model/cuda/backend.h"
#include "worker/model/cuda/gpu_llama_runner.h"

namespace tandem::model::cuda {
namespace {

constexpr int kBlocks = 512;

bool IsSmall() { return std::getenv("TANDEM_GOLDEN_SMALL") != nullptr; }

// What takes the emulation seconds is a pass over the weights, whatever it computes for up to eight
// tokens. Four of these: a prompt whole, one of a single token, one in chunks that ends in its
// second block, and decodes beside them.
struct Small {
  size_t prompt;
  int num_new, first_step, chunk;
};
constexpr Small kSmall[] = {{10, 4, 0, 8}, {18, 3, 1, 1}, {12, 1, 1, 6}};

Golden SomeOf(const Golden& all) {
  Golden some;
  for (const Small& small : kSmall) {
    some.prompts.push_back(all.prompts.at(small.prompt));
    some.tokens.push_back(all.tokens.at(small.prompt));
    some.tokens.back().resize(small.num_new);
    some.top_ids.push_back(all.top_ids.at(small.prompt));
    some.reference.push_back(all.reference.at(small.prompt));
    some.reference.back().resize(small.num_new);
  }
  return some;
}

std::vector<TestSequence> Sequences(const Golden& golden) {
  std::vector<TestSequence> sequences = ForcedSequences(golden);
  for (size_t i = 0; IsSmall() && i < sequences.size(); ++i) {
    sequences[i].first_step = kSmall[i].first_step;
    sequences[i].chunk = kSmall[i].chunk;
  }
  return sequences;
}

Positions Compute(const Golden& golden, const char* activations) {
  ShardOptions options;
  options.model_path = ModelPath();
  options.activation_dtype = options.kv_cache_dtype = activations;
  options.kv_memory_bytes = int64_t{256} << 20;
  options.max_seqs = static_cast<int>(golden.prompts.size());
  options.max_step_tokens = 1536;
  options.max_context = 1024;
  options.gpu = &Backend();
  options.device_index = 0;
  // At start-up a step of every size: the emulation's time is for what is compared.
  options.cuda_graphs = !IsSmall();
  kernels::LocalCommunicator comm;
  auto file = ModelSource::Open(options.model_path);
  TANDEM_CHECK(file.ok()) << Message(file.status());
  auto runner = GpuLlamaRunner::Make(options, std::move(file).value(), comm);
  TANDEM_CHECK(runner.ok()) << Message(runner.status());
  TANDEM_CHECK((*runner)->Prepare(kBlocks).ok());
  Positions positions = PositionsOf(golden);
  const auto plans = MakeScript(Sequences(golden));
  std::vector<size_t> sampled(positions.size());
  std::vector<RowResult> results(options.max_seqs);
  for (size_t step = 0; step < plans.size(); ++step) {
    const Status status = (*runner)->Run(plans[step].View(step + 1), results);
    TANDEM_CHECK(status.ok()) << Message(status);
    const auto logits = (*runner)->Logits();
    TANDEM_CHECK(logits.ok()) << Message(logits.status());
    const int vocab = (*runner)->info().vocab_size;
    const float* of_row = logits->data();
    for (size_t row = 0; row < plans[step].rows.size(); ++row) {
      if (!(plans[step].rows[row].flags & kRowSample)) continue;
      const int sequence = plans[step].sequences[row];
      const size_t at = sampled[sequence]++;
      positions[sequence][at] = ReadRow(of_row, vocab, golden.top_ids[sequence][at]);
      of_row += vocab;
    }
  }
  return positions;
}

// Bounds: those of the CPU's int8 path against the same reference are 7e-3 and two flips.
TEST(GoldenGpu, IsTheReferenceUpToTheRoundingOfActivations) {
  const Golden golden = IsSmall() ? SomeOf(LoadGolden()) : LoadGolden();
  for (const auto& [activations, bound] : {std::pair("bf16", 1e-2), std::pair("f16", 1e-3)}) {
    const Positions ours = Compute(golden, activations);
    const double kl = MeanKl(golden.reference, ours);
    std::cout << activations << ": mean KL to the reference " << kl << ", same greedy token "
              << ShareOfSameGreedy(golden, ours) << "\n";
    EXPECT_LT(kl, bound) << activations;
    EXPECT_LE(ClearFlips(golden, ours), activations == std::string("f16") ? 0 : 4);
  }
}

}  // namespace
}  // namespace tandem::model::cuda
