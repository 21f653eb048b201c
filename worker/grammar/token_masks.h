// Which tokens may come next, for every place in a grammar that a reply can reach.
//
// A place (State) is the set of stacks in which the grammar's machines can be after the bytes so
// far; states are made as they are met and numbered, so that a sequence's place is one number and
// to go back is to remember one. What a node allows without leaving its rule is found once for each
// node (once for all that no token tells apart) by a walk over the vocabulary. Where tokens leave
// the rule the walk notes what they have behind it, by its first byte and only if that may follow
// anywhere; that is tried on the stack at hand: a few hundred places instead of the vocabulary.
//
// Thread: one at a time, and beside it one that calls Prepare. Memory: grows with the states met;
// beyond a limit all but those in use are forgotten.
#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/grammar/automaton.h"
#include "common/ids.h"
#include "worker/grammar/token_trie.h"

namespace tandem::grammar {

// The vocabulary as the grammar sees it. Control tokens have no text and are never allowed, but
// for those that end a reply.
struct Vocabulary {
  // Long tokens are few, and apart: near the end of a bounded repetition they alone tell one place
  // from the next.
  struct Part {
    int max_bytes = 0;  // of a token
    TokenTrie trie;
  };
  static constexpr int kShortBytes = 20;
  int size = 0;
  std::array<Part, 2> parts;       // tokens of up to kShortBytes, and the others
  std::vector<std::string> bytes;  // [size] of tokens that are text; empty: never allowed
};

// `bytes`: [vocab] of each token; empty: never allowed.
std::shared_ptr<const Vocabulary> MakeVocabulary(std::vector<std::string> bytes);

using StateId = int32_t;

class TokenMasks {
 public:
  TokenMasks(std::shared_ptr<const Vocabulary> vocabulary, Automaton automaton,
             int max_states = kMaxStates);

  // Finds what nodes allow ahead of time, as far as `steps` more of the vocabulary's walk go.
  // False: there is nothing left to find.
  bool Prepare(int64_t steps);

  // States are counted: each that is returned is in use until it is released. kDead: the grammar
  // begins with too many stacks.
  StateId Start();
  void Release(StateId state);

  // Where `token` leads from `state`, which stays in use; kDead: nowhere, or to too many stacks.
  static constexpr StateId kDead = -1;
  StateId Advance(StateId state, TokenId token);

  // Whether the reply may end here.
  bool CanEnd(StateId state) const;

  // Sets bit t of `mask` for every token t that may come next and clears the others. Size: at least
  // (vocabulary + 31) / 32 words.
  enum class Filled : uint8_t {
    kTokens,   // at least one
    kNothing,  // nothing but the end may follow
    kPending,  // a walk over the vocabulary is missing, which takes milliseconds: PrepareNodes
    kTooMuch,  // the grammar is so ambiguous here that to find out would hold up others
  };
  // `walk`: makes what is missing, instead of kPending.
  Filled Fill(StateId state, std::span<uint32_t> mask, bool walk = true);

  // What Fill(state) needs ahead of time, and to make that: on another thread, like Prepare.
  std::vector<NodeId> NodesOf(StateId state) const;
  void PrepareNodes(std::span<const NodeId> nodes);

  int64_t memory() const;  // bytes, about; any thread
  int num_states() const { return static_cast<int>(states_.size() - free_states_.size()); }
  // Stacks at once beyond which a state counts as kDead: the grammar is too ambiguous.
  static constexpr size_t kMaxStacks = 1024;
  // Stacks, steps and exits that one Fill or Advance looks at: a millisecond or two, or twice the
  // vocabulary, for behind an exit most of it may follow (the words behind a space).
  static constexpr int64_t kMaxWork = 100'000;
  // Of masks of nodes: beyond it none are made, and Fill says kTooMuch.
  static constexpr int64_t kMaxMaskBytes = 128 << 20;
  static constexpr int kMaxStates = 50'000;
  // Entries of the tables that make a step from a state quick, and stacks of all states: 20 MB.
  static constexpr size_t kMaxEntries = 500'000;

 private:
  using FrameId = int32_t;  // -1: the bottom
  struct Frame {
    NodeId to;
    FrameId below;
    auto operator<=>(const Frame&) const = default;
  };
  struct Config {
    NodeId node;
    FrameId frame;
    auto operator<=>(const Config&) const = default;
  };
  using ByteSet = std::bitset<256>;
  struct State {
    std::vector<Config> configs;  // ascending; those that read a byte
    ByteSet bytes;                // that one of them reads: most steps are refused here
    bool can_end = false;
    int32_t uses = 0;
  };
  // Places come back: a string is one until it ends.
  struct KeptMask {
    StateId state = kDead;
    std::vector<uint32_t> words;
    bool any = false;
  };
  // What a node's rule allows from it on, and where tokens leave the rule.
  struct NodeMask {
    std::vector<uint32_t> bits;   // many tokens: a bitmap, else empty
    std::vector<TokenId> tokens;  // few
    // Where the rule is left, or another entered, within tokens: what they have behind it begins
    // at these nodes of the trie, by their byte.
    struct Group {
      uint8_t byte;
      uint32_t end;  // of its part of `children`, which begins where the one before ends
    };
    struct Exit {
      NodeId node;
      std::vector<Group> groups;
      std::vector<int32_t> children;
    };
    std::vector<Exit> exits;
  };
  // Of a part of the vocabulary.
  class Layer {
   public:
    Layer(const TokenMasks& of, size_t part);
    ~Layer();
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

    const TokenTrie& trie() const { return trie_; }
    // Any thread. Find: null, if it was not made. Make: null, if there is no memory for it; adds to
    // `walked` the steps that it took: none, if it was made before.
    const NodeMask* Find(NodeId node) const;
    const NodeMask* Make(NodeId node, int64_t& walked);
    int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

   private:
    struct Behind {
      NodeId node;  // that is left
      int32_t child;
    };
    std::unique_ptr<NodeMask> Build(NodeId node, int64_t& walked) const;
    int64_t Walk(NodeId node, int trie_node, NodeMask& out, std::vector<Behind>& behind) const;
    void AddExits(std::vector<Behind>& behind, NodeMask& out) const;

    const TokenMasks& of_;
    const TokenTrie& trie_;
    const std::vector<int32_t> classes_;               // by node; see node_classes.h
    std::vector<std::atomic<const NodeMask*>> masks_;  // by class; null: not made
    std::atomic<int64_t> bytes_{0};
  };

  Filled MakeStateMask(StateId state, std::span<uint32_t> mask, bool walk);
  void AddNodeMask(const Layer& layer, const NodeMask& own, FrameId frame,
                   std::span<uint32_t> mask);
  void WalkState(StateId state, const TokenTrie& trie, int trie_node, std::span<uint32_t> mask);

  FrameId Push(NodeId to, FrameId below);
  // Adds what `config` reaches without a byte: it and all behind rules that it enters or ends.
  void Close(Config config, State& into);
  void Leave(Config config, State& into);  // the same without `config` itself
  static std::string KeyOf(const State& state);
  StateId Intern(State&& state);
  StateId Step(StateId state, uint8_t byte);
  StateId ExitOf(Config config);
  bool IsFull() const;
  void ForgetUnused();

  const std::shared_ptr<const Vocabulary> vocabulary_;
  const Automaton automaton_;
  const int max_states_;
  const int64_t max_work_;
  const std::vector<bool> leaving_;          // by node; see node_classes.h
  const std::vector<ByteSet> bytes_behind_;  // by node; too
  std::vector<ByteSet> node_bytes_;          // by node: that it reads
  std::array<Layer, 2> layers_;              // of the vocabulary's parts
  size_t prepared_ = 0;                      // nodes, by Prepare

  std::vector<Frame> frames_;
  absl::flat_hash_map<uint64_t, FrameId> frame_ids_;
  std::vector<State> states_;
  std::vector<StateId> free_states_;
  std::array<KeptMask, 64> kept_masks_;                  // by state, modulo their number
  size_t num_configs_ = 0;                               // of all states made since
  absl::flat_hash_map<std::string, StateId> state_ids_;  // by the bytes of configs
  absl::flat_hash_map<uint64_t, StateId> steps_;         // (state, byte)
  absl::flat_hash_map<uint64_t, StateId> exits_;         // (node, frame)
  absl::flat_hash_set<uint64_t> closed_;                 // scratch of Close: (node, frame)
  std::vector<Config> open_;                             // scratch of Close
  int64_t work_ = 0;                                     // left of max_work_; below 0: too much
};

}  // namespace tandem::grammar
