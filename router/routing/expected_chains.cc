#include "router/routing/expected_chains.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace tandem::routing {
namespace {

constexpr auto kByLane = [](const auto& share, uint32_t lane) { return share.lane < lane; };

}  // namespace

void ExpectedChains::Add(GroupId group, uint32_t lane, RequestId request,
                         std::span<const BlockHash> chain) {
  Node* end = nullptr;
  for (size_t at = 0; at < chain.size(); at += end->run.size()) {
    const auto found = nodes_.find(chain[at]);
    if (found == nodes_.end()) {
      end = NewLeaf(end, chain.subspan(at));
      continue;
    }
    Node* const node = &found->second;
    TANDEM_DCHECK(node->parent == end) << "a hash that follows two others";
    const size_t equal = NumEqual(node->run, chain.subspan(at));
    end = equal == node->run.size() ? node : Split(node, equal);
  }
  for (Node* node = end; node != nullptr; node = node->parent) Enter(*node, lane);
  const bool entered = chains_.emplace(request, Chain{group, lane, end}).second;
  TANDEM_CHECK(entered) << "request " << request << " is expected twice";
}

GroupId ExpectedChains::Remove(RequestId request) {
  const auto it = chains_.find(request);
  if (it == chains_.end()) return GroupId{};
  const Chain chain = it->second;
  chains_.erase(it);
  for (Node* node = chain.end; node != nullptr; node = node->parent) Leave(*node, chain.lane);
  Node* changed = chain.end;
  if (changed != nullptr && changed->num_chains == 0) {
    changed = changed->parent;
    EraseLeaf(chain.end);
  }
  // Of all others both counts went down by one.
  if (changed != nullptr) MergeWithOnlyChild(changed);
  return chain.group;
}

bool ExpectedChains::Match(std::span<const BlockHash> hashes, std::span<int32_t> depth) const {
  if (nodes_.empty()) return false;
  bool any = false;
  for (size_t at = 0; at < hashes.size();) {
    const auto found = nodes_.find(hashes[at]);
    if (found == nodes_.end()) break;
    const Node& node = found->second;
    const size_t equal = NumEqual(node.run, hashes.subspan(at));
    at += equal;
    for (const Share& share : node.shares) depth[share.lane] = static_cast<int32_t>(at);
    any = true;
    if (equal < node.run.size()) break;
  }
  return any;
}

// At least one: that is how the node was found.
size_t ExpectedChains::NumEqual(const std::vector<BlockHash>& run,
                                std::span<const BlockHash> hashes) {
  size_t equal = 1, differ = std::min(run.size(), hashes.size()) + 1;
  if (run[differ - 2] == hashes[differ - 2]) return differ - 1;
  while (differ - equal > 1) {
    const size_t middle = equal + (differ - equal) / 2;
    (run[middle - 1] == hashes[middle - 1] ? equal : differ) = middle;
  }
  return equal;
}

ExpectedChains::Node* ExpectedChains::NewLeaf(Node* parent, std::span<const BlockHash> run) {
  Node& leaf = nodes_[run[0]];
  leaf.run.assign(run.begin(), run.end());
  leaf.parent = parent;
  if (parent != nullptr) {
    leaf.place = parent->children.size();
    parent->children.push_back(&leaf);
  }
  num_blocks_ += static_cast<int64_t>(run.size());
  return &leaf;
}

// The first `at` blocks become a node of their own, which is returned. `node` stays the end of the
// chains that end there.
ExpectedChains::Node* ExpectedChains::Split(Node* node, size_t at) {
  const BlockHash first = node->run[0];
  auto handle = nodes_.extract(first);
  handle.key() = node->run[at];
  nodes_.insert(std::move(handle));
  Node& upper = nodes_[first];
  const auto middle = node->run.begin() + static_cast<ptrdiff_t>(at);
  upper.run.assign(node->run.begin(), middle);
  node->run.erase(node->run.begin(), middle);
  upper.parent = node->parent;
  upper.place = node->place;
  if (upper.parent != nullptr) upper.parent->children[upper.place] = &upper;
  upper.children.push_back(node);
  upper.shares = node->shares;
  upper.num_chains = node->num_chains;
  node->parent = &upper;
  node->place = 0;
  return &upper;
}

void ExpectedChains::EraseLeaf(Node* leaf) {
  TANDEM_DCHECK(leaf->children.empty()) << leaf->children.size() << " chains are left";
  if (leaf->parent != nullptr) {
    std::vector<Node*>& siblings = leaf->parent->children;
    siblings[leaf->place] = siblings.back();
    siblings[leaf->place]->place = leaf->place;
    siblings.pop_back();
  }
  num_blocks_ -= static_cast<int64_t>(leaf->run.size());
  nodes_.erase(leaf->run[0]);
}

// If all chains through `node` go on there, so that nodes do not pile up along a beginning that is
// always expected. `node` is gone then.
void ExpectedChains::MergeWithOnlyChild(Node* node) {
  if (node->children.size() != 1 || node->children[0]->num_chains != node->num_chains) return;
  Node* const child = node->children[0];
  auto handle = nodes_.extract(child->run[0]);
  child->run.insert(child->run.begin(), node->run.begin(), node->run.end());
  child->parent = node->parent;
  child->place = node->place;
  if (child->parent != nullptr) child->parent->children[child->place] = child;
  nodes_.erase(child->run[0]);
  handle.key() = child->run[0];
  nodes_.insert(std::move(handle));
}

void ExpectedChains::Enter(Node& node, uint32_t lane) {
  const auto at = std::lower_bound(node.shares.begin(), node.shares.end(), lane, kByLane);
  if (at != node.shares.end() && at->lane == lane) {
    ++at->chains;
  } else {
    node.shares.insert(at, {lane, 1});
  }
  ++node.num_chains;
}

void ExpectedChains::Leave(Node& node, uint32_t lane) {
  const auto at = std::lower_bound(node.shares.begin(), node.shares.end(), lane, kByLane);
  if (--at->chains == 0) node.shares.erase(at);
  --node.num_chains;
}

void ExpectedChains::CheckInvariants() const {
  int64_t blocks = 0;
  for (const auto& [first, node] : nodes_) {
    TANDEM_CHECK(first == node.run.at(0)) << "a node is not found by its first block";
    blocks += static_cast<int64_t>(node.run.size());
    int64_t shares = 0, below = 0;
    for (const Share& share : node.shares) shares += share.chains;
    for (const Node* child : node.children) {
      TANDEM_CHECK(child->parent == &node && node.children.at(child->place) == child) << "places";
      below += child->num_chains;
    }
    TANDEM_CHECK(shares == node.num_chains) << shares << " and " << node.num_chains;
    TANDEM_CHECK(node.num_chains > 0 && below <= node.num_chains) << below << " go on";
    TANDEM_CHECK(node.children.size() != 1 || below < node.num_chains) << "a node too many";
  }
  TANDEM_CHECK(blocks == num_blocks_) << blocks << " blocks, counted " << num_blocks_;
}

}  // namespace tandem::routing
