// Sampling against the reference, on thousands of random rows: the kept set and the draw.
#include "tests/kernels/cuda/sample_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

TEST(CudaSample, DrawsWhatTheReferenceDraws) {
  const Stream stream;
  Random random(11);
  int rows = 0, close = 0;
  for (int32_t vocab : {1, 2, 7, 31, 256, 1000, 4096, 4097}) {
    const int steps = kSanitized ? 1 : vocab <= 256 ? 8 : 2;
    for (int s = 0; s < steps; ++s) {
      Step step{.vocab = vocab, .parts = random.Int(1, 3), .logits = {}, .rows = {}};
      for (int r = 0; r < (kSanitized ? 12 : 40); ++r) {
        SamplingParams params = RandomParams(random, vocab);
        if (random.Int(0, 3) == 0) params.num_logprobs = random.Int(0, kMaxTopLogprobs);
        if (random.Int(0, 9) == 0) params.forced_token = random.Int(0, vocab - 1);
        step.logits.push_back(RandomLogits(random, vocab));
        step.rows.push_back(Row(params, r));
      }
      close += Compare(stream, step);
      rows += static_cast<int>(step.rows.size());
    }
  }
  // What rounding decides is rare, or it would hide errors.
  EXPECT_LE(close, 1 + rows / 200) << "of " << rows;
  RecordProperty("rows", rows);
  RecordProperty("differ_by_rounding", close);
  std::printf("%d of %d rows differ by rounding\n", close, rows);
}

// Rows whose tokens stand in the prompt, the output, both or neither.
Step PenalizedStep(Random& random, int32_t vocab, int rows) {
  Step step{.vocab = vocab, .parts = 2, .logits = {}, .rows = {}};
  for (int r = 0; r < rows; ++r) {
    SamplingParams params = RandomParams(random, vocab);
    const float repetitions[] = {1, 1.3f, 0.8f}, others[] = {0, 0.5f, -1, 2};
    params.repetition_penalty = repetitions[random.Int(0, 2)];
    params.presence_penalty = others[random.Int(0, 3)];
    params.frequency_penalty = others[random.Int(0, 3)];
    if (random.Int(0, 2) == 0) params.num_logprobs = 3;
    step.logits.push_back(RandomLogits(random, vocab));
    std::vector<int32_t> tokens(random.Int(0, 600));
    for (int32_t& token : tokens) token = random.Int(0, std::min(vocab - 1, 40)) * 113 % vocab;
    step.rows.push_back({params, r, rows - 1 - r, 0});
    step.rows.back().num_prompt_tokens = random.Int(0, static_cast<int>(tokens.size()));
    step.tokens.insert(step.tokens.begin(), tokens);
  }
  return step;
}

// For each row a span of step.biases, some of one token twice; some rows have none.
void AddBiases(Random& random, Step& step) {
  std::vector<int> counts;
  for (size_t r = 0; r < step.rows.size(); ++r) {
    counts.push_back(random.Int(0, 3) == 0 ? 0 : random.Int(1, r == 1 ? kMaxTokenBiases : 30));
    const auto first = static_cast<int64_t>(step.biases.size());
    for (int i = 0; i < counts.back(); ++i) {
      TokenBias& b = step.biases.emplace_back();
      b.token = random.Int(0, step.vocab - 1);
      b.bias = random.Int(0, 5) == 0 ? -kInfinity : 0.25f * static_cast<float>(random.Int(-20, 20));
      b.until = random.Int(0, 1) == 0 ? 2500 : b.until;
    }
    std::sort(step.biases.begin() + first, step.biases.end(),
              [](const TokenBias& a, const TokenBias& b) { return a.token < b.token; });
  }
  const TokenBias* next = step.biases.data();
  for (size_t r = 0; r < step.rows.size(); ++r) {
    SamplingParams& params = step.rows[r].params;
    if (r % 3 == 0) {  // biases alone
      params.repetition_penalty = 1;
      params.presence_penalty = params.frequency_penalty = 0;
    }
    params.biases = next;
    params.num_biases = counts[r];
    next += counts[r];
  }
}

// For every other row some tokens, at least one.
void AddMasks(Random& random, Step& step) {
  const auto words = static_cast<size_t>(step.vocab + 31) / 32;
  step.masks.resize(step.rows.size() * words);
  for (size_t r = 1; r < step.rows.size(); r += 2) {
    uint32_t* const mask = step.masks.data() + r * words;
    const int one_in = random.Int(1, 30);
    for (int32_t id = 0; id < step.vocab; ++id) {
      if (random.Int(1, one_in) == 1) mask[id / 32] |= 1u << (id % 32);
    }
    const int32_t kept = random.Int(0, step.vocab - 1);
    mask[kept / 32] |= 1u << (kept % 32);
    step.rows[r].params.mask = mask;
  }
}

// Biases, masks, and penalties of tokens that stand in the prompt, the output, both or neither.
TEST(CudaSample, BiasesPenaltiesAndMasksChangeWhatIsDrawn) {
  const Stream stream;
  Random random(14);
  int close = 0;
  for (int32_t vocab : {5, 300, 9000}) {
    if (kSanitized && vocab == 5) continue;
    Step step = PenalizedStep(random, vocab, kSanitized ? 10 : 40);
    AddBiases(random, step);
    AddMasks(random, step);
    close += Compare(stream, step);
  }
  EXPECT_LE(close, 2);
}

// Scaled first, and the same in all kernels: what a row adds to its logits is not scaled.
TEST(CudaSample, LogitsAreScaled) {
  const Stream stream;
  Random random(16);
  int close = 0;
  for (const float scale : {1.0f / 3, 0.0625f, 7.1f}) {
    Step step = PenalizedStep(random, 700, kSanitized ? 6 : 24);
    AddBiases(random, step);
    step.scale = scale;
    for (SampleRow& row : step.rows) row.params.num_logprobs = 4;
    close += Compare(stream, step);
  }
  EXPECT_LE(close, 1);
}

// Small, for ThreadSanitizer.
TEST(CudaSampleSmall, BiasesPenaltiesAndMasks) {
  const Stream stream;
  Random random(15);
  Step step = PenalizedStep(random, 300, 3);
  AddBiases(random, step);
  AddMasks(random, step);
  EXPECT_EQ(Compare(stream, step), 0);
}

// Several chunks of every kernel, ids up to the last.
TEST(CudaSample, LargeVocabularies) {
  const Stream stream;
  Random random(12);
  int close = 0;
  for (int32_t vocab : {33000, kSanitized ? 40001 : 128256}) {
    Step step{.vocab = vocab, .parts = 2, .logits = {}, .rows = {}};
    const SamplingParams kinds[] = {{},
                                    {.temperature = 1, .seed = 1},
                                    {.temperature = 1, .top_p = 0.9f, .seed = 2},
                                    {.temperature = 0.8f, .top_k = 50, .seed = 3},
                                    {.temperature = 1, .top_p = 0.95f, .top_k = 20000, .seed = 4},
                                    {.temperature = 2, .min_p = 0.02f, .seed = 5}};
    for (const SamplingParams& params : kinds) {
      step.rows.push_back(Row(params, static_cast<int32_t>(step.rows.size())));
      step.rows.back().params.num_logprobs = 3;
      std::vector<float> logits = random.Normals(vocab);
      for (float& logit : logits) logit *= 3;
      step.logits.push_back(logits);
    }
    close += Compare(stream, step);
  }
  EXPECT_LE(close, 1);
}

TEST(CudaSample, TheLargestVocabulary) {
  const Stream stream;
  Step step{.vocab = 262144, .parts = 1, .logits = {std::vector<float>(262144, -1)}, .rows = {}};
  step.logits[0][262143] = 1;
  step.logits[0][0] = 0.5f;
  step.rows = {Row({.num_logprobs = 3}, 0)};
  EXPECT_EQ(Compare(stream, step), 0);
  step.rows = {Row({.temperature = 1, .top_k = 100000, .seed = 5}, 0)};  // a tie of all but two
  EXPECT_EQ(Compare(stream, step), 0);
}

// Ties at the cut go to the lowest ids, whatever is cut by.
TEST(CudaSample, TiesAtTheCut) {
  const Stream stream;
  const std::vector<float> logits = {0, 1, 1, 3, 1, 1, 0, 1, 1};
  for (int kind = 0; kind < 2; ++kind) {
    Step step{.vocab = 9, .parts = 1, .logits = {}, .rows = {}};
    for (int i = 0; i < (kSanitized ? 8 : 40); ++i) {
      SamplingParams params{.temperature = 5, .seed = static_cast<uint64_t>(i)};
      if (kind == 0) params.top_k = 3;
      if (kind == 1) params.top_p = 0.4f;
      step.logits.push_back(logits);
      step.rows.push_back(Row(params, i));
    }
    EXPECT_EQ(Compare(stream, step), 0);
  }
}

TEST(CudaSample, RowsWithoutAFiniteMaximum) {
  const Stream stream;
  Step step{.vocab = 5, .parts = 1, .logits = {}, .rows = {}};
  for (const std::vector<float>& logits :
       std::vector<std::vector<float>>{{NAN, NAN, NAN, NAN, NAN},
                                       {-kInfinity, -kInfinity, NAN, -kInfinity, -kInfinity},
                                       {1, kInfinity, 2, kInfinity, NAN}}) {
    step.logits.push_back(logits);
    step.rows.push_back(Row({.temperature = 1, .top_p = 0.9f, .num_logprobs = 5},
                            static_cast<int32_t>(step.rows.size())));
  }
  EXPECT_EQ(Compare(stream, step), 0);
}

// -0 and 0 are equal; denormal logits have an order.
TEST(CudaSample, SmallestDifferences) {
  const Stream stream;
  const float tiny = std::numeric_limits<float>::denorm_min();
  Step step{.vocab = 4,
            .parts = 1,
            .logits = {{-0.0f, 0, -tiny, 0}, {0, tiny, -tiny, tiny}},
            .rows = {Row({.num_logprobs = 4}, 0), Row({.num_logprobs = 4}, 1)}};
  EXPECT_EQ(Compare(stream, step), 0);
}

TEST(CudaSample, PaddingRowsAreLeftAlone) {
  const Stream stream;
  Step step{.vocab = 10, .parts = 1, .logits = {}, .rows = {}};
  for (int32_t slot : {-1, 2, -1}) {
    step.logits.push_back(std::vector<float>(10, slot < 0 ? NAN : 1));
    step.rows.push_back(Row({.temperature = slot < 0 ? NAN : 1.0f, .num_logprobs = 2}, slot));
  }
  std::vector<int32_t> last;
  const std::vector<SampledToken> out = RunStep(stream, step, &last);
  EXPECT_EQ(out[0].token, -7);
  EXPECT_EQ(out[2].token, -7);
  EXPECT_EQ(last, (std::vector<int32_t>{-7, -7, out[1].token, -7}));
}

// The same token and the same bits of its logprob, alone and among others, from one part or
// several.
TEST(CudaSample, RowsDoNotDependOnOthers) {
  const Stream stream;
  Random random(13);
  Step all{.vocab = 5000, .parts = 3, .logits = {}, .rows = {}};
  const int rows = kSanitized ? 2 : 9;
  for (int r = 0; r < rows; ++r) {
    SamplingParams params = RandomParams(random, all.vocab);
    params.num_logprobs = 4;
    all.logits.push_back(RandomLogits(random, all.vocab));
    all.rows.push_back(Row(params, r));
  }
  const std::vector<SampledToken> together = RunStep(stream, all);
  for (int r = 0; r < rows; ++r) {
    Step one{.vocab = all.vocab, .parts = 1, .logits = {all.logits[r]}, .rows = {all.rows[r]}};
    one.rows[0].slot = 0;
    const SampledToken alone = RunStep(stream, one)[0];
    EXPECT_EQ(alone.token, together[r].token);
    EXPECT_EQ(std::memcmp(&alone, &together[r], sizeof alone), 0);
  }
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
