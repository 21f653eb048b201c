#include "worker/grammar/node_classes.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace tandem::grammar {
namespace {

// Moore's refinement, but a round looks only at nodes whose successors were told apart in the one
// before.
class Refinement {
 public:
  Refinement(const std::vector<Node>& nodes, const std::vector<bool>& leaving)
      : nodes_(nodes), leaving_(leaving), classes_(nodes.size()) {
    absl::flat_hash_map<std::string, int32_t> known;
    for (size_t i = 0; i < nodes.size(); ++i) {
      classes_[i] = known.emplace(LocalKey(i), static_cast<int32_t>(known.size())).first->second;
    }
    members_.resize(known.size());
    for (size_t i = 0; i < nodes.size(); ++i) ++members_[classes_[i]];
    LinkPredecessors();
  }

  void Refine(int depth) {
    std::vector<int32_t> affected(nodes_.size());
    for (size_t i = 0; i < affected.size(); ++i) affected[i] = static_cast<int32_t>(i);
    bool all = true;
    for (int round = 0; round < depth && !affected.empty(); ++round) {
      affected = Round(affected, all);
      all = false;
    }
  }

  std::vector<int32_t> Take() { return std::move(classes_); }

 private:
  // What is seen without a step. A leaving node is like no other.
  std::string LocalKey(size_t i) const {
    const Node& node = nodes_[i];
    std::string key;
    if (leaving_[i]) {
      key.append(reinterpret_cast<const char*>(&i), sizeof(i));
      key.push_back('!');
      return key;
    }
    for (const Node::OnByte& edge : node.bytes) {
      key.push_back(static_cast<char>(edge.first));
      key.push_back(static_cast<char>(edge.last));
    }
    return key;
  }

  std::string Key(int32_t i) const {
    std::string key;
    for (const Node::OnByte& edge : nodes_[i].bytes) {
      key.append(reinterpret_cast<const char*>(&classes_[edge.to]), sizeof(int32_t));
    }
    return key;
  }

  void LinkPredecessors() {
    first_.assign(nodes_.size() + 1, 0);
    for (const Node& node : nodes_) {
      for (const Node::OnByte& edge : node.bytes) ++first_[edge.to + 1];
    }
    for (size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
    predecessors_.resize(first_.back());
    std::vector<size_t> next(first_.begin(), first_.end() - 1);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      for (const Node::OnByte& edge : nodes_[i].bytes) {
        predecessors_[next[edge.to]++] = static_cast<int32_t>(i);
      }
    }
  }

  // Tells `affected` apart by the classes of what they lead to; returns those that this affects.
  // Members of a class that are not among them are as alike as they were, and keep its number.
  std::vector<int32_t> Round(const std::vector<int32_t>& affected, bool all) {
    std::map<int32_t, std::map<std::string, std::vector<int32_t>>> groups;
    for (const int32_t node : affected) groups[classes_[node]][Key(node)].push_back(node);
    std::vector<std::pair<int32_t, int32_t>> changes;  // node, class
    for (auto& [of, by_key] : groups) {
      size_t seen = 0;
      for (const auto& [key, group] : by_key) seen += group.size();
      auto keeps = by_key.end();
      if (all || seen == static_cast<size_t>(members_[of])) {
        keeps = std::max_element(by_key.begin(), by_key.end(), [](const auto& a, const auto& b) {
          return a.second.size() < b.second.size();
        });
      }
      for (auto it = by_key.begin(); it != by_key.end(); ++it) {
        if (it == keeps) continue;
        const auto number = static_cast<int32_t>(members_.size());
        members_.push_back(static_cast<int32_t>(it->second.size()));
        members_[of] -= members_.back();
        for (const int32_t node : it->second) changes.emplace_back(node, number);
      }
    }
    std::vector<int32_t> next;
    for (const auto& [node, number] : changes) {
      classes_[node] = number;
      next.insert(next.end(), predecessors_.begin() + static_cast<int64_t>(first_[node]),
                  predecessors_.begin() + static_cast<int64_t>(first_[node + 1]));
    }
    std::sort(next.begin(), next.end());
    next.erase(std::unique(next.begin(), next.end()), next.end());
    return next;
  }

  const std::vector<Node>& nodes_;
  const std::vector<bool>& leaving_;
  std::vector<int32_t> classes_;
  std::vector<int32_t> members_;  // how many, by class
  std::vector<size_t> first_;     // of each node, into predecessors_
  std::vector<int32_t> predecessors_;
};

}  // namespace

std::vector<bool> LeavingNodes(const Automaton& automaton) {
  const std::vector<Node>& nodes = automaton.nodes;
  std::vector<bool> leaving(nodes.size());
  bool root_again = false;
  for (size_t i = 0; i < nodes.size(); ++i) {
    leaving[i] = nodes[i].accepts || !nodes[i].rules.empty();
    for (const Node::OnRule& edge : nodes[i].rules) root_again |= edge.start == automaton.start;
  }
  if (root_again) return leaving;
  std::vector<bool> of_root(nodes.size());
  std::vector<NodeId> open = {automaton.start};
  while (!open.empty()) {
    const NodeId node = open.back();
    open.pop_back();
    if (of_root[node]) continue;
    of_root[node] = true;
    leaving[node] = !nodes[node].rules.empty();
    for (const Node::OnByte& edge : nodes[node].bytes) open.push_back(edge.to);
    for (const Node::OnRule& edge : nodes[node].rules) open.push_back(edge.to);
  }
  return leaving;
}

// `rules` of nodes are named by their first node.
std::vector<NodeId> RulesOf(const Automaton& automaton) {
  const std::vector<Node>& nodes = automaton.nodes;
  std::vector<NodeId> rules(nodes.size(), -1), starts = {automaton.start};
  for (const Node& node : nodes) {
    for (const Node::OnRule& edge : node.rules) starts.push_back(edge.start);
  }
  std::vector<NodeId> open;
  for (const NodeId start : starts) {
    open.assign(1, start);
    while (!open.empty()) {
      const NodeId node = open.back();
      open.pop_back();
      if (rules[node] >= 0) continue;
      rules[node] = start;
      for (const Node::OnByte& edge : nodes[node].bytes) open.push_back(edge.to);
      for (const Node::OnRule& edge : nodes[node].rules) open.push_back(edge.to);
    }
  }
  return rules;
}

std::vector<std::bitset<256>> BytesBehind(const Automaton& automaton,
                                          const std::vector<bool>& leaving) {
  using Bytes = std::bitset<256>;
  constexpr int kRounds = 50;  // rules in each other; beyond: all bytes
  const std::vector<Node>& nodes = automaton.nodes;
  const std::vector<NodeId> rules = RulesOf(automaton);
  std::vector<Bytes> own(nodes.size()), behind(nodes.size()),
      follow(nodes.size());  // by first node
  std::vector<size_t> left;
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const Node::OnByte& edge : nodes[i].bytes) {
      for (int byte = edge.first; byte <= edge.last; ++byte) own[i].set(byte);
    }
    if (leaving[i] || nodes[i].accepts) left.push_back(i);
  }
  bool changed = true;
  for (int round = 0; changed && round < kRounds; ++round) {
    changed = false;
    const auto add = [&](Bytes& to, const Bytes& more) {
      changed |= (more & ~to).any();
      to |= more;
    };
    for (const size_t i : left) {
      for (const Node::OnRule& edge : nodes[i].rules) {
        add(behind[i], own[edge.start] | behind[edge.start]);
        add(follow[edge.start], own[edge.to] | behind[edge.to]);
      }
      if (nodes[i].accepts && rules[i] >= 0) add(behind[i], follow[rules[i]]);
    }
  }
  if (changed) {
    for (const size_t i : left) behind[i].set();
  }
  return behind;
}

std::vector<int32_t> NodeClasses(const std::vector<Node>& nodes, const std::vector<bool>& leaving,
                                 int depth) {
  Refinement refinement(nodes, leaving);
  refinement.Refine(depth);
  return refinement.Take();
}

}  // namespace tandem::grammar
