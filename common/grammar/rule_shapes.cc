#include "common/grammar/rule_shapes.h"

#include <algorithm>
#include <utility>

namespace tandem::grammar {
namespace {

constexpr int kMaxInlined = 64;  // NFA states of a rule that is laid out in place
// A class of characters takes some hundred. Written rules of that size are laid out too, while all
// copies of all of them have room: tokens that leave a rule are tried one by one, and in a text
// that is written as `char*` every token does.
constexpr int kMaxInlinedClass = 512;
constexpr int64_t kMaxInlinedCopies = 1 << 16;
// In place: NFA states of all machines of written rules.
constexpr int64_t kMaxInPlace = 4096;
constexpr int kMaxDepth = 4000;      // of expressions in each other
constexpr int kMaxVisits = 1 << 22;  // of expressions, to measure them: each use counts

}  // namespace

RuleShapes::RuleShapes(const Rules& rules, bool in_place)
    : rules_(rules), in_place_(in_place), shapes_(rules.num_rules()), room_(kMaxInlinedCopies) {
  CountUses();
  for (RuleId i = rules.num_rules() - 1; i >= 0; --i) Visit(i);
}

bool RuleShapes::too_large() const {
  return std::max(num_visits_, num_counted_) > kMaxVisits || in_place_states_ > kMaxInPlace;
}

void RuleShapes::Visit(RuleId first) {
  struct Open {
    RuleId rule;
    std::vector<RuleId> uses;
  };
  std::vector<Open> stack;
  const auto enter = [&](RuleId rule) {
    if (shapes_[rule].seen) return;
    shapes_[rule].seen = true;
    stack.push_back({rule, UsesOf(rules_.body(rule))});
  };
  for (enter(first); !stack.empty();) {
    Open& top = stack.back();
    if (!top.uses.empty()) {
      const RuleId next = top.uses.back();
      top.uses.pop_back();
      enter(next);
      continue;
    }
    const Size size = Measure(rules_.body(top.rule), 0);
    Shape& shape = shapes_[top.rule];
    shape.size = size.states;
    if (in_place(top.rule)) {
      shape.inlined = !shape.nests && size.states <= kMaxInPlace;
      if (!shape.inlined) in_place_states_ += size.states;
    } else {
      shape.inlined = !size.loops &&
                      (size.states <= kMaxInlined || (rules_.written(top.rule) && TakeRoom(shape)));
    }
    shape.done = true;
    stack.pop_back();
  }
}

bool RuleShapes::TakeRoom(const Shape& shape) {
  const int64_t uses = std::max<int64_t>(shape.uses, 1);
  if (shape.size > std::min<int64_t>(kMaxInlinedClass, room_ / uses)) return false;
  room_ -= shape.size * uses;
  return true;
}

void RuleShapes::CountUses() {
  std::vector<std::pair<ExprId, int64_t>> open;  // and how many times it is laid out
  for (RuleId rule = 0; rule < rules_.num_rules(); ++rule) {
    open.assign(1, {rules_.body(rule), 1});
    while (!open.empty() && ++num_counted_ <= kMaxVisits) {
      const auto [id, times] = open.back();
      open.pop_back();
      const Expr& expr = rules_.expr(id);
      const bool repeats = expr.kind == Expr::Kind::kRepeat;
      const int copies = !repeats ? 1 : expr.max == kUnbounded ? expr.min + 1 : expr.max;
      const int64_t all = std::min(times * copies, kMaxInlinedCopies);
      for (const ExprId part : expr.parts) open.emplace_back(part, all);
      if (expr.kind == Expr::Kind::kRule) shapes_[expr.rule].uses += times;
    }
  }
}

std::vector<RuleId> RuleShapes::UsesOf(ExprId body) {
  std::vector<RuleId> uses;
  std::vector<ExprId> open = {body};
  while (!open.empty() && ++num_visits_ <= kMaxVisits) {
    const Expr& expr = rules_.expr(open.back());
    open.pop_back();
    if (expr.kind == Expr::Kind::kRule) uses.push_back(expr.rule);
    open.insert(open.end(), expr.parts.begin(), expr.parts.end());
  }
  return uses;
}

RuleShapes::Size RuleShapes::Measure(ExprId id, int depth) {
  too_deep_ |= depth > kMaxDepth;
  if (depth > kMaxDepth || ++num_visits_ > kMaxVisits) return {1, true};
  const Expr& expr = rules_.expr(id);
  Size size = {2, false};
  if (expr.kind == Expr::Kind::kRule) {
    Shape& shape = shapes_[expr.rule];
    if (!shape.done) shape.nests = true;
    if (!shape.done || !shape.inlined) return {2, true};
    return {shape.size + 1, false};  // rules that only use one another are not in place for ever
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

}  // namespace tandem::grammar
