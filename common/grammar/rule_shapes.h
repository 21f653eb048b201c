// Which rules are laid out where they are used, and which stay machines of their own.
#pragma once

#include <cstdint>
#include <vector>

#include "common/grammar/rules.h"

namespace tandem::grammar {

class RuleShapes {
 public:
  // Borrows the rules. Bounded in time: see too_large(). `in_place`: of the written rules all that
  // do not nest in themselves are laid out, and one that ends with itself may be a loop; otherwise
  // those alone that are small and have no loops.
  RuleShapes(const Rules& rules, bool in_place);

  bool in_place(RuleId rule) const { return in_place_ && rules_.written(rule); }
  bool inlined(RuleId rule) const { return shapes_[rule].inlined; }
  // Then what else is said of the rules is not to be used.
  bool too_deep() const { return too_deep_; }
  bool too_large() const;

 private:
  struct Shape {
    bool seen = false, done = false;
    bool nests = false;  // uses itself
    bool inlined = false;
    int64_t size = 0;  // NFA states
    int64_t uses = 0;  // in the text of all rules; each repetition counts
  };
  struct Size {
    int64_t states = 0;
    bool loops = false;  // an unbounded repetition, or a rule that stays a machine of its own
  };

  // Those that a rule uses first; one met again before it is done is part of a cycle and stays.
  // Without recursion: chains of rules may be long.
  void Visit(RuleId first);
  bool TakeRoom(const Shape& shape);
  void CountUses();
  std::vector<RuleId> UsesOf(ExprId body);
  Size Measure(ExprId id, int depth);

  const Rules& rules_;
  const bool in_place_;
  std::vector<Shape> shapes_;
  bool too_deep_ = false;
  int num_visits_ = 0, num_counted_ = 0;
  int64_t room_;                 // for copies of written rules
  int64_t in_place_states_ = 0;  // of their machines
};

}  // namespace tandem::grammar
