// What tests of every device's forward pass run: tiny models in files, sequences of random tokens,
// and one that must come out bitwise the same among others as alone.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <string>
#include <vector>

#include "tests/support/tiny_model.h"
#include "tests/worker/model/script.h"

namespace tandem::model {

inline constexpr int kVocab = 275;  // of every tiny model

// A tiny model in a file, for as long as this lives.
class ModelFile {
 public:
  explicit ModelFile(const tandem::testing::TinyModelOptions& options = {}) {
    static std::atomic<int> counter{0};
    path_ = ::testing::TempDir() + "tandem_runner_" + std::to_string(getpid()) + "_" +
            std::to_string(counter++) + ".gguf";
    tandem::testing::WriteTinyModel(path_, options);
  }
  ~ModelFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::vector<TokenId> RandomTokens(int n, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<TokenId> tokens(n);
  for (TokenId& t : tokens) t = static_cast<TokenId>(rng() % kVocab);
  return tokens;
}

inline SamplingSpec WithLogprobs(float temperature = 0) {
  SamplingSpec spec;
  spec.temperature = temperature;
  spec.seed = 42;
  spec.num_logprobs = 20;
  return spec;
}

// The sequence that all variants below must reproduce bit for bit.
inline TestSequence Subject(float temperature) {
  return {.prompt = RandomTokens(75, 5), .num_new = 24, .sampling = WithLogprobs(temperature)};
}

// The subject is the one at n / 2 + 1.
inline std::vector<TestSequence> AmongOthers(const TestSequence& subject, int n = 16) {
  std::mt19937 rng(6);
  std::vector<TestSequence> all;
  for (int i = 0; i < n; ++i) {
    TestSequence other{.prompt = RandomTokens(1 + rng() % 60, 100 + i),
                       .num_new = 1 + static_cast<int>(rng() % 30),
                       .sampling = WithLogprobs(i % 2 == 0 ? 0 : 1.5f)};
    other.sampling.seed = i;
    other.first_step = static_cast<int>(rng() % 8);
    other.chunk = 1 + static_cast<int>(rng() % 20);
    all.push_back(i == n / 2 + 1 ? subject : other);
  }
  return all;
}

// Twice the subject: the second finds the first's leading blocks computed, and uses them while the
// first still runs.
inline std::vector<TestSequence> SharingBlocks(const TestSequence& subject) {
  TestSequence first = subject, cached = subject;
  first.blocks = {7, 3, 200, 11, 90, 41, 8};
  cached.blocks = {7, 3, 200, 11, 20, 21, 22};
  cached.num_cached = 64;
  cached.first_step = 3;
  return {first, cached};
}

inline void ExpectSameBits(const std::vector<RowResult>& got,
                           const std::vector<RowResult>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(SameBits(got[i], expected[i]))
        << "token " << i << ": " << got[i].token << " " << got[i].logprob << " instead of "
        << expected[i].token << " " << expected[i].logprob;
  }
}

}  // namespace tandem::model
