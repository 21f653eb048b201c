#include "common/grammar/automaton.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/grammar/rule_shapes.h"

namespace tandem::grammar {
namespace {

// What a 100-field schema needs is about 4,000 nodes.
constexpr size_t kMaxNfaStates = 1 << 19;
constexpr size_t kMaxNodes = 1 << 18;
constexpr size_t kMaxSetSizes = 1 << 24;  // of all sets of states together: bounds the time
// Of one machine whose rules are in place; beyond, they are not.
constexpr size_t kMaxInPlaceNodes = 8192;
constexpr size_t kMaxInPlaceSetSizes = 1 << 20;

Status TooLarge() {
  return InvalidArgument(
      "the grammar is too large: shorter repetitions (maxLength, maxItems, {{n}}) or fewer rules");
}

// The nondeterministic machine of one rule.
class Nfa {
 public:
  struct State {
    std::vector<int> free;  // to, without reading
    std::vector<Node::OnByte> bytes;
    std::vector<std::pair<RuleId, int>> rules;
  };

  Nfa(const Rules& rules, const RuleShapes& shapes) : rules_(rules), shapes_(shapes) {}

  // False: too large.
  bool Build(RuleId rule) {
    states_.clear();
    rule_ = rule;
    start_ = New();
    end_ = New();
    Lay(rules_.body(rule), start_, end_);
    return states_.size() <= kMaxNfaStates;
  }

  int start() const { return start_; }
  int end() const { return end_; }
  const State& operator[](int i) const { return states_[i]; }
  size_t size() const { return states_.size(); }

 private:
  int New() {
    states_.emplace_back();
    return static_cast<int>(states_.size()) - 1;
  }
  bool Full() const { return states_.size() > kMaxNfaStates; }

  void Lay(ExprId id, int from, int to) {
    if (Full()) return;
    const Expr& expr = rules_.expr(id);
    switch (expr.kind) {
      case Expr::Kind::kNothing:
        states_[from].free.push_back(to);
        break;
      case Expr::Kind::kNever:
        break;
      case Expr::Kind::kBytes:
        states_[from].bytes.push_back({expr.first, expr.last, to});
        break;
      case Expr::Kind::kSequence:
        for (size_t i = 0; i < expr.parts.size(); ++i) {
          const int next = i + 1 == expr.parts.size() ? to : New();
          Lay(expr.parts[i], from, next);
          from = next;
        }
        break;
      case Expr::Kind::kChoice:
        // All from one state: none of them leads back to where it begins, unless a repetition
        // around it does.
        for (const ExprId part : expr.parts) Lay(part, from, to);
        break;
      case Expr::Kind::kRepeat:
        LayRepeat(expr, from, to);
        break;
      case Expr::Kind::kRule:
        if (shapes_.inlined(expr.rule)) {
          Lay(rules_.body(expr.rule), from, to);
        } else if (expr.rule == rule_ && to == end_ && shapes_.in_place(rule_)) {
          states_[from].free.push_back(start_);  // the rule ends with itself
        } else {
          states_[from].rules.emplace_back(expr.rule, to);
        }
        break;
    }
  }

  void LayRepeat(const Expr& expr, int from, int to) {
    const ExprId part = expr.parts[0];
    for (int i = 0; i < expr.min && !Full(); ++i) {
      const int next = New();
      Lay(part, from, next);
      from = next;
    }
    if (expr.max == kUnbounded) {
      const int loop = New();
      states_[from].free.push_back(loop);
      Lay(part, loop, loop);
      states_[loop].free.push_back(to);
      return;
    }
    for (int i = expr.min; i < expr.max && !Full(); ++i) {
      states_[from].free.push_back(to);
      const int next = New();
      Lay(part, from, next);
      from = next;
    }
    states_[from].free.push_back(to);
  }

  const Rules& rules_;
  const RuleShapes& shapes_;
  std::vector<State> states_;
  RuleId rule_ = -1;
  int start_ = 0, end_ = 0;
};

// Subset construction, one rule at a time, into one list of nodes.
class Maker {
 public:
  Maker(const Rules& rules, RuleId root, bool in_place)
      : rules_(rules), root_(root), shapes_(rules, in_place) {}

  StatusOr<Automaton> Make() {
    if (shapes_.too_large()) return TooLarge();
    if (shapes_.too_deep()) return InvalidArgument("the grammar is nested too deeply");
    starts_.assign(rules_.num_rules(), -1);
    out_.start = StartOf(root_);
    // Rules are made as they are met, so that what is not used costs nothing.
    while (!pending_.empty()) {
      const RuleId rule = pending_.back();
      pending_.pop_back();
      if (!MakeRule(rule)) return TooLarge();
    }
    TANDEM_RETURN_IF_ERROR(CheckLeftRecursion());
    DropDeadEnds();
    if (!alive_[out_.start]) return InvalidArgument("nothing matches the grammar");
    return std::move(out_);
  }

 private:
  using Set = std::vector<int>;  // of NFA states, ascending, closed under free moves

  NodeId StartOf(RuleId rule) {
    if (starts_[rule] < 0) {
      starts_[rule] = NewNode();
      owners_.push_back(rule);
      pending_.push_back(rule);
    }
    return starts_[rule];
  }

  NodeId NewNode() {
    out_.nodes.emplace_back();
    return static_cast<NodeId>(out_.nodes.size()) - 1;
  }

  bool MakeRule(RuleId rule) {
    Nfa nfa(rules_, shapes_);
    if (!nfa.Build(rule)) return false;
    size_t max_nodes = kMaxNodes, max_set_sizes = kMaxSetSizes;
    if (shapes_.in_place(rule)) {
      max_nodes = std::min(max_nodes, out_.nodes.size() + kMaxInPlaceNodes);
      max_set_sizes = std::min(max_set_sizes, set_sizes_ + kMaxInPlaceSetSizes);
    }
    std::map<Set, NodeId> known;
    std::vector<const Set*> todo;
    const auto node_of = [&](Set set) -> NodeId {
      set_sizes_ += set.size();
      const auto [it, is_new] = known.emplace(std::move(set), -1);
      if (is_new) {
        it->second = known.size() == 1 ? starts_[rule] : NewNode();
        todo.push_back(&it->first);
      }
      return it->second;
    };
    node_of(Closure(nfa, {nfa.start()}));
    while (!todo.empty()) {
      const Set& set = *todo.back();
      todo.pop_back();
      const NodeId node = known[set];
      if (out_.nodes.size() > max_nodes || set_sizes_ > max_set_sizes) return false;
      Fill(nfa, set, node, node_of);
    }
    return true;
  }

  template <class NodeOf>
  void Fill(const Nfa& nfa, const Set& set, NodeId node, const NodeOf& node_of) {
    out_.nodes[node].accepts = std::binary_search(set.begin(), set.end(), nfa.end());
    std::map<RuleId, Set> by_rule;
    std::vector<int> cuts;  // where the set of readers may change
    for (const int state : set) {
      for (const auto& [rule, to] : nfa[state].rules) by_rule[rule].push_back(to);
      for (const auto& edge : nfa[state].bytes) {
        cuts.push_back(edge.first);
        cuts.push_back(edge.last + 1);
      }
    }
    for (auto& [rule, targets] : by_rule) {
      const NodeId to = node_of(Closure(nfa, std::move(targets)));
      const NodeId start = StartOf(rule);
      out_.nodes[node].rules.push_back({start, to});
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      Set targets;
      for (const int state : set) {
        for (const auto& edge : nfa[state].bytes) {
          if (edge.first <= cuts[i] && cuts[i] <= edge.last) targets.push_back(edge.to);
        }
      }
      if (targets.empty()) continue;
      AddByteEdge(node, cuts[i], cuts[i + 1] - 1, node_of(Closure(nfa, std::move(targets))));
    }
  }

  void AddByteEdge(NodeId node, int first, int last, NodeId to) {
    auto& edges = out_.nodes[node].bytes;
    if (!edges.empty() && edges.back().to == to && edges.back().last + 1 == first) {
      edges.back().last = static_cast<uint8_t>(last);
    } else {
      edges.push_back({static_cast<uint8_t>(first), static_cast<uint8_t>(last), to});
    }
  }

  Set Closure(const Nfa& nfa, Set set) {
    if (mark_.size() < nfa.size()) mark_.resize(nfa.size(), 0);
    ++stamp_;
    Set out, open = std::move(set);
    while (!open.empty()) {
      const int state = open.back();
      open.pop_back();
      if (mark_[state] == stamp_) continue;
      mark_[state] = stamp_;
      out.push_back(state);
      open.insert(open.end(), nfa[state].free.begin(), nfa[state].free.end());
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  // Edges from which the rule cannot come to its end: a reply must never be led there. From the
  // ends backwards: each edge is looked at once.
  void DropDeadEnds() {
    struct Waiting {
      NodeId node;
      NodeId also;  // must live too; -1: nothing else
    };
    std::vector<std::vector<Waiting>> waiting(out_.nodes.size());
    std::vector<NodeId> open;
    alive_.assign(out_.nodes.size(), false);
    const auto revive = [&](NodeId node) {
      if (alive_[node]) return;
      alive_[node] = true;
      open.push_back(node);
    };
    for (NodeId i = 0; i < static_cast<NodeId>(out_.nodes.size()); ++i) {
      for (const Node::OnByte& edge : out_.nodes[i].bytes) waiting[edge.to].push_back({i, -1});
      for (const Node::OnRule& edge : out_.nodes[i].rules) {
        waiting[edge.to].push_back({i, edge.start});
        waiting[edge.start].push_back({i, edge.to});
      }
      if (out_.nodes[i].accepts) revive(i);
    }
    while (!open.empty()) {
      const NodeId at = open.back();
      open.pop_back();
      for (const Waiting& edge : waiting[at]) {
        if (edge.also < 0 || alive_[edge.also]) revive(edge.node);
      }
    }
    for (Node& node : out_.nodes) {
      std::erase_if(node.bytes, [&](const Node::OnByte& edge) { return !alive_[edge.to]; });
      std::erase_if(node.rules, [&](const Node::OnRule& edge) {
        return !alive_[edge.start] || !alive_[edge.to];
      });
    }
  }

  // A rule that is entered again before a byte was read would be entered for ever.
  Status CheckLeftRecursion() const {
    const std::vector<std::vector<int>> begins = BeginsWith();
    std::vector<int> color(owners_.size(), 0);  // 1: being visited, 2: done
    for (size_t i = 0; i < owners_.size(); ++i) {
      TANDEM_RETURN_IF_ERROR(VisitLeft(static_cast<int>(i), begins, color));
    }
    return OkStatus();
  }

  // Which rules each rule may enter before a byte is read; rules by their place in owners_. Nodes
  // are met that can be reached so; those behind a rule wait until it is known to match nothing.
  std::vector<std::vector<int>> BeginsWith() const {
    const size_t count = owners_.size();
    std::vector<int> rule_at(out_.nodes.size(), -1);
    std::vector<bool> seen(out_.nodes.size(), false), empty(count, false);
    struct Place {
      NodeId node;
      int rule;
    };
    std::vector<Place> open;
    const auto meet = [&](Place place) {
      if (seen[place.node]) return;
      seen[place.node] = true;
      open.push_back(place);
    };
    for (size_t i = 0; i < count; ++i) {
      rule_at[starts_[owners_[i]]] = static_cast<int>(i);
      meet({starts_[owners_[i]], static_cast<int>(i)});
    }
    std::vector<std::vector<int>> begins(count);
    std::vector<std::vector<Place>> waiting(count);
    while (!open.empty()) {
      const Place at = open.back();
      open.pop_back();
      const Node& node = out_.nodes[at.node];
      for (const Node::OnRule& edge : node.rules) {
        const int entered = rule_at[edge.start];
        begins[at.rule].push_back(entered);
        if (empty[entered]) {
          meet({edge.to, at.rule});
        } else {
          waiting[entered].push_back({edge.to, at.rule});
        }
      }
      if (!node.accepts || empty[at.rule]) continue;
      empty[at.rule] = true;
      for (const Place& place : waiting[at.rule]) meet(place);
    }
    return begins;
  }

  // Depth-first without recursion: chains of rules may be long.
  Status VisitLeft(int first, const std::vector<std::vector<int>>& begins,
                   std::vector<int>& color) const {
    struct Visit {
      int rule;
      size_t next = 0;
    };
    std::vector<Visit> stack;
    const auto enter = [&](int rule) {
      color[rule] = 1;
      stack.push_back({rule});
    };
    if (color[first] == 0) enter(first);
    while (!stack.empty()) {
      Visit& top = stack.back();
      if (top.next == begins[top.rule].size()) {
        color[top.rule] = 2;
        stack.pop_back();
        continue;
      }
      const int next = begins[top.rule][top.next++];
      if (color[next] == 1) {
        return InvalidArgument("rule '{}' can begin with itself (left recursion)",
                               rules_.name(owners_[next]));
      }
      if (color[next] == 0) enter(next);
    }
    return OkStatus();
  }

  const Rules& rules_;
  const RuleId root_;
  const RuleShapes shapes_;
  Automaton out_;
  std::vector<NodeId> starts_;  // of rules; -1: not met
  std::vector<RuleId> owners_;  // rules that were met
  std::vector<RuleId> pending_;
  std::vector<bool> alive_;  // nodes from which their rule can end
  std::vector<uint32_t> mark_;
  uint32_t stamp_ = 0;
  size_t set_sizes_ = 0;
};

}  // namespace

StatusOr<Automaton> MakeAutomaton(const Rules& rules, RuleId root) {
  for (RuleId rule = 0; rule < rules.num_rules(); ++rule) {
    if (!rules.written(rule)) continue;
    StatusOr<Automaton> in_place = Maker(rules, root, true).Make();
    if (in_place.ok()) return in_place;
    break;  // too large, or wrong in any case
  }
  return Maker(rules, root, false).Make();
}

}  // namespace tandem::grammar
