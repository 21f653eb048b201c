// Machines that read what a grammar matches, byte by byte: one deterministic machine a rule, whose
// nodes read a byte or enter another rule's machine. Small rules without loops are laid out where
// they are used; of rules that a person wrote (Rules::written) all that do not nest in themselves
// are, and one that ends with itself is a loop, if the whole does not become large by it: text that
// is written in rules is one machine then, in which nothing is ambiguous.
//
// From every node that can be reached the rule can come to its end. Immutable. Thread: any.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/grammar/rules.h"
#include "common/status.h"

namespace tandem::grammar {

// Index into Automaton::nodes.
using NodeId = int32_t;

struct Node {
  struct OnByte {
    uint8_t first, last;
    NodeId to;
  };
  struct OnRule {
    NodeId start;  // of the rule that is entered
    NodeId to;     // where it goes on behind it
  };
  std::vector<OnByte> bytes;  // ascending, without overlaps
  std::vector<OnRule> rules;
  bool accepts = false;  // the rule may end here

  // -1: no such byte.
  NodeId After(uint8_t byte) const {
    for (const OnByte& edge : bytes) {
      if (byte <= edge.last) return byte >= edge.first ? edge.to : -1;
    }
    return -1;
  }
  // Ends the rule and does nothing else.
  bool only_accepts() const { return accepts && bytes.empty() && rules.empty(); }
};

struct Automaton {
  std::vector<Node> nodes;
  NodeId start = 0;  // of the root rule
};

// kInvalidArgument: a rule that can begin with itself (left recursion), with its name; a grammar
// that matches nothing; one beyond the limits on size, which bound time as well.
StatusOr<Automaton> MakeAutomaton(const Rules& rules, RuleId root);

}  // namespace tandem::grammar
