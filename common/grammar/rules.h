// A context-free grammar over bytes while it is being built: rules whose bodies are expressions.
// The front ends (regex.h, ebnf.h, json_schema.h) write it, automaton.h makes machines of it.
//
// Expressions are numbered, made once and used as often as one likes; one that is used twice is
// laid out twice. Thread: one at a time.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::grammar {

using ExprId = int32_t;
using RuleId = int32_t;

// Inclusive; in Unicode code points.
struct CodeRange {
  uint32_t first = 0;
  uint32_t last = 0;
};
inline constexpr uint32_t kLastCodePoint = 0x10ffff;

inline constexpr int kUnbounded = -1;

struct Expr {
  enum class Kind : uint8_t {
    kNothing,   // matches the empty string
    kNever,     // matches no string
    kBytes,     // one byte in [first, last]
    kSequence,  // parts, one after the other
    kChoice,    // any one of parts
    kRepeat,    // parts[0], at least `min` times, at most `max`
    kRule,      // what rule `rule` matches
  };
  Kind kind = Kind::kNothing;
  uint8_t first = 0, last = 0;
  int min = 0, max = 0;
  RuleId rule = -1;
  std::vector<ExprId> parts = {};
};

class Rules {
 public:
  ExprId Nothing() { return Add({}); }
  ExprId Never() { return Add({.kind = Expr::Kind::kNever}); }
  ExprId Byte(uint8_t first, uint8_t last) {
    return Add({.kind = Expr::Kind::kBytes, .first = first, .last = last});
  }
  ExprId Literal(std::string_view bytes);
  // One character of the set in UTF-8. Surrogates are never in it.
  ExprId CodePoints(std::vector<CodeRange> set);
  ExprId Sequence(std::vector<ExprId> parts);
  ExprId Choice(std::vector<ExprId> parts);
  ExprId Optional(ExprId part) { return Choice({part, Nothing()}); }
  // REQUIRES: 0 <= min, max == kUnbounded or max >= min.
  ExprId Repeat(ExprId part, int min, int max);
  ExprId Rule(RuleId rule) { return Add({.kind = Expr::Kind::kRule, .rule = rule}); }

  // `name` is for messages. The body comes later, so that rules can name each other; a rule that
  // was given none matches nothing.
  RuleId AddRule(std::string name);
  void Define(RuleId rule, ExprId body) { bodies_[rule] = body; }

  const Expr& expr(ExprId id) const { return exprs_[id]; }
  ExprId body(RuleId rule) const { return bodies_[rule]; }
  const std::string& name(RuleId rule) const { return names_[rule]; }
  int num_rules() const { return static_cast<int>(names_.size()); }
  int num_exprs() const { return static_cast<int>(exprs_.size()); }

 private:
  ExprId Add(Expr expr);
  void AddUtf8(uint32_t first, uint32_t last, std::vector<ExprId>& choices);

  std::vector<Expr> exprs_;
  std::vector<std::string> names_;
  std::vector<ExprId> bodies_;  // of rules
};

// The set's complement among all code points, sorted and joined.
std::vector<CodeRange> Complement(std::vector<CodeRange> set);

}  // namespace tandem::grammar
