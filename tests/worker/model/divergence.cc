// tandem-divergence MODEL OUT [ACTIVATIONS/KV ...]: how far a CPU's arithmetic is from float32, on
// this file. Feeds the tokens of tests/golden/data/smollm2_greedy.jsonl, writes what float32 thinks
// of them to OUT in that file's form, and prints for each pair of types {"config", "kl",
// "same_greedy"}: the mean KL divergence to that (over its top 20 and one bucket for the rest) and
// the share of positions with the same likeliest token. That our float32 is the model is what
// golden_model_test shows. Working directory: the repository's root.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "tests/worker/model/forced_run.h"
#include "tests/worker/model/golden.h"

namespace tandem::model {
namespace {

namespace json = boost::json;

std::array<TokenId, kTop> TopOf(const float* logits, int vocab) {
  std::vector<TokenId> ids(vocab);
  std::iota(ids.begin(), ids.end(), 0);
  std::partial_sort(ids.begin(), ids.begin() + kTop, ids.end(), [&](TokenId a, TokenId b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  std::array<TokenId, kTop> top;
  std::copy_n(ids.begin(), kTop, top.begin());
  return top;
}

void Write(const Golden& golden, const std::string& path) {
  std::ofstream out(path);
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    json::array ids, logprobs;
    for (const auto& row : golden.top_ids[i]) ids.push_back(json::value_from(row));
    for (const Position& p : golden.reference[i]) logprobs.push_back(json::value_from(p.logprobs));
    out << json::serialize(json::object{{"name", std::to_string(i)},
                                        {"prompt_ids", json::value_from(golden.prompts[i])},
                                        {"token_ids", json::value_from(golden.tokens[i])},
                                        {"top_ids", std::move(ids)},
                                        {"top_logprobs", std::move(logprobs)}})
        << "\n";
  }
  TANDEM_CHECK(out.flush().good()) << path;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: {} MODEL OUT [ACTIVATIONS/KV ...]\n", argv[0]);
    return 2;
  }
  const std::string model = argv[1];
  Golden golden = LoadGolden();
  RunForced(golden, ForcedOptions(model, "f32", "f32"), 1,
            [&](int sequence, size_t step, const float* logits, int vocab) {
              golden.top_ids[sequence][step] = TopOf(logits, vocab);
              golden.reference[sequence][step] =
                  ReadRow(logits, vocab, golden.top_ids[sequence][step]);
            });
  Write(golden, argv[2]);
  for (int i = 3; i < argc; ++i) {
    const std::string config = argv[i];
    const size_t slash = config.find('/');
    if (slash == config.npos) {
      fmt::print(stderr, "\"{}\" is not ACTIVATIONS/KV, like int8/bf16\n", config);
      return 2;
    }
    Positions ours = PositionsOf(golden);
    RunForced(
        golden,
        ForcedOptions(model, config.substr(0, slash).c_str(), config.substr(slash + 1).c_str()), 1,
        [&](int sequence, size_t step, const float* logits, int vocab) {
          ours[sequence][step] = ReadRow(logits, vocab, golden.top_ids[sequence][step]);
        });
    fmt::print("{{\"config\": \"{}\", \"kl\": {:.6f}, \"same_greedy\": {:.4f}}}\n", config,
               MeanKl(golden.reference, ours), ShareOfSameGreedy(golden, ours));
  }
  return 0;
}

}  // namespace
}  // namespace tandem::model

int main(int argc, char** argv) { return tandem::model::Main(argc, argv); }
