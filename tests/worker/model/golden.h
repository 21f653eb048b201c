// The real model's expected log-probabilities (tests/golden/README.md says where they come from),
// and how far from them a forward pass is. Working directory: the repository's root.
#pragma once

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "common/ids.h"
#include "tests/worker/model/script.h"

namespace tandem::model {

inline constexpr int kTop = 20;
inline std::string ModelPath() {
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

inline Golden LoadGolden(const char* path = "tests/golden/data/smollm2_greedy.jsonl") {
  Golden golden;
  std::ifstream file(path);
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

// All prompts, the reference's tokens forced.
inline std::vector<TestSequence> ForcedSequences(const Golden& golden) {
  std::vector<TestSequence> sequences;
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    sequences.push_back({.prompt = golden.prompts[i],
                         .num_new = static_cast<int>(golden.tokens[i].size()),
                         .forced = golden.tokens[i]});
  }
  return sequences;
}

// What a pass over these fills.
inline Positions PositionsOf(const Golden& golden) {
  Positions positions(golden.prompts.size());
  for (size_t i = 0; i < positions.size(); ++i) positions[i].resize(golden.tokens[i].size());
  return positions;
}

inline Position ReadRow(const float* logits, int vocab, const std::array<TokenId, kTop>& ids) {
  const auto greedy = static_cast<TokenId>(std::max_element(logits, logits + vocab) - logits);
  double sum = 0;
  for (int i = 0; i < vocab; ++i) sum += std::exp(double{logits[i]} - logits[greedy]);
  const double normalizer = logits[greedy] + std::log(sum);
  Position p;
  p.greedy = greedy;
  for (int k = 0; k < kTop; ++k) p.logprobs[k] = logits[ids[k]] - normalizer;
  return p;
}

// Mean KL(p || q) in nats over the top tokens and one bucket for the rest.
inline double MeanKl(const Positions& p, const Positions& q) {
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

// Positions where another token is greedy although the reference's is 0.1 nats above its second.
inline int ClearFlips(const Golden& golden, const Positions& ours) {
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

inline double ShareOfSameGreedy(const Golden& golden, const Positions& ours) {
  int same = 0, count = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    for (size_t t = 0; t < ours[i].size(); ++t, ++count) {
      same += ours[i][t].greedy == golden.reference[i][t].greedy;
    }
  }
  return static_cast<double>(same) / count;
}

}  // namespace tandem::model
