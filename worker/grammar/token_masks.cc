#include "worker/grammar/token_masks.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/check.h"
#include "worker/grammar/node_classes.h"

namespace tandem::grammar {
namespace {

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
      max_work_(std::max(kMaxWork, int64_t{2} * vocabulary_->size)),
      leaving_(LeavingNodes(automaton_)),
      bytes_behind_(BytesBehind(automaton_, leaving_)),
      node_bytes_(automaton_.nodes.size()),
      layers_{{{*this, 0}, {*this, 1}}} {
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
    for (Layer& layer : layers_) {
      if (layer.Make(static_cast<NodeId>(prepared_), walked) == nullptr) return false;
    }
  }
  return false;
}

std::vector<NodeId> TokenMasks::NodesOf(StateId state) const {
  std::vector<NodeId> nodes;
  for (const Config& config : states_[state].configs) {
    if (nodes.empty() || nodes.back() != config.node) nodes.push_back(config.node);
  }
  return nodes;
}

void TokenMasks::PrepareNodes(std::span<const NodeId> nodes) {
  int64_t walked = 0;
  for (const NodeId node : nodes) {
    for (Layer& layer : layers_) layer.Make(node, walked);
  }
}

int64_t TokenMasks::memory() const {
  constexpr int64_t kNodeBytes = 150, kEntryBytes = 40;
  return static_cast<int64_t>(automaton_.nodes.size()) * kNodeBytes + layers_[0].bytes() +
         layers_[1].bytes() + static_cast<int64_t>(kMaxEntries) * kEntryBytes;
}

StateId TokenMasks::Start() {
  work_ = max_work_;
  State state;
  Close({automaton_.start, -1}, state);
  const StateId id = work_ < 0 ? kDead : Intern(std::move(state));
  if (id != kDead) ++states_[id].uses;
  return id;
}

void TokenMasks::Release(StateId state) {
  TANDEM_CHECK(states_[state].uses > 0) << "state " << state << " is not in use";
  --states_[state].uses;
}

StateId TokenMasks::Advance(StateId state, TokenId token) {
  if (IsFull()) ForgetUnused();
  work_ = max_work_;
  if (token < 0 || token >= vocabulary_->size || vocabulary_->bytes[token].empty()) return kDead;
  for (const char c : vocabulary_->bytes[token]) {
    state = Step(state, static_cast<uint8_t>(c));
    if (state == kDead) return kDead;
  }
  ++states_[state].uses;
  return state;
}

bool TokenMasks::CanEnd(StateId state) const { return states_[state].can_end; }

TokenMasks::Filled TokenMasks::Fill(StateId state, std::span<uint32_t> mask, bool walk) {
  KeptMask& kept = kept_masks_[static_cast<size_t>(state) % kept_masks_.size()];
  if (kept.state != state) {
    kept.state = kDead;
    kept.words.resize(static_cast<size_t>(vocabulary_->size + 31) / 32);
    const Filled filled = MakeStateMask(state, kept.words, walk);
    if (filled != Filled::kTokens) return filled;
    kept.any = std::any_of(kept.words.begin(), kept.words.end(), [](uint32_t w) { return w != 0; });
    kept.state = state;
  }
  std::fill(std::copy(kept.words.begin(), kept.words.end(), mask.begin()), mask.end(), 0);
  return kept.any ? Filled::kTokens : Filled::kNothing;
}

TokenMasks::Filled TokenMasks::MakeStateMask(StateId state, std::span<uint32_t> mask, bool walk) {
  std::fill(mask.begin(), mask.end(), 0);
  work_ = max_work_;
  // By index and by value: states are made meanwhile, and the vector may move.
  for (size_t i = 0; i < states_[state].configs.size(); ++i) {
    const Config config = states_[state].configs[i];
    for (Layer& layer : layers_) {
      const NodeMask* own = layer.Find(config.node);
      if (own == nullptr) {
        if (!walk && layer.bytes() < kMaxMaskBytes) return Filled::kPending;
        int64_t walked = 0;
        own = layer.Make(config.node, walked);
      }
      if (own == nullptr) return Filled::kTooMuch;
      AddNodeMask(layer, *own, config.frame, mask);
      if (work_ < 0) return Filled::kTooMuch;
    }
  }
  return Filled::kTokens;
}

void TokenMasks::AddNodeMask(const Layer& layer, const NodeMask& own, FrameId frame,
                             std::span<uint32_t> mask) {
  work_ -= static_cast<int64_t>(own.bits.size() / 64 + own.tokens.size() / 16);
  for (size_t word = 0; word < own.bits.size(); ++word) mask[word] |= own.bits[word];
  for (const TokenId token : own.tokens) Set(mask, token);
  const TokenTrie& trie = layer.trie();
  for (const NodeMask::Exit& exit : own.exits) {
    const StateId to = ExitOf({exit.node, frame});
    if (to == kDead) continue;
    uint32_t begin = 0;
    for (const NodeMask::Group& group : exit.groups) {
      const std::span<const int32_t> children(exit.children.data() + begin, group.end - begin);
      begin = group.end;
      if (!states_[to].bytes[group.byte]) continue;
      const StateId next = Step(to, group.byte);
      if (next == kDead) continue;
      work_ -= static_cast<int64_t>(children.size());
      if (work_ < 0) return;
      for (const int32_t child : children) {
        for (const TokenId token : trie.tokens(child)) Set(mask, token);
        if (!trie.is_leaf(child)) WalkState(next, trie, child, mask);
      }
    }
  }
}

TokenMasks::Layer::Layer(const TokenMasks& of, size_t part)
    : of_(of),
      trie_(of.vocabulary_->parts[part].trie),
      classes_(
          NodeClasses(of.automaton_.nodes, of.leaving_, of.vocabulary_->parts[part].max_bytes)),
      masks_(of.automaton_.nodes.size()) {}

TokenMasks::Layer::~Layer() {
  for (const auto& mask : masks_) delete mask.load(std::memory_order_relaxed);
}

const TokenMasks::NodeMask* TokenMasks::Layer::Find(NodeId node) const {
  return masks_[static_cast<size_t>(classes_[node])].load(std::memory_order_acquire);
}

// Where two threads make the same, one of them is kept.
const TokenMasks::NodeMask* TokenMasks::Layer::Make(NodeId node, int64_t& walked) {
  const NodeMask* known = Find(node);
  if (known != nullptr) return known;
  if (bytes() >= kMaxMaskBytes) return nullptr;
  std::unique_ptr<NodeMask> made = Build(node, walked);
  std::atomic<const NodeMask*>& mask = masks_[static_cast<size_t>(classes_[node])];
  if (!mask.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel)) return known;
  size_t size = sizeof(NodeMask) + made->bits.size() * sizeof(uint32_t) +
                made->tokens.size() * sizeof(TokenId);
  for (const NodeMask::Exit& exit : made->exits) {
    size += sizeof(exit) + exit.children.size() * sizeof(int32_t) + exit.groups.size() * 8;
  }
  bytes_.fetch_add(static_cast<int64_t>(size), std::memory_order_relaxed);
  return made.release();
}

std::unique_ptr<TokenMasks::NodeMask> TokenMasks::Layer::Build(NodeId node, int64_t& walked) const {
  auto out = std::make_unique<NodeMask>();
  std::vector<Behind> behind;
  walked += Walk(node, 0, *out, behind);
  // A list of more tokens than this is longer than the bitmap.
  const size_t words = (static_cast<size_t>(of_.vocabulary_->size) + 31) / 32;
  if (out->tokens.size() > words) {
    out->bits.resize(words);
    for (const TokenId token : out->tokens) Set(out->bits, token);
    out->tokens = {};
  }
  AddExits(behind, *out);
  return out;
}

int64_t TokenMasks::Layer::Walk(NodeId node, int trie_node, NodeMask& out,
                                std::vector<Behind>& behind) const {
  int64_t steps = 0;
  for (int child = trie_node + 1; child < trie_.end(trie_node); child = trie_.end(child)) {
    ++steps;
    const NodeId to = of_.automaton_.nodes[node].After(trie_.byte(child));
    if (to < 0) continue;
    const auto own = trie_.tokens(child);
    out.tokens.insert(out.tokens.end(), own.begin(), own.end());
    if (trie_.is_leaf(child)) continue;
    if (of_.leaving_[to]) {
      for (int next = child + 1; next < trie_.end(child); next = trie_.end(next)) {
        if (of_.bytes_behind_[to][trie_.byte(next)]) behind.push_back({to, next});
      }
    }
    steps += Walk(to, child, out, behind);
  }
  return steps;
}

void TokenMasks::Layer::AddExits(std::vector<Behind>& behind, NodeMask& out) const {
  std::sort(behind.begin(), behind.end(), [this](const Behind& a, const Behind& b) {
    return std::tuple(a.node, trie_.byte(a.child), a.child) <
           std::tuple(b.node, trie_.byte(b.child), b.child);
  });
  for (const Behind& one : behind) {
    if (out.exits.empty() || out.exits.back().node != one.node) {
      out.exits.push_back({one.node, {}, {}});
    }
    NodeMask::Exit& exit = out.exits.back();
    const uint8_t byte = trie_.byte(one.child);
    if (exit.groups.empty() || exit.groups.back().byte != byte) exit.groups.push_back({byte, 0});
    exit.children.push_back(one.child);
    exit.groups.back().end = static_cast<uint32_t>(exit.children.size());
  }
}

void TokenMasks::WalkState(StateId state, const TokenTrie& trie, int trie_node,
                           std::span<uint32_t> mask) {
  for (int child = trie_node + 1; child < trie.end(trie_node); child = trie.end(child)) {
    const uint8_t byte = trie.byte(child);
    if (--work_ < 0) return;
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
    if (--work_ < 0) return;
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
    if (--work_ < 0) return kDead;  // not for ever: another time there may be work left
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
  if (--work_ < 0) return kDead;
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
