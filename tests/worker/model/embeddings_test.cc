// Embeddings of a tiny checkpoint of each family: what transformers makes of the same tokens by
// last and mean pooling, and last states at more positions by what the head makes of them, which
// must be transformers' logits.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "kernels/dequantize.h"
#include "tests/worker/model/script.h"
#include "worker/model/llama_runner.h"

namespace tandem::model {
namespace {

using Embedding = std::vector<float>;
// Of each sequence of a script, by the tokens before and with which it was given.
using Embeddings = std::vector<std::map<int, Embedding>>;

std::vector<std::string> Checkpoints() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("tests/golden/checkpoints")) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

ShardOptions OptionsFor(const std::string& path) {
  ShardOptions options;
  options.model_path = path;
  options.activation_dtype = "f32";
  options.kv_cache_dtype = "f32";
  options.kv_memory_bytes = 64 << 20;
  options.max_seqs = 16;
  options.max_step_tokens = 1024;
  return options;
}

Embeddings Compute(const std::string& path, int tp, const std::vector<TestPlan>& plans,
                   size_t num_sequences) {
  const ShardOptions options = OptionsFor(path);
  std::vector<Embeddings> by_rank(tp, Embeddings(num_sequences));
  tandem::testing::SpawnRanks(tp, [&](kernels::Communicator& comm) {
    auto runner = ModelRunner::Load(options, comm);
    TANDEM_CHECK(runner.ok()) << Message(runner.status());
    TANDEM_CHECK((*runner)->Prepare(128).ok());
    std::vector<RowResult> results(options.max_seqs);
    std::vector<int> lengths(num_sequences, 0);
    for (size_t step = 0; step < plans.size(); ++step) {
      const Status status = (*runner)->Run(plans[step].View(step + 1), results);
      TANDEM_CHECK(status.ok()) << Message(status);
      auto left = (*runner)->embeddings();
      const auto size = static_cast<size_t>((*runner)->info().embedding_size);
      for (size_t r = 0; r < plans[step].rows.size(); ++r) {
        const int sequence = plans[step].sequences[r];
        lengths[sequence] += plans[step].rows[r].num_tokens;
        if (!(plans[step].rows[r].flags & kRowEmbed)) continue;
        by_rank[comm.rank()][sequence][lengths[sequence]] = {left.begin(), left.begin() + size};
        left = left.subspan(size);
      }
      TANDEM_CHECK(left.empty()) << left.size() << " floats too many";
    }
  });
  for (int rank = 1; rank < tp; ++rank)
    TANDEM_CHECK(by_rank[rank] == by_rank[0]) << "rank " << rank;
  return by_rank[0];
}

struct Golden {
  std::vector<TokenId> tokens;
  std::vector<int> positions;
  std::vector<std::vector<double>> logits;
};

boost::json::value ReadJson(const std::string& path) {
  std::ifstream file(path);
  TANDEM_CHECK(file.good()) << path;
  return boost::json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
}

Golden ReadGolden(const std::string& path) {
  using boost::json::value_to;
  const auto record = ReadJson(path + "/golden.json");
  return {value_to<std::vector<TokenId>>(record.at("token_ids")),
          value_to<std::vector<int>>(record.at("positions")),
          value_to<std::vector<std::vector<double>>>(record.at("logits"))};
}

// Transformers' pooled states of the first `lengths[i]` tokens, of length 1.
struct GoldenPooled {
  std::vector<int> lengths;
  std::vector<std::vector<double>> last, mean;
};

GoldenPooled ReadGoldenPooled(const std::string& path) {
  using boost::json::value_to;
  const auto record = ReadJson(path + "/embeddings.json");
  return {value_to<std::vector<int>>(record.at("lengths")),
          value_to<std::vector<std::vector<double>>>(record.at("last")),
          value_to<std::vector<std::vector<double>>>(record.at("mean"))};
}

// The most that a number of `state`, made of length 1, is off `unit`.
double MostOff(const Embedding& state, const std::vector<double>& unit) {
  TANDEM_CHECK(state.size() == unit.size());
  double squares = 0, most = 0;
  for (const float x : state) squares += double{x} * double{x};
  for (size_t k = 0; k < state.size(); ++k) {
    most = std::max(most, std::abs(state[k] / std::sqrt(squares) - unit[k]));
  }
  return most;
}

// What the model's head makes of a hidden state.
std::vector<double> Head(const ModelSource& source, const Embedding& state) {
  const ModelConfig& config = source.config();
  const auto& tensor =
      source.tensors().at(config.tied_embeddings ? "token_embd.weight" : "output.weight");
  std::vector<double> logits;
  Embedding row(state.size());
  for (int64_t token = 0; token < config.vocab; ++token) {
    kernels::DequantizeRow(tensor.slice, token, row);
    double logit = 0;
    for (size_t k = 0; k < row.size(); ++k) logit += double{row[k]} * double{state[k]};
    logit *= double{config.logit_scale};
    const double cap = config.logit_softcap;
    logits.push_back(cap > 0 ? cap * std::tanh(logit / cap) : logit);
  }
  return logits;
}

class EmbeddingsOf : public ::testing::TestWithParam<std::string> {};

TEST_P(EmbeddingsOf, AreTheLastHiddenStatesPooled) {
  const std::string path = "tests/golden/checkpoints/" + GetParam();
  const Golden golden = ReadGolden(path);
  const auto& t = golden.tokens;
  auto source = ModelSource::Open(path);
  ASSERT_TRUE(source.ok()) << source.status();

  std::vector<TestSequence> sequences;
  const uint32_t mean = kRowEmbed | kRowAddToMean;
  sequences.push_back({.prompt = t, .chunk = 1, .pool = kRowEmbed});  // all: see below
  sequences.push_back({.prompt = t, .pool = mean});
  sequences.push_back({.prompt = t, .first_step = 3, .chunk = 7, .pool = mean});
  sequences.push_back({.prompt = t, .num_new = 4, .first_step = 2, .chunk = 48});  // a reply
  for (const int position : golden.positions) {
    sequences.push_back(
        {.prompt = {t.begin(), t.begin() + position + 1}, .chunk = 48, .pool = kRowEmbed});
  }
  std::vector<TestPlan> plans = MakeScript(sequences);
  for (TestPlan& plan : plans) {
    for (size_t r = 0; r < plan.rows.size(); ++r) {
      if (plan.sequences[r] == 0) plan.rows[r].flags |= kRowEmbed;  // after every token
    }
  }
  for (const int tp : {1, 2}) {
    SCOPED_TRACE(tp);
    const Embeddings computed = Compute(path, tp, plans, sequences.size());
    const std::map<int, Embedding>& every = computed[0];
    ASSERT_EQ(every.size(), t.size());
    double most = 0;
    for (size_t i = 0; i < golden.positions.size(); ++i) {
      const int length = golden.positions[i] + 1;
      const Embedding& last = computed[4 + i].at(length);
      EXPECT_EQ(last, every.at(length)) << "a prompt in chunks, and token by token";
      const std::vector<double> logits = Head(**source, last);
      ASSERT_EQ(logits.size(), golden.logits[i].size());
      for (size_t k = 0; k < logits.size(); ++k) {
        most = std::max(most, std::abs(logits[k] - golden.logits[i][k]));
      }
    }
    EXPECT_LT(most, 1e-4);

    std::vector<double> sum(every.at(1).size());
    for (const auto& [length, state] : every) {
      for (size_t k = 0; k < sum.size(); ++k) sum[k] += state[k];
    }
    const int length = static_cast<int>(t.size());
    Embedding average;
    for (const double s : sum) average.push_back(static_cast<float>(s / length));
    EXPECT_EQ(computed[1].at(length), average);
    EXPECT_EQ(computed[2].at(length), average) << "in chunks";
  }
}

TEST_P(EmbeddingsOf, AreThoseOfTransformers) {
  const std::string path = "tests/golden/checkpoints/" + GetParam();
  const std::vector<TokenId> t = ReadGolden(path).tokens;
  const GoldenPooled golden = ReadGoldenPooled(path);
  ASSERT_GE(golden.lengths.size(), 4u);
  std::vector<TestSequence> sequences;
  for (const int length : golden.lengths) {
    const std::vector<TokenId> prompt(t.begin(), t.begin() + length);
    sequences.push_back({.prompt = prompt, .chunk = 48, .pool = kRowEmbed});
    sequences.push_back({.prompt = prompt, .chunk = 48, .pool = kRowEmbed | kRowAddToMean});
  }
  const std::vector<TestPlan> plans = MakeScript(sequences);
  for (const int tp : {1, 2}) {
    SCOPED_TRACE(tp);
    const Embeddings computed = Compute(path, tp, plans, sequences.size());
    for (size_t i = 0; i < golden.lengths.size(); ++i) {
      const int length = golden.lengths[i];
      EXPECT_LT(MostOff(computed[2 * i].at(length), golden.last[i]), 1e-4) << "last of " << length;
      EXPECT_LT(MostOff(computed[2 * i + 1].at(length), golden.mean[i]), 1e-4)
          << "mean of " << length;
    }
  }
}

std::string NameOf(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
}
INSTANTIATE_TEST_SUITE_P(Checkpoints, EmbeddingsOf, ::testing::ValuesIn(Checkpoints()), NameOf);

TEST(EmbeddingsData, IsThere) { EXPECT_GE(Checkpoints().size(), 17u); }

}  // namespace
}  // namespace tandem::model
