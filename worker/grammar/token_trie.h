// Tokens by their bytes, laid out so that a walk that prunes is quick: nodes in depth-first order,
// each knowing where its subtree ends.
//
// Immutable. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/ids.h"

namespace tandem::grammar {

class TokenTrie {
 public:
  struct Item {
    std::string_view bytes;  // not empty; copied
    TokenId token;
  };
  // Items may share their bytes.
  explicit TokenTrie(std::vector<Item> items = {});

  // The root, 0, stands for no bytes. Children of n: n + 1, then end(child), while below end(n).
  int size() const { return static_cast<int>(nodes_.size()); }
  uint8_t byte(int node) const { return nodes_[node].byte; }  // the last of its bytes
  int end(int node) const { return nodes_[node].end; }
  bool is_leaf(int node) const { return nodes_[node].end == node + 1; }

  // Tokens that are exactly this node's bytes, and those of its subtree without it.
  std::span<const TokenId> tokens(int node) const {
    return Range(nodes_[node].first_token, nodes_[node].own_end);
  }
  std::span<const TokenId> tokens_below(int node) const {
    return Range(nodes_[node].own_end, LastToken(node));
  }
  // All tokens in the order of their bytes, and the bytes of the i-th.
  std::span<const TokenId> all_tokens() const { return tokens_; }
  std::string_view bytes_of(size_t i) const {
    const size_t begin = i == 0 ? 0 : byte_end_[i - 1];
    return std::string_view(bytes_).substr(begin, byte_end_[i] - begin);
  }
  // Where tokens_below(node) begins and ends in all_tokens().
  std::pair<int, int> below(int node) const { return {nodes_[node].own_end, LastToken(node)}; }

 private:
  struct Node {
    int32_t end = 0;
    int32_t first_token = 0, own_end = 0;  // into tokens_
    uint8_t byte = 0;
  };
  std::span<const TokenId> Range(int from, int to) const {
    return std::span(tokens_).subspan(from, to - from);
  }
  int LastToken(int node) const {
    const int next = nodes_[node].end;
    return next < size() ? nodes_[next].first_token : static_cast<int>(tokens_.size());
  }

  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;
  std::string bytes_;
  std::vector<size_t> byte_end_;
};

}  // namespace tandem::grammar
