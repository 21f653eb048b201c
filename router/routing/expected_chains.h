// What requests in flight will leave in their groups' caches: a chain of blocks for each of them.
//
// A radix tree. A hash names all blocks before its own, so two chains are equal up to where they
// are equal at one place: a chain is compared by binary search, entered by copying what is new of
// it, and a node is found by its first hash alone. A node's run is what all chains through it have
// in common; it counts them for each group.
//
// Thread: one. Memory: 16 bytes for each block that some chain names, however many name it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"

namespace tandem::routing {

class ExpectedChains {
 public:
  // `lane`: a small number for the group, the same as long as it has chains here.
  // REQUIRES: `request` has no chain.
  void Add(GroupId group, uint32_t lane, RequestId request, std::span<const BlockHash> chain);
  // The group whose chain it was; not valid: there was none.
  GroupId Remove(RequestId request);

  // depth[lane] = how many leading blocks of `hashes` the chains of that group have in common with
  // it, where that is any; the others' stays as it is. False: nobody's.
  // Allocates nothing. REQUIRES: depth reaches all lanes.
  bool Match(std::span<const BlockHash> hashes, std::span<int32_t> depth) const;

  int64_t num_blocks() const { return num_blocks_; }
  void CheckInvariants() const;  // tests

 private:
  struct Share {
    uint32_t lane;
    uint32_t chains;
  };
  struct Node {
    std::vector<BlockHash> run;  // not empty
    Node* parent = nullptr;
    size_t place = 0;  // among the parent's children
    std::vector<Node*> children;
    std::vector<Share> shares;  // of the chains that go through all of the run, ascending
    int64_t num_chains = 0;     // sum of those
  };
  struct Chain {
    GroupId group;
    uint32_t lane;
    Node* end;  // its last block is this node's; null: it has none
  };

  static size_t NumEqual(const std::vector<BlockHash>& run, std::span<const BlockHash> hashes);
  Node* NewLeaf(Node* parent, std::span<const BlockHash> run);
  Node* Split(Node* node, size_t at);
  void EraseLeaf(Node* leaf);
  void MergeWithOnlyChild(Node* node);
  static void Enter(Node& node, uint32_t lane);
  static void Leave(Node& node, uint32_t lane);

  std::unordered_map<BlockHash, Node, BlockHashHasher> nodes_;  // by the first of the run
  std::unordered_map<RequestId, Chain> chains_;
  int64_t num_blocks_ = 0;
};

}  // namespace tandem::routing
