// Tokens to expressions, with the precedence that Jinja has (which is not Python's: `~` binds
// tighter than `+`, and a unary minus tighter than a filter).
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/status.h"
#include "router/text/jinja_ast.h"
#include "router/text/jinja_token_stream.h"

namespace tandem::text {

inline constexpr int kMaxJinjaDepth = 64;  // of nested tags and of an expression

class JinjaExpressionParser {
 public:
  explicit JinjaExpressionParser(JinjaTokenStream& tokens) : tokens_(tokens) {}

  StatusOr<JinjaExpr> ParseExpression();     // with a if b else c
  StatusOr<JinjaExpr> ParseNoConditional();  // where an `if` means something else
  StatusOr<JinjaExpr> ParseTuple(bool with_conditional = true);  // a, b, ...: or one expression
  StatusOr<JinjaExpr> ParsePrimary();
  StatusOr<JinjaExpr> ParsePostfix(JinjaExpr expr);  // .a [b] (c)
  // filter(...) | filter ... applied to `input`; the first `|` has been read.
  StatusOr<JinjaExpr> ParseFilterChain(JinjaExpr input);

  int Intern(std::string_view name);  // the number of a name
  // How often the template has read that name so far.
  int uses(std::string_view name) { return uses_[static_cast<size_t>(Intern(name))]; }
  std::vector<std::string> TakeSymbols() { return std::move(symbols_); }

 private:
  using Kind = JinjaToken::Kind;
  using Expr = JinjaExpr;

  StatusOr<Expr> ParseNested();  // within brackets
  StatusOr<Expr> ParseOr();
  StatusOr<Expr> ParseAnd();
  StatusOr<Expr> ParseNot();
  StatusOr<Expr> ParseComparison();
  StatusOr<Expr> ParseSum();
  StatusOr<Expr> ParseConcat();
  StatusOr<Expr> ParseProduct();
  StatusOr<Expr> ParsePower();
  StatusOr<Expr> ParseUnary(bool with_filter);
  StatusOr<Expr> ParseFilters(Expr expr);
  StatusOr<Expr> ParseFilter(Expr input);
  StatusOr<Expr> ParseTest(Expr input);
  StatusOr<Expr> ParseSubscript(Expr object);
  StatusOr<Expr> ParseSlice(Expr object, Expr begin, bool has_begin);
  StatusOr<Expr> ParseCall(Expr callee);
  Status ParseArguments(Expr& call);
  Status CheckArgument(const Expr& call, bool is_keyword) const;
  StatusOr<Expr> ParseList();
  StatusOr<Expr> ParseMap();
  StatusOr<Expr> ParseParentheses();
  StatusOr<Expr> ParseName();
  StatusOr<Expr> ParseNumber();
  Status BindArguments(Expr& filter) const;
  bool TakeComparison(JinjaOp& op);

  StatusOr<Expr> Combine(Expr::Kind kind, std::vector<Expr> children,
                         std::vector<JinjaOp> ops = {}) const;
  Status Deepen(Expr& expr) const;

  JinjaTokenStream& tokens_;
  std::unordered_map<std::string, int> numbers_;
  std::vector<std::string> symbols_;
  std::vector<int> uses_;
  int nesting_ = 0;
};

}  // namespace tandem::text
