#include "worker/grammar/token_masks.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/check.h"
#include "worker/grammar/node_classes.h"

namespace tandem::grammar {
namespace {

// Exits with more tokens behind them are walked in the vocabulary instead of copied.
constexpr size_t kNarrowExit = 256;

uint64_t Key(int32_t high, int32_t low) {
  return static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32 | static_cast<uint32_t>(low);
}

void Set(std::span<uint32_t> mask, TokenId token) { mask[token / 32] |= 1u << (token % 32); }

}  // namespace

std::shared_ptr<const Vocabulary> MakeVocabulary(std::vector<std::string> bytes) {
  auto out = std::make_shared<Vocabulary>();
  out->size = static_cast<int>(bytes.size());
  out->bytes = std::move(bytes);
  std::array<std::vector<TokenTrie::Item>, 2> items;
  for (TokenId token = 0; token < out->size; ++token) {
    const std::string& text = out->bytes[token];
    if (text.empty()) continue;
    const auto size = static_cast<int>(text.size());
    const size_t part = size <= Vocabulary::kShortBytes ? 0 : 1;
    out->parts[part].max_bytes = std::max(out->parts[part].max_bytes, size);
    items[part].push_back({text, token});
  }
  for (size_t part = 0; part < 2; ++part) {
    out->parts[part].trie = TokenTrie(std::move(items[part]));
  }
  return out;
}

TokenMasks::TokenMasks(std::shared_ptr<const Vocabulary> vocabulary, Automaton automaton,
                       int max_states)
    : vocabulary_(std::move(vocabulary)),
      automaton_(std::move(automaton)),
      max_states_(max_states),
      leaving_(LeavingNodes(automaton_)),
      node_bytes_(automaton_.nodes.size()),
      layers_{{{automaton_, leaving_, *vocabulary_, 0}, {automaton_, leaving_, *vocabulary_, 1}}} {
  for (size_t node = 0; node < node_bytes_.size(); ++node) {
    for (const Node::OnByte& edge : automaton_.nodes[node].bytes) {
      for (int byte = edge.first; byte <= edge.last; ++byte) node_bytes_[node].set(byte);
    }
  }
}

bool TokenMasks::Prepare(int64_t steps) {
  int64_t walked = 0;
  for (; prepared_ < automaton_.nodes.size(); ++prepared_) {
    if (walked >= steps) return true;
    if (automaton_.nodes[prepared_].bytes.empty()) continue;
    for (Layer& layer : layers_) layer.MaskOf(static_cast<NodeId>(prepared_), walked);
  }
  return false;
}

StateId TokenMasks::Start() {
  State state;
  Close({automaton_.start, -1}, state);
  const StateId id = Intern(std::move(state));
  TANDEM_CHECK(id != kDead) << "a grammar that nothing matches";
  ++states_[id].uses;
  return id;
}

void TokenMasks::Release(StateId state) {
  TANDEM_CHECK(states_[state].uses > 0) << "state " << state << " is not in use";
  --states_[state].uses;
}

StateId TokenMasks::Advance(StateId state, TokenId token) {
  if (IsFull()) ForgetUnused();
  if (token < 0 || token >= vocabulary_->size || vocabulary_->bytes[token].empty()) return kDead;
  for (const char c : vocabulary_->bytes[token]) {
    state = Step(state, static_cast<uint8_t>(c));
    if (state == kDead) return kDead;
  }
  ++states_[state].uses;
  return state;
}

bool TokenMasks::CanEnd(StateId state) const { return states_[state].can_end; }

void TokenMasks::Fill(StateId state, std::span<uint32_t> mask) {
  KeptMask& kept = kept_masks_[static_cast<size_t>(state) % kept_masks_.size()];
  if (kept.state != state) {
    kept.words.resize(static_cast<size_t>(vocabulary_->size + 31) / 32);
    MakeStateMask(state, kept.words);
    kept.state = state;
  }
  std::fill(std::copy(kept.words.begin(), kept.words.end(), mask.begin()), mask.end(), 0);
}

void TokenMasks::MakeStateMask(StateId state, std::span<uint32_t> mask) {
  std::fill(mask.begin(), mask.end(), 0);
  // By index and by value: states are made meanwhile, and the vector may move.
  for (size_t i = 0; i < states_[state].configs.size(); ++i) {
    const Config config = states_[state].configs[i];
    for (Layer& layer : layers_) AddNodeMask(layer, config, mask);
  }
}

void TokenMasks::AddNodeMask(Layer& layer, const Config& config, std::span<uint32_t> mask) {
  int64_t walked = 0;
  const NodeMask& own = layer.MaskOf(config.node, walked);
  for (size_t word = 0; word < own.bits.size(); ++word) mask[word] |= own.bits[word];
  for (const TokenId token : own.tokens) Set(mask, token);
  for (const NodeMask::Exit& exit : own.exits) {
    const StateId to = ExitOf({exit.node, config.frame});
    if (to != kDead) WalkState(to, exit.rests, 0, mask);
  }
  for (const NodeMask::WideExit& exit : own.wide_exits) {
    const StateId to = ExitOf({exit.node, config.frame});
    if (to != kDead) WalkState(to, layer.trie(), exit.trie_node, mask);
  }
}

TokenMasks::Layer::Layer(const Automaton& automaton, const std::vector<bool>& leaving,
                         const Vocabulary& vocabulary, size_t part)
    : automaton_(automaton),
      leaving_(leaving),
      vocabulary_size_(vocabulary.size),
      trie_(vocabulary.parts[part].trie),
      classes_(NodeClasses(automaton.nodes, leaving, vocabulary.parts[part].max_bytes)),
      masks_(automaton.nodes.size()) {}

TokenMasks::Layer::~Layer() {
  for (const auto& mask : masks_) delete mask.load(std::memory_order_relaxed);
}

// Where two threads make the same, one of them is kept.
const TokenMasks::NodeMask& TokenMasks::Layer::MaskOf(NodeId node, int64_t& walked) {
  std::atomic<const NodeMask*>& mask = masks_[static_cast<size_t>(classes_[node])];
  const NodeMask* known = mask.load(std::memory_order_acquire);
  if (known != nullptr) return *known;
  std::unique_ptr<NodeMask> made = Make(node, walked);
  if (mask.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel)) {
    return *made.release();
  }
  return *known;
}

std::unique_ptr<TokenMasks::NodeMask> TokenMasks::Layer::Make(NodeId node, int64_t& walked) const {
  auto out = std::make_unique<NodeMask>();
  std::vector<NarrowExit> narrow;
  walked += Walk(node, 0, 0, *out, narrow);
  // A list of more tokens than this is longer than the bitmap.
  const size_t words = (static_cast<size_t>(vocabulary_size_) + 31) / 32;
  if (out->tokens.size() > words) {
    out->bits.resize(words);
    for (const TokenId token : out->tokens) Set(out->bits, token);
    out->tokens = {};
  }
  std::map<NodeId, std::vector<TokenTrie::Item>> rests;
  for (const NarrowExit& exit : narrow) {
    const auto [begin, end] = trie_.below(exit.trie_node);
    for (int i = begin; i < end; ++i) {
      rests[exit.node].push_back({trie_.bytes_of(i).substr(exit.depth), trie_.all_tokens()[i]});
    }
  }
  for (auto& [to, items] : rests) out->exits.push_back({to, TokenTrie(std::move(items))});
  return out;
}

int64_t TokenMasks::Layer::Walk(NodeId node, int trie_node, int depth, NodeMask& out,
                                std::vector<NarrowExit>& narrow) const {
  int64_t steps = 0;
  for (int child = trie_node + 1; child < trie_.end(trie_node); child = trie_.end(child)) {
    ++steps;
    const NodeId to = automaton_.nodes[node].After(trie_.byte(child));
    if (to < 0) continue;
    const auto own = trie_.tokens(child);
    out.tokens.insert(out.tokens.end(), own.begin(), own.end());
    if (trie_.is_leaf(child)) continue;
    if (leaving_[to]) {
      if (trie_.tokens_below(child).size() > kNarrowExit) {
        out.wide_exits.push_back({to, child});
      } else {
        narrow.push_back({to, child, depth + 1});
      }
    }
    steps += Walk(to, child, depth + 1, out, narrow);
  }
  return steps;
}

void TokenMasks::WalkState(StateId state, const TokenTrie& trie, int trie_node,
                           std::span<uint32_t> mask) {
  for (int child = trie_node + 1; child < trie.end(trie_node); child = trie.end(child)) {
    const uint8_t byte = trie.byte(child);
    if (!states_[state].bytes[byte]) continue;
    const StateId to = Step(state, byte);
    if (to == kDead) continue;
    for (const TokenId token : trie.tokens(child)) Set(mask, token);
    if (!trie.is_leaf(child)) WalkState(to, trie, child, mask);
  }
}

TokenMasks::FrameId TokenMasks::Push(NodeId to, FrameId below) {
  // Nothing is left to do behind the rule: its end is this one's, and lists do not grow the stack.
  if (automaton_.nodes[to].only_accepts()) return below;
  const auto [it, is_new] =
      frame_ids_.emplace(Key(to, below), static_cast<FrameId>(frames_.size()));
  if (is_new) frames_.push_back({to, below});
  return it->second;
}

void TokenMasks::Close(Config config, State& into) {
  closed_.clear();
  open_.assign(1, config);
  while (!open_.empty() && into.configs.size() <= kMaxStacks) {
    const Config next = open_.back();
    open_.pop_back();
    if (!closed_.insert(Key(next.node, next.frame)).second) continue;
    const Node& node = automaton_.nodes[next.node];
    if (!node.bytes.empty()) into.configs.push_back(next);
    for (const Node::OnRule& edge : node.rules) {
      open_.push_back({edge.start, Push(edge.to, next.frame)});
    }
    if (!node.accepts) continue;
    if (next.frame < 0) {
      into.can_end = true;
    } else {
      open_.push_back({frames_[next.frame].to, frames_[next.frame].below});
    }
  }
}

void TokenMasks::Leave(Config config, State& into) {
  const Node& node = automaton_.nodes[config.node];
  for (const Node::OnRule& edge : node.rules) {
    Close({edge.start, Push(edge.to, config.frame)}, into);
  }
  if (!node.accepts) return;
  if (config.frame < 0) {
    into.can_end = true;
  } else {
    Close({frames_[config.frame].to, frames_[config.frame].below}, into);
  }
}

// Equal configs may or may not end, for what ends may have no byte to read.
std::string TokenMasks::KeyOf(const State& state) {
  std::string key(1, state.can_end ? '1' : '0');
  key.append(reinterpret_cast<const char*>(state.configs.data()),
             state.configs.size() * sizeof(Config));
  return key;
}

StateId TokenMasks::Intern(State&& state) {
  auto& configs = state.configs;
  std::sort(configs.begin(), configs.end());
  configs.erase(std::unique(configs.begin(), configs.end()), configs.end());
  if (configs.size() > kMaxStacks || (configs.empty() && !state.can_end)) return kDead;
  std::string key = KeyOf(state);
  const auto it = state_ids_.find(key);
  if (it != state_ids_.end()) return it->second;
  for (const Config& config : configs) state.bytes |= node_bytes_[config.node];
  num_configs_ += configs.size();
  StateId id;
  if (free_states_.empty()) {
    id = static_cast<StateId>(states_.size());
    states_.push_back(std::move(state));
  } else {
    id = free_states_.back();
    free_states_.pop_back();
    states_[id] = std::move(state);
  }
  state_ids_.emplace(std::move(key), id);
  return id;
}

StateId TokenMasks::Step(StateId from, uint8_t byte) {
  const uint64_t key = Key(from, byte);
  if (const auto it = steps_.find(key); it != steps_.end()) return it->second;
  State state;
  for (const Config& config : states_[from].configs) {
    const NodeId to = automaton_.nodes[config.node].After(byte);
    if (to >= 0) Close({to, config.frame}, state);
  }
  const StateId id = Intern(std::move(state));
  steps_.emplace(key, id);
  return id;
}

StateId TokenMasks::ExitOf(Config config) {
  const uint64_t key = Key(config.node, config.frame);
  if (const auto it = exits_.find(key); it != exits_.end()) return it->second;
  State state;
  Leave(config, state);
  const StateId id = Intern(std::move(state));
  exits_.emplace(key, id);
  return id;
}

bool TokenMasks::IsFull() const {
  return num_states() > max_states_ ||
         num_configs_ + frames_.size() + steps_.size() + exits_.size() > kMaxEntries;
}

// Keeps the states in use, under their numbers, and the frames that they stand on.
void TokenMasks::ForgetUnused() {
  const std::vector<Frame> old = std::move(frames_);
  frames_.clear();
  frame_ids_.clear();
  state_ids_.clear();
  steps_.clear();
  exits_.clear();
  free_states_.clear();
  num_configs_ = 0;
  for (KeptMask& kept : kept_masks_) kept.state = kDead;
  std::vector<FrameId> moved(old.size(), -1);
  const auto keep = [&](FrameId frame) {
    std::vector<FrameId> path;  // from the top to the first that is kept already
    for (FrameId f = frame; f >= 0 && moved[f] < 0; f = old[f].below) path.push_back(f);
    for (; !path.empty(); path.pop_back()) {
      const Frame& from = old[path.back()];
      moved[path.back()] = Push(from.to, from.below < 0 ? -1 : moved[from.below]);
    }
    return frame < 0 ? -1 : moved[frame];
  };
  for (StateId id = 0; id < static_cast<StateId>(states_.size()); ++id) {
    State& state = states_[id];
    if (state.uses == 0) {
      state = {};
      free_states_.push_back(id);
      continue;
    }
    for (Config& config : state.configs) config.frame = keep(config.frame);
    std::sort(state.configs.begin(), state.configs.end());
    num_configs_ += state.configs.size();
    state_ids_.emplace(KeyOf(state), id);
  }
}

}  // namespace tandem::grammar
