// The real model against independent software, teacher-forced: tests/golden/README.md says where
// the expected log-probabilities come from.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tests/worker/model/script.h"
#include "worker/model/llama_runner.h"

namespace tandem::model {
namespace {

constexpr int kTop = 20;
constexpr int kBlocks = 512;

std::string ModelPath() {
  const char* path = std::getenv("TANDEM_MODEL");
  return path != nullptr ? path : "models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

// At one position: the reference's most likely tokens and a distribution over them.
struct Position {
  std::array<double, kTop> logprobs = {};  // of the reference's top tokens, in its order
  TokenId greedy = -1;
};
using Positions = std::vector<std::vector<Position>>;  // by prompt

struct Golden {
  std::vector<std::vector<TokenId>> prompts, tokens;
  std::vector<std::vector<std::array<TokenId, kTop>>> top_ids;
  Positions reference;
};

template <class T>
std::vector<T> Numbers(const boost::json::value& array) {
  return boost::json::value_to<std::vector<T>>(array);
}

Golden LoadGolden() {
  Golden golden;
  std::ifstream file("tests/golden/data/smollm2_greedy.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto record = boost::json::parse(line);
    golden.prompts.push_back(Numbers<TokenId>(record.at("prompt_ids")));
    golden.tokens.push_back(Numbers<TokenId>(record.at("token_ids")));
    std::vector<std::array<TokenId, kTop>> ids;
    std::vector<Position> positions;
    const auto& id_rows = record.at("top_ids").as_array();
    for (size_t i = 0; i < id_rows.size(); ++i) {
      const auto row = Numbers<TokenId>(id_rows[i]);
      const auto logprobs = Numbers<double>(record.at("top_logprobs").as_array()[i]);
      Position& p = positions.emplace_back();
      std::copy_n(row.begin(), kTop, ids.emplace_back().begin());
      std::copy_n(logprobs.begin(), kTop, p.logprobs.begin());
      p.greedy = row[0];
    }
    golden.top_ids.push_back(std::move(ids));
    golden.reference.push_back(std::move(positions));
  }
  return golden;
}

// How far llama.cpp is from the same reference, with its 8-bit activations.
struct Peer {
  double kl = 0;
  double same_greedy = 0;  // share of positions
  int clear_flips = 0;     // see ClearFlips
};

Peer LoadPeer() {
  std::ifstream file("tests/golden/data/llama_cpp_kl.json");
  std::stringstream text;
  text << file.rdbuf();
  const auto report = boost::json::parse(text.str());
  const auto& mean = report.at("mean");
  const auto num_prompts = static_cast<double>(report.at("prompts").as_array().size());
  return {std::min(mean.at("kl").as_double(), mean.at("kl_decode").as_double()),
          mean.at("same_argmax").as_double() / report.at("tokens_per_prompt").to_number<double>(),
          static_cast<int>(std::lround(mean.at("clear_flips").as_double() * num_prompts))};
}

Position ReadRow(const float* logits, int vocab, const std::array<TokenId, kTop>& ids) {
  const auto greedy = static_cast<TokenId>(std::max_element(logits, logits + vocab) - logits);
  double sum = 0;
  for (int i = 0; i < vocab; ++i) sum += std::exp(double{logits[i]} - logits[greedy]);
  const double normalizer = logits[greedy] + std::log(sum);
  Position p;
  p.greedy = greedy;
  for (int k = 0; k < kTop; ++k) p.logprobs[k] = logits[ids[k]] - normalizer;
  return p;
}

// All prompts in one batch, the reference's tokens forced.
Positions Compute(const Golden& golden, int tp, const char* activations, const char* kv) {
  ShardOptions options;
  options.model_path = ModelPath();
  options.activation_dtype = activations;
  options.kv_cache_dtype = kv;
  options.kv_memory_bytes = int64_t{512} << 20;
  options.max_seqs = 32;
  options.max_step_tokens = 1536;
  options.max_context = 1024;
  std::vector<TestSequence> sequences;
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    sequences.push_back({.prompt = golden.prompts[i],
                         .num_new = static_cast<int>(golden.tokens[i].size()),
                         .forced = golden.tokens[i]});
  }
  const auto plans = MakeScript(sequences);
  Positions positions(golden.prompts.size());
  for (size_t i = 0; i < positions.size(); ++i) positions[i].resize(golden.tokens[i].size());
  tandem::testing::SpawnRanks(tp, [&](kernels::Communicator& comm) {
    auto file = gguf::File::Open(options.model_path);
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
        const int sequence = plans[step].sequences[i * tp + comm.rank()];
        positions[sequence][step] =
            ReadRow(logits.row(i), static_cast<int>(logits.cols), golden.top_ids[sequence][step]);
      }
    }
  });
  return positions;
}

// Mean KL(p || q) in nats over the top tokens and one bucket for the rest.
double MeanKl(const Positions& p, const Positions& q) {
  double total = 0;
  int count = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    for (size_t t = 0; t < p[i].size(); ++t, ++count) {
      double p_rest = 1, q_rest = 1;
      for (int k = 0; k < kTop; ++k) {
        const double a = p[i][t].logprobs[k], b = q[i][t].logprobs[k];
        total += std::exp(a) * (a - b);
        p_rest -= std::exp(a);
        q_rest -= std::exp(b);
      }
      p_rest = std::max(p_rest, 1e-12);
      q_rest = std::max(q_rest, 1e-12);
      total += p_rest * std::log(p_rest / q_rest);
    }
  }
  return total / count;
}

double LargestDifference(const Positions& p, const Positions& q) {
  double most = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    for (size_t t = 0; t < p[i].size(); ++t) {
      for (int k = 0; k < kTop; ++k) {
        most = std::max(most, std::abs(p[i][t].logprobs[k] - q[i][t].logprobs[k]));
      }
    }
  }
  return most;
}

// Positions where another token is greedy although the reference's is 0.1 nats above its second.
int ClearFlips(const Golden& golden, const Positions& ours) {
  int flips = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    for (size_t t = 0; t < ours[i].size(); ++t) {
      const Position& reference = golden.reference[i][t];
      const float margin = reference.logprobs[0] - reference.logprobs[1];
      if (margin <= 0.1 || ours[i][t].greedy == reference.greedy) continue;
      ++flips;
      std::cout << "prompt " << i << ", token " << t << ": another token, margin " << margin
                << "\n";
    }
  }
  return flips;
}

double ShareOfSameGreedy(const Golden& golden, const Positions& ours) {
  int same = 0, count = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    for (size_t t = 0; t < ours[i].size(); ++t, ++count) {
      same += ours[i][t].greedy == golden.reference[i][t].greedy;
    }
  }
  return static_cast<double>(same) / count;
}

class GoldenModel : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { golden_ = new Golden(LoadGolden()); }
  static void TearDownTestSuite() { delete golden_; }
  static inline Golden* golden_ = nullptr;
};

TEST_F(GoldenModel, Float32IsTheReference) {
  ASSERT_EQ(golden_->prompts.size(), 20u);
  const Positions one = Compute(*golden_, 1, "f32", "f32");
  const double kl = MeanKl(golden_->reference, one);
  std::cout << "mean KL to the reference, f32/f32: " << kl << "\n";
  EXPECT_LT(kl, 1e-3);
  EXPECT_EQ(ClearFlips(*golden_, one), 0);
  for (const int tp : {2, 3}) {
    const double difference = LargestDifference(one, Compute(*golden_, tp, "f32", "f32"));
    std::cout << "largest logprob difference of tp " << tp << " to tp 1: " << difference << "\n";
    EXPECT_LT(difference, 1e-3) << "tp " << tp;
  }
}

TEST_F(GoldenModel, Int8IsAsNearAsItsPeer) {
  const Peer peer = LoadPeer();
  const Positions one = Compute(*golden_, 1, "int8", "bf16");
  const double kl = MeanKl(golden_->reference, one);
  const double same = ShareOfSameGreedy(*golden_, one);
  const int flips = ClearFlips(*golden_, one);
  std::cout << "int8/bf16: mean KL to the reference " << kl << " (llama.cpp " << peer.kl
            << "), same greedy token " << same << " (" << peer.same_greedy << "), clear flips "
            << flips << " (" << peer.clear_flips << ")\n";
  EXPECT_LE(kl, 1.1 * peer.kl);
  EXPECT_GE(same, peer.same_greedy - 0.01);
  EXPECT_LE(flips, peer.clear_flips);
  for (const int tp : {2, 3}) {
    const double between = MeanKl(Compute(*golden_, tp, "int8", "bf16"), one);
    std::cout << "mean KL of tp " << tp << " to tp 1: " << between << "\n";
    EXPECT_LE(between, kl) << "tp " << tp;
  }
}

}  // namespace
}  // namespace tandem::model
