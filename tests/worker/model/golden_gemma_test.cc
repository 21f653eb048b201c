// Gemma 3 270M as it is published in Q4_K_M (types Q4_K, Q5_0, Q6_K, Q8_0; windows of 512 that the
// longest prompt is beyond), against transformers, with the reference's tokens forced.
// tests/golden/README.md says how the golden data was made.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <iostream>
#include <string>

#include "common/gguf/gguf_file.h"
#include "common/tokenizer/tokenizer.h"
#include "tests/worker/model/forced_run.h"
#include "tests/worker/model/golden.h"

namespace tandem::model {
namespace {

constexpr char kModel[] = "models/gemma-3-270m-q4_k_m.gguf";
constexpr char kGolden[] = "tests/golden/data/gemma3_greedy.jsonl";

Positions Compute(const Golden& golden, const char* activations, const char* kv) {
  Positions positions = PositionsOf(golden);
  RunForced(golden, ForcedOptions(kModel, activations, kv), 1,
            [&](int sequence, size_t step, const float* logits, int vocab) {
              positions[sequence][step] = ReadRow(logits, vocab, golden.top_ids[sequence][step]);
            });
  return positions;
}

double PeersKl() {
  std::ifstream file(kGolden);
  double sum = 0;
  int count = 0;
  for (std::string line; std::getline(file, line); ++count) {
    sum += boost::json::parse(line).at("llama_cpp_kl").as_double();
  }
  return sum / count;
}

TEST(GoldenGemma, TextsAreTheSameTokens) {
  const auto file = gguf::File::Open(kModel);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = text::Tokenizer::FromGguf(**file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::ifstream golden(kGolden);
  int count = 0;
  for (std::string line; std::getline(golden, line); ++count) {
    const auto record = boost::json::parse(line);
    const auto prefix = (*tokenizer)->prefix_ids();
    std::vector<TokenId> ids(prefix.begin(), prefix.end());
    const auto text_ids = (*tokenizer)->Encode(std::string(record.at("text").as_string()));
    ids.insert(ids.end(), text_ids.begin(), text_ids.end());
    EXPECT_EQ(ids, Numbers<TokenId>(record.at("prompt_ids"))) << record.at("name");
  }
  EXPECT_EQ(count, 6);
}

TEST(GoldenGemma, Float32IsTheReference) {
  const Golden golden = LoadGolden(kGolden);
  ASSERT_EQ(golden.prompts.size(), 6u);
  const Positions ours = Compute(golden, "f32", "f32");
  const double kl = MeanKl(golden.reference, ours);
  std::cout << "mean KL to the reference, f32/f32: " << kl << "\n";
  EXPECT_LT(kl, 1e-3);
  EXPECT_EQ(ClearFlips(golden, ours), 0);
}

TEST(GoldenGemma, Int8IsAsNearAsItsPeer) {
  const Golden golden = LoadGolden(kGolden);
  const double kl = MeanKl(golden.reference, Compute(golden, "int8", "bf16"));
  std::cout << "mean KL to the reference, int8/bf16: " << kl << " (llama.cpp " << PeersKl()
            << ")\n";
  EXPECT_LE(kl, 1.1 * PeersKl());
}

}  // namespace
}  // namespace tandem::model
