// A context-free grammar over bytes while it is being built: rules whose bodies are expressions.
// The front ends (regex.h, ebnf.h, json_schema.h) write it, automaton.h makes machines of it.
//
// Expressions are numbered, made once and used as often as one likes; one that is used twice is
// laid out twice, so one that holds others from the text becomes a rule first. Thread: one at a
// time. Memory: bounded; what is added beyond the bound is dropped, and CheckSize says so.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace tandem::grammar {

using ExprId = int32_t;
using RuleId = int32_t;

// Inclusive; in Unicode code points.
struct CodeRange {
  uint32_t first = 0;
  uint32_t last = 0;
  auto operator<=>(const CodeRange&) const = default;
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
  Rules();

  ExprId Nothing() { return 0; }
  ExprId Never() { return Add({.kind = Expr::Kind::kNever}); }
  ExprId Byte(uint8_t first, uint8_t last);
  ExprId Literal(std::string_view bytes);
  // One character of the set in UTF-8. Surrogates are never in it.
  ExprId CodePoints(std::vector<CodeRange> set);
  ExprId Sequence(std::vector<ExprId> parts);
  ExprId Choice(std::vector<ExprId> parts);
  ExprId Optional(ExprId part) { return Choice({part, Nothing()}); }
  // REQUIRES: 0 <= min, max == kUnbounded or max >= min.
  ExprId Repeat(ExprId part, int min, int max);
  ExprId Rule(RuleId rule) { return Add({.kind = Expr::Kind::kRule, .rule = rule}); }

  // kInvalidArgument: too large. Front ends ask before each part, which bounds their time.
  Status CheckSize() const;

  // `name` is for messages, which show its beginning. The body comes later, so that rules can name
  // each other; a rule that was given none matches nothing.
  // `written`: by whoever wrote the grammar, to structure it; machines need not follow.
  RuleId AddRule(std::string name, bool written = false);
  void Define(RuleId rule, ExprId body) { bodies_[rule] = body; }

  const Expr& expr(ExprId id) const { return exprs_[id]; }
  ExprId body(RuleId rule) const { return bodies_[rule]; }
  const std::string& name(RuleId rule) const { return names_[rule]; }
  bool written(RuleId rule) const { return written_[rule]; }
  int num_rules() const { return static_cast<int>(names_.size()); }
  int num_exprs() const { return static_cast<int>(exprs_.size()); }

 private:
  ExprId Add(Expr expr);
  void AddUtf8(uint32_t first, uint32_t last, std::vector<ExprId>& choices);

  ExprId Encoded(uint32_t code);

  std::vector<Expr> exprs_;
  size_t num_parts_ = 0;  // of all expressions
  std::array<ExprId, 256> bytes_;
  std::map<std::vector<CodeRange>, ExprId> sets_;  // that CodePoints has made
  std::vector<std::string> names_;
  std::vector<ExprId> bodies_;  // of rules
  std::vector<bool> written_;
};

// The set's complement among all code points, sorted and joined.
std::vector<CodeRange> Complement(std::vector<CodeRange> set);

}  // namespace tandem::grammar
