// The parts of JSON as grammar: what json_schema.h builds from. Nothing but what RFC 8259 allows is
// matched; white space is bounded, so that a model cannot write it for ever.
//
// Thread: one at a time. Rules that several places share are made once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "common/grammar/rules.h"
#include "common/status.h"

namespace tandem::grammar {

// Bounds of a number; absent: none.
struct NumberRange {
  std::optional<int64_t> min, max;
  bool min_excluded = false, max_excluded = false;
};

// Of a string, in characters.
struct LengthRange {
  int min = 0, max = kUnbounded;
};

class JsonRules {
 public:
  explicit JsonRules(Rules& rules) : rules_(rules) {}

  // Nothing, a space, or a new line and up to 32 spaces or tabs.
  ExprId Space();
  ExprId Value();   // any
  ExprId Object();  // any
  ExprId Array();   // any
  ExprId String();  // any
  ExprId Number();  // any
  ExprId Integer();
  ExprId Boolean();

  // In characters, each escaped or not. `max` kUnbounded: any number.
  ExprId StringOfLength(int min, int max);
  // A string whose text `pattern` finds (ECMAScript's search), or that has a format. Characters are
  // written in one way each: escaped where JSON asks for it.
  StatusOr<ExprId> StringWithPattern(std::string_view pattern, LengthRange length);
  StatusOr<ExprId> StringWithFormat(std::string_view format, LengthRange length);
  // A string of characters that need no escape, which is none of `names`, of any length.
  ExprId StringExcept(const std::vector<std::string_view>& names);

  // Written without an exponent. Bounds within +-2^53.
  ExprId IntegerIn(const NumberRange& range);
  ExprId NumberIn(const NumberRange& range);

 private:
  ExprId MakeIntegerIn(const NumberRange& range);
  ExprId MakeNumberIn(const NumberRange& range);
  ExprId Shared(ExprId& cache, const char* name, ExprId (JsonRules::*make)());
  ExprId MakeSpace();
  ExprId MakeValue();
  ExprId MakeObject();
  ExprId MakeArray();
  ExprId MakeString();
  ExprId MakeNumber();
  ExprId MakeInteger();
  ExprId Character();
  ExprId Quoted(ExprId text);
  // A rule of its own for each `key`, so that what is said twice is laid out once.
  ExprId Once(const std::string& key, ExprId body);
  ExprId ListOf(ExprId item);  // comma-separated, at least one
  StatusOr<ExprId> Pattern(std::string_view pattern, bool search, LengthRange length);

  ExprId Digits(int min, int max);
  ExprId NaturalIn(int64_t min, std::optional<int64_t> max);
  ExprId SameLength(std::string_view low, std::string_view high);
  ExprId FractionIn(int64_t min, bool min_excluded, std::optional<int64_t> max, bool max_excluded);

  Rules& rules_;
  std::map<std::string, ExprId> once_;  // by what they match
  ExprId space_ = -1, value_ = -1, object_ = -1, array_ = -1, string_ = -1, number_ = -1,
         integer_ = -1;
};

}  // namespace tandem::grammar
