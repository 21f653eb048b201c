// A Hugging Face folder in BF16 on a GPU, every logit beside transformers': Granite's, whose
// embeddings, residuals, scores and logits all have factors.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <fstream>
#include <iterator>

#include "kernels/comm/local_communicator.h"
#include "tests/worker/model/script.h"
#include "worker/model/cuda/backend.h"
#include "worker/model/cuda/gpu_llama_runner.h"

namespace tandem::model::cuda {
namespace {

constexpr const char* kFolder = "tests/golden/checkpoints/granite";
constexpr const char* kGolden = "tests/golden/checkpoints/granite/golden.json";
constexpr int kBlocks = 16;

struct Golden {
  std::vector<TokenId> tokens;
  std::vector<int> positions;
  std::vector<std::vector<double>> logits, logits_bf16;  // by position
};

Golden LoadGolden() {
  using boost::json::value_to;
  std::ifstream file(kGolden);
  TANDEM_CHECK(file.good()) << "no golden.json: the working directory is the repository's root";
  const auto record = boost::json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
  return {value_to<std::vector<TokenId>>(record.at("token_ids")),
          value_to<std::vector<int>>(record.at("positions")),
          value_to<std::vector<std::vector<double>>>(record.at("logits")),
          value_to<std::vector<std::vector<double>>>(record.at("logits_bf16"))};
}

// [tokens, vocabulary]: the logits after each token from the prompt's last one on; the others' rows
// are empty.
using Rows = std::vector<std::vector<float>>;

// Teacher-forced: 16 tokens, the rest decoded one by one, by graphs or launch by launch.
Rows Compute(const Golden& golden, const char* activations, bool graphs) {
  constexpr int kPrompt = 16;
  const auto& t = golden.tokens;
  ShardOptions options;
  options.model_path = kFolder;
  options.activation_dtype = options.kv_cache_dtype = activations;
  options.kv_memory_bytes = 4 << 20;
  options.max_seqs = 1;
  options.gpu = &Backend();
  options.cuda_graphs = graphs;
  kernels::LocalCommunicator comm;
  auto source = ModelSource::Open(options.model_path);
  TANDEM_CHECK(source.ok()) << Message(source.status());
  auto runner = GpuLlamaRunner::Make(options, std::move(source).value(), comm);
  TANDEM_CHECK(runner.ok()) << Message(runner.status());
  TANDEM_CHECK((*runner)->Prepare(kBlocks).ok());
  const auto plans = MakeScript({{.prompt = {t.begin(), t.begin() + kPrompt},
                                  .num_new = static_cast<int>(t.size()) - kPrompt + 1,
                                  .forced = {t.begin() + kPrompt, t.end()}}});
  std::vector<RowResult> results(1);
  Rows rows(kPrompt - 1);
  for (size_t step = 0; step < plans.size(); ++step) {
    const Status status = (*runner)->Run(plans[step].View(step + 1), results);
    TANDEM_CHECK(status.ok()) << Message(status);
    auto logits = (*runner)->Logits();
    TANDEM_CHECK(logits.ok()) << Message(logits.status());
    rows.push_back(std::move(logits).value());
  }
  return rows;
}

// How far all logits together are from the expected ones, by Euclid.
double Distance(const Golden& golden, const Rows& rows,
                const std::vector<std::vector<double>>& expected) {
  double squares = 0, all = 0;
  for (size_t i = 0; i < golden.positions.size(); ++i) {
    const std::vector<float>& row = rows.at(golden.positions[i]);
    TANDEM_CHECK(row.size() == expected[i].size()) << row.size() << " logits";
    for (size_t k = 0; k < row.size(); ++k) {
      squares += (row[k] - expected[i][k]) * (row[k] - expected[i][k]);
      all += expected[i][k] * expected[i][k];
    }
  }
  return std::sqrt(squares / all);
}

// bf16 has 8 bits, f16 11, and every weight here is exact in both.
TEST(GpuCheckpoint, LogitsAreThoseOfTransformers) {
  const Golden golden = LoadGolden();
  const Rows f16 = Compute(golden, "f16", /*graphs=*/true);
  const double f16_distance = Distance(golden, f16, golden.logits);
  EXPECT_LT(f16_distance, 1e-2 / 8);
  const double bf16_distance =
      Distance(golden, Compute(golden, "bf16", /*graphs=*/true), golden.logits_bf16);
  EXPECT_LT(bf16_distance, 1e-2);
  std::printf("distance to transformers: f16 to float32 %.5f, bf16 to bfloat16 %.5f\n",
              f16_distance, bf16_distance);
  EXPECT_EQ(Compute(golden, "f16", /*graphs=*/false), f16) << "graphs change bits";
}

}  // namespace
}  // namespace tandem::model::cuda
