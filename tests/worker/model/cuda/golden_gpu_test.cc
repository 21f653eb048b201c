// The real model on a GPU against independent software, teacher-forced: what deploy/gpu_check.sh
// runs. For the emulation, TANDEM_GOLDEN_PROMPT: this one alone; TANDEM_GOLDEN_TOKENS: so many.
#include <gtest/gtest.h>

#include <optional>

#include "kernels/comm/local_communicator.h"
#include "tests/worker/model/golden.h"
#include "tests/worker/model/script.h"
#include "worker/model/cuda/backend.h"
#include "worker/model/cuda/gpu_llama_runner.h"

namespace tandem::model::cuda {
namespace {

constexpr int kBlocks = 512;

std::optional<size_t> FromEnvironment(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  return std::strtoul(text, nullptr, 10);
}

Golden SomeOfGolden() {
  Golden golden = LoadGolden();
  if (const auto prompt = FromEnvironment("TANDEM_GOLDEN_PROMPT")) {
    golden.prompts = {golden.prompts.at(*prompt)};
    golden.tokens = {golden.tokens.at(*prompt)};
    golden.top_ids = {golden.top_ids.at(*prompt)};
    golden.reference = {golden.reference.at(*prompt)};
  }
  if (const auto tokens = FromEnvironment("TANDEM_GOLDEN_TOKENS")) {
    for (auto& sequence : golden.tokens) sequence.resize(std::min(*tokens, sequence.size()));
    for (auto& sequence : golden.reference) sequence.resize(std::min(*tokens, sequence.size()));
  }
  return golden;
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
  options.cuda_graphs = !FromEnvironment("TANDEM_GOLDEN_PROMPT");
  kernels::LocalCommunicator comm;
  auto file = ModelSource::Open(options.model_path);
  TANDEM_CHECK(file.ok()) << Message(file.status());
  auto runner = GpuLlamaRunner::Make(options, std::move(file).value(), comm);
  TANDEM_CHECK(runner.ok()) << Message(runner.status());
  TANDEM_CHECK((*runner)->Prepare(kBlocks).ok());
  Positions positions = PositionsOf(golden);
  const auto plans = MakeScript(ForcedSequences(golden));
  std::vector<RowResult> results(options.max_seqs);
  for (size_t step = 0; step < plans.size(); ++step) {
    const Status status = (*runner)->Run(plans[step].View(step + 1), results);
    TANDEM_CHECK(status.ok()) << Message(status);
    const auto logits = (*runner)->Logits();
    TANDEM_CHECK(logits.ok()) << Message(logits.status());
    const int vocab = (*runner)->info().vocab_size;
    for (size_t row = 0; row < plans[step].rows.size(); ++row) {  // every one samples
      const int sequence = plans[step].sequences[row];
      positions[sequence][step] =
          ReadRow(logits->data() + row * vocab, vocab, golden.top_ids[sequence][step]);
    }
  }
  return positions;
}

// Bounds: those of the CPU's int8 path against the same reference are 7e-3 and two flips.
TEST(GoldenGpu, IsTheReferenceUpToTheRoundingOfActivations) {
  const Golden golden = SomeOfGolden();
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
