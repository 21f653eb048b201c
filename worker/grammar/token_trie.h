// Tokens by their bytes, laid out so that a walk that prunes is quick: nodes in depth-first order,
// each knowing where its subtree ends.
//
// Immutable. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "common/ids.h"

namespace tandem::grammar {

class TokenTrie {
 public:
  struct Item {
    std::string_view bytes;  // not empty
    TokenId token;
  };
  // Items may share their bytes.
  explicit TokenTrie(std::vector<Item> items = {});

  // The root, 0, stands for no bytes. Children of n: n + 1, then end(child), while below end(n).
  int size() const { return static_cast<int>(nodes_.size()); }
  uint8_t byte(int node) const { return nodes_[node].byte; }  // the last of its bytes
  int end(int node) const { return nodes_[node].end; }
  bool is_leaf(int node) const { return nodes_[node].end == node + 1; }

  // Tokens that are exactly this node's bytes.
  std::span<const TokenId> tokens(int node) const {
    return std::span(tokens_).subspan(nodes_[node].first_token, nodes_[node].num_tokens);
  }

 private:
  struct Node {
    int32_t end = 0;
    int32_t first_token = 0, num_tokens = 0;  // into tokens_
    uint8_t byte = 0;
  };

  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;
};

}  // namespace tandem::grammar
