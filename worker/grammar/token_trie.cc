#include "worker/grammar/token_trie.h"

#include <algorithm>

namespace tandem::grammar {

TokenTrie::TokenTrie(std::vector<Item> items) {
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.token < b.token;
  });
  nodes_.push_back({});
  std::vector<int> path = {0};  // nodes of the bytes before, the root first
  std::string_view before;
  for (const Item& item : items) {
    const auto differ =
        std::mismatch(before.begin(), before.end(), item.bytes.begin(), item.bytes.end());
    const auto shared = static_cast<size_t>(differ.second - item.bytes.begin());
    for (; path.size() > shared + 1; path.pop_back()) nodes_[path.back()].end = size();
    for (size_t i = shared; i < item.bytes.size(); ++i) {
      path.push_back(size());
      const auto at = static_cast<int32_t>(tokens_.size());
      nodes_.push_back({0, at, 0, static_cast<uint8_t>(item.bytes[i])});
    }
    tokens_.push_back(item.token);
    ++nodes_[path.back()].num_tokens;
    before = item.bytes;
  }
  for (; !path.empty(); path.pop_back()) nodes_[path.back()].end = size();
}

}  // namespace tandem::grammar
