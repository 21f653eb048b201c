#include "common/grammar/automaton.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace tandem::grammar {
namespace {

// What a 100-field schema needs is about 4,000 nodes.
constexpr size_t kMaxNfaStates = 1 << 19;
constexpr size_t kMaxNodes = 1 << 18;
constexpr size_t kMaxSetSizes = 1 << 24;  // of all sets of states together: bounds the time
constexpr int kMaxInlined = 64;           // NFA states of a rule that is laid out in place
constexpr int kMaxDepth = 4000;           // of expressions and rules in each other

// How many states a rule takes, and whether it may be laid out where it is used.
struct RuleShape {
  bool seen = false, done = false;
  bool inlined = false;
  int64_t size = 0;
};

Status TooLarge() {
  return ResourceExhausted(
      "the grammar is too large: shorter repetitions (maxLength, maxItems, {{n}}) or fewer rules");
}

class Shapes {
 public:
  explicit Shapes(const Rules& rules) : rules_(rules), shapes_(rules.num_rules()) {
    for (RuleId i = rules.num_rules() - 1; i >= 0; --i) Visit(i, 0);
  }
  bool inlined(RuleId rule) const { return shapes_[rule].inlined; }
  bool too_deep() const { return too_deep_; }

 private:
  struct Size {
    int64_t states = 0;
    bool loops = false;  // an unbounded repetition, or a rule that stays a machine of its own
  };

  // A rule met again before it is done is part of a cycle and stays.
  void Visit(RuleId rule, int depth) {
    RuleShape& shape = shapes_[rule];
    if (shape.seen) return;
    shape.seen = true;
    const Size size = Measure(rules_.body(rule), depth);
    shapes_[rule].size = size.states;
    shapes_[rule].inlined = !size.loops && size.states <= kMaxInlined;
    shapes_[rule].done = true;
  }

  Size Measure(ExprId id, int depth) {
    if (depth > kMaxDepth) {
      too_deep_ = true;
      return {1, true};
    }
    const Expr& expr = rules_.expr(id);
    Size size = {2, false};
    if (expr.kind == Expr::Kind::kRule) {
      Visit(expr.rule, depth + 1);
      const RuleShape& shape = shapes_[expr.rule];
      if (!shape.done || !shape.inlined) return {2, true};
      return {shape.size, false};
    }
    for (const ExprId part : expr.parts) {
      const Size inner = Measure(part, depth + 1);
      size.states = std::min<int64_t>(size.states + inner.states, int64_t{1} << 40);
      size.loops |= inner.loops;
    }
    if (expr.kind == Expr::Kind::kRepeat) {
      if (expr.max == kUnbounded) size.loops = true;
      size.states = std::min<int64_t>(
          size.states * std::max(expr.max == kUnbounded ? expr.min + 1 : expr.max, 1),
          int64_t{1} << 40);
    }
    return size;
  }

  const Rules& rules_;
  std::vector<RuleShape> shapes_;
  bool too_deep_ = false;
};

// The nondeterministic machine of one rule.
class Nfa {
 public:
  struct State {
    std::vector<int> free;  // to, without reading
    std::vector<Node::OnByte> bytes;
    std::vector<std::pair<RuleId, int>> rules;
  };

  Nfa(const Rules& rules, const Shapes& shapes) : rules_(rules), shapes_(shapes) {}

  // False: too large.
  bool Build(ExprId body) {
    states_.clear();
    start_ = New();
    end_ = New();
    Lay(body, start_, end_);
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
        for (const ExprId part : expr.parts) {
          const int begin = New();
          states_[from].free.push_back(begin);
          Lay(part, begin, to);
        }
        break;
      case Expr::Kind::kRepeat:
        LayRepeat(expr, from, to);
        break;
      case Expr::Kind::kRule:
        if (shapes_.inlined(expr.rule)) {
          Lay(rules_.body(expr.rule), from, to);
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
  const Shapes& shapes_;
  std::vector<State> states_;
  int start_ = 0, end_ = 0;
};

// Subset construction, one rule at a time, into one list of nodes.
class Maker {
 public:
  Maker(const Rules& rules, RuleId root) : rules_(rules), root_(root), shapes_(rules) {}

  StatusOr<Automaton> Make() {
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
    if (!nfa.Build(rules_.body(rule))) return false;
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
      if (out_.nodes.size() > kMaxNodes || set_sizes_ > kMaxSetSizes) return false;
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

  // Edges from which the rule cannot come to its end: a reply must never be led there.
  void DropDeadEnds() {
    alive_.assign(out_.nodes.size(), false);
    const auto lives = [&](const Node& node) {
      return node.accepts ||
             std::any_of(node.bytes.begin(), node.bytes.end(),
                         [&](const Node::OnByte& edge) { return alive_[edge.to]; }) ||
             std::any_of(node.rules.begin(), node.rules.end(), [&](const Node::OnRule& edge) {
               return alive_[edge.start] && alive_[edge.to];
             });
    };
    // Ends were made last, mostly.
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = out_.nodes.size(); i-- > 0;) {
        if (alive_[i] || !lives(out_.nodes[i])) continue;
        alive_[i] = changed = true;
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
  Status CheckLeftRecursion() {
    std::map<NodeId, size_t> index;
    for (size_t i = 0; i < owners_.size(); ++i) index[starts_[owners_[i]]] = i;
    const std::vector<bool> empty = NullableStarts(index);
    std::vector<int> color(owners_.size(), 0);  // 1: being visited, 2: done
    for (size_t i = 0; i < owners_.size(); ++i) {
      TANDEM_RETURN_IF_ERROR(VisitLeft(i, index, empty, color));
    }
    return OkStatus();
  }

  // Which rules (by their place in owners_) match the empty string.
  std::vector<bool> NullableStarts(const std::map<NodeId, size_t>& index) const {
    std::vector<bool> empty(owners_.size(), false);
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < owners_.size(); ++i) {
        if (empty[i]) continue;
        for (const NodeId node : WithoutReading(starts_[owners_[i]], index, empty)) {
          if (out_.nodes[node].accepts) {
            empty[i] = changed = true;
            break;
          }
        }
      }
    }
    return empty;
  }

  std::set<NodeId> WithoutReading(NodeId start, const std::map<NodeId, size_t>& index,
                                  const std::vector<bool>& empty) const {
    std::set<NodeId> seen = {start};
    std::vector<NodeId> open = {start};
    while (!open.empty()) {
      const NodeId node = open.back();
      open.pop_back();
      for (const Node::OnRule& edge : out_.nodes[node].rules) {
        if (empty[index.at(edge.start)] && seen.insert(edge.to).second) open.push_back(edge.to);
      }
    }
    return seen;
  }

  // Depth-first without recursion: chains of rules may be long.
  Status VisitLeft(size_t first, const std::map<NodeId, size_t>& index,
                   const std::vector<bool>& empty, std::vector<int>& color) const {
    struct Visit {
      size_t rule;
      std::vector<size_t> next;
    };
    std::vector<Visit> stack;
    const auto enter = [&](size_t rule) {
      color[rule] = 1;
      stack.push_back({rule, {}});
      for (const NodeId node : WithoutReading(starts_[owners_[rule]], index, empty)) {
        for (const Node::OnRule& edge : out_.nodes[node].rules) {
          stack.back().next.push_back(index.at(edge.start));
        }
      }
    };
    if (color[first] == 0) enter(first);
    while (!stack.empty()) {
      Visit& top = stack.back();
      if (top.next.empty()) {
        color[top.rule] = 2;
        stack.pop_back();
        continue;
      }
      const size_t next = top.next.back();
      top.next.pop_back();
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
  const Shapes shapes_;
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
  return Maker(rules, root).Make();
}

}  // namespace tandem::grammar
