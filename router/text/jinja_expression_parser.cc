#include "router/text/jinja_expression_parser.h"

#include <algorithm>
#include <utility>

#include "router/text/jinja_filters.h"
#include "router/text/jinja_methods.h"

namespace tandem::text {

using Expr = JinjaExpr;

const char* OpName(JinjaOp op) {
  constexpr const char* kNames[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kNames[static_cast<int>(op)];
}

int JinjaExpressionParser::Intern(std::string_view name) {
  const auto [it, added] =
      numbers_.try_emplace(std::string(name), static_cast<int>(symbols_.size()));
  if (added) {
    symbols_.emplace_back(name);
    uses_.push_back(0);
  }
  return it->second;
}

Status JinjaExpressionParser::Deepen(Expr& expr) const {
  for (const Expr& child : expr.children) expr.depth = std::max(expr.depth, child.depth + 1);
  if (expr.depth <= kMaxJinjaDepth) return OkStatus();
  return tokens_.NotSupported(fmt::format("an expression deeper than {}", kMaxJinjaDepth));
}

StatusOr<Expr> JinjaExpressionParser::Combine(Expr::Kind kind, std::vector<Expr> children,
                                              std::vector<JinjaOp> ops) const {
  Expr expr{.kind = kind, .line = tokens_.Peek().line};
  if (!children.empty()) expr.line = children[0].line;
  expr.children = std::move(children);
  expr.ops = std::move(ops);
  TANDEM_RETURN_IF_ERROR(Deepen(expr));
  return expr;
}

// --- operators, from loose to tight binding

StatusOr<Expr> JinjaExpressionParser::ParseExpression() {
  TANDEM_ASSIGN_OR_RETURN(Expr expr, ParseOr());
  while (tokens_.TakeWord("if")) {
    TANDEM_ASSIGN_OR_RETURN(Expr condition, ParseOr());
    Expr otherwise{.line = tokens_.Peek().line};  // undefined
    if (tokens_.TakeWord("else")) {
      TANDEM_ASSIGN_OR_RETURN(otherwise, ParseNested());
    }
    TANDEM_ASSIGN_OR_RETURN(expr,
                            Combine(Expr::Kind::kConditional,
                                    {std::move(condition), std::move(expr), std::move(otherwise)}));
  }
  return expr;
}

StatusOr<Expr> JinjaExpressionParser::ParseNoConditional() { return ParseOr(); }

StatusOr<Expr> JinjaExpressionParser::ParseNested() {
  if (++nesting_ > kMaxJinjaDepth) {
    return tokens_.NotSupported(fmt::format("nesting deeper than {}", kMaxJinjaDepth));
  }
  StatusOr<Expr> expr = ParseExpression();
  --nesting_;
  return expr;
}

StatusOr<Expr> JinjaExpressionParser::ParseTuple(bool with_conditional) {
  const auto parse = [&] { return with_conditional ? ParseNested() : ParseOr(); };
  TANDEM_ASSIGN_OR_RETURN(Expr first, parse());
  if (!tokens_.IsOperator(",")) return first;
  std::vector<Expr> items;
  items.push_back(std::move(first));
  while (tokens_.TakeOperator(",")) {
    const JinjaToken& next = tokens_.Peek();
    const bool ends =
        next.kind == Kind::kBlockEnd || next.kind == Kind::kOutputEnd || tokens_.IsOperator(")");
    if (ends) break;
    TANDEM_ASSIGN_OR_RETURN(Expr item, parse());
    items.push_back(std::move(item));
  }
  return Combine(Expr::Kind::kTuple, std::move(items));
}

StatusOr<Expr> JinjaExpressionParser::ParseOr() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseAnd());
  while (tokens_.TakeWord("or")) {
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseAnd());
    TANDEM_ASSIGN_OR_RETURN(left, Combine(Expr::Kind::kOr, {std::move(left), std::move(right)}));
  }
  return left;
}

StatusOr<Expr> JinjaExpressionParser::ParseAnd() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseNot());
  while (tokens_.TakeWord("and")) {
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseNot());
    TANDEM_ASSIGN_OR_RETURN(left, Combine(Expr::Kind::kAnd, {std::move(left), std::move(right)}));
  }
  return left;
}

StatusOr<Expr> JinjaExpressionParser::ParseNot() {
  int negations = 0;
  while (tokens_.TakeWord("not")) ++negations;
  TANDEM_ASSIGN_OR_RETURN(Expr expr, ParseComparison());
  for (; negations > 0; --negations) {
    TANDEM_ASSIGN_OR_RETURN(expr, Combine(Expr::Kind::kNot, {std::move(expr)}));
  }
  return expr;
}

bool JinjaExpressionParser::TakeComparison(JinjaOp& op) {
  constexpr std::pair<std::string_view, JinjaOp> kOps[] = {
      {"==", JinjaOp::kEqual},        {"!=", JinjaOp::kNotEqual}, {"<=", JinjaOp::kLessEqual},
      {">=", JinjaOp::kGreaterEqual}, {"<", JinjaOp::kLess},      {">", JinjaOp::kGreater}};
  for (const auto& [text, which] : kOps) {
    op = which;
    if (tokens_.TakeOperator(text)) return true;
  }
  op = JinjaOp::kIn;
  if (tokens_.TakeWord("in")) return true;
  op = JinjaOp::kNotIn;
  const bool is_not_in =
      tokens_.IsWord("not") && tokens_.Peek(1).kind == Kind::kName && tokens_.Peek(1).text == "in";
  if (is_not_in) tokens_.Next(), tokens_.Next();
  return is_not_in;
}

StatusOr<Expr> JinjaExpressionParser::ParseComparison() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseSum());
  std::vector<Expr> operands;
  std::vector<JinjaOp> ops;
  for (JinjaOp op; TakeComparison(op);) {
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseSum());
    operands.push_back(std::move(right));
    ops.push_back(op);
  }
  if (ops.empty()) return left;
  operands.insert(operands.begin(), std::move(left));
  return Combine(Expr::Kind::kCompare, std::move(operands), std::move(ops));
}

StatusOr<Expr> JinjaExpressionParser::ParseSum() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseConcat());
  while (tokens_.IsOperator("+") || tokens_.IsOperator("-")) {
    const JinjaOp op = tokens_.Next().text == "+" ? JinjaOp::kAdd : JinjaOp::kSubtract;
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseConcat());
    TANDEM_ASSIGN_OR_RETURN(
        left, Combine(Expr::Kind::kArithmetic, {std::move(left), std::move(right)}, {op}));
  }
  return left;
}

StatusOr<Expr> JinjaExpressionParser::ParseConcat() {
  TANDEM_ASSIGN_OR_RETURN(Expr first, ParseProduct());
  if (!tokens_.IsOperator("~")) return first;
  std::vector<Expr> parts;
  parts.push_back(std::move(first));
  while (tokens_.TakeOperator("~")) {
    TANDEM_ASSIGN_OR_RETURN(Expr part, ParseProduct());
    parts.push_back(std::move(part));
  }
  return Combine(Expr::Kind::kConcat, std::move(parts));
}

StatusOr<Expr> JinjaExpressionParser::ParseProduct() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParsePower());
  while (true) {
    JinjaOp op;
    if (tokens_.TakeOperator("*")) {
      op = JinjaOp::kMultiply;
    } else if (tokens_.TakeOperator("/")) {
      op = JinjaOp::kDivide;
    } else if (tokens_.TakeOperator("//")) {
      op = JinjaOp::kFloorDivide;
    } else if (tokens_.TakeOperator("%")) {
      op = JinjaOp::kModulo;
    } else {
      return left;
    }
    if (op == JinjaOp::kModulo && left.value.as_string() != nullptr) {
      return tokens_.NotSupported("'...' % value");
    }
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParsePower());
    TANDEM_ASSIGN_OR_RETURN(
        left, Combine(Expr::Kind::kArithmetic, {std::move(left), std::move(right)}, {op}));
  }
}

StatusOr<Expr> JinjaExpressionParser::ParsePower() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseUnary(true));
  while (tokens_.TakeOperator("**")) {
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseUnary(true));
    TANDEM_ASSIGN_OR_RETURN(left, Combine(Expr::Kind::kArithmetic,
                                          {std::move(left), std::move(right)}, {JinjaOp::kPower}));
  }
  return left;
}

StatusOr<Expr> JinjaExpressionParser::ParseUnary(bool with_filter) {
  const bool minus = tokens_.IsOperator("-");
  Expr expr;
  if (minus || tokens_.IsOperator("+")) {
    tokens_.Next();
    if (++nesting_ > kMaxJinjaDepth) return tokens_.NotSupported("nesting deeper than 64");
    TANDEM_ASSIGN_OR_RETURN(expr, ParseUnary(false));
    --nesting_;
    const Expr::Kind kind = minus ? Expr::Kind::kNegative : Expr::Kind::kPositive;
    TANDEM_ASSIGN_OR_RETURN(expr, Combine(kind, {std::move(expr)}));
  } else {
    TANDEM_ASSIGN_OR_RETURN(expr, ParsePrimary());
  }
  TANDEM_ASSIGN_OR_RETURN(expr, ParsePostfix(std::move(expr)));
  if (!with_filter) return expr;
  return ParseFilters(std::move(expr));
}

// --- what follows a value

StatusOr<Expr> JinjaExpressionParser::ParsePostfix(Expr expr) {
  while (true) {
    if (tokens_.IsOperator(".") || tokens_.IsOperator("[")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseSubscript(std::move(expr)));
    } else if (tokens_.IsOperator("(")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseCall(std::move(expr)));
    } else {
      return expr;
    }
  }
}

StatusOr<Expr> JinjaExpressionParser::ParseFilters(Expr expr) {
  while (true) {
    if (tokens_.TakeOperator("|")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseFilter(std::move(expr)));
    } else if (tokens_.TakeWord("is")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseTest(std::move(expr)));
    } else if (tokens_.IsOperator("(")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseCall(std::move(expr)));
    } else {
      return expr;
    }
  }
}

StatusOr<Expr> JinjaExpressionParser::ParseFilterChain(Expr input) {
  do {
    TANDEM_ASSIGN_OR_RETURN(input, ParseFilter(std::move(input)));
  } while (tokens_.TakeOperator("|"));
  return input;
}

StatusOr<Expr> JinjaExpressionParser::ParseFilter(Expr input) {
  const int line = tokens_.Peek().line;
  TANDEM_ASSIGN_OR_RETURN(const std::string name, tokens_.TakeName("a filter after '|'"));
  const JinjaFilter* filter = FindFilter(name);
  if (filter == nullptr) return tokens_.NotSupported(fmt::format("the filter '{}'", name));
  Expr expr{.kind = Expr::Kind::kFilter, .line = line, .text = name};
  expr.filter = filter;
  expr.children.push_back(std::move(input));
  if (tokens_.IsOperator("(")) TANDEM_RETURN_IF_ERROR(ParseArguments(expr));
  TANDEM_RETURN_IF_ERROR(BindArguments(expr));
  TANDEM_RETURN_IF_ERROR(Deepen(expr));
  return expr;
}

StatusOr<Expr> JinjaExpressionParser::ParseTest(Expr input) {
  const int line = tokens_.Peek().line;
  const bool negated = tokens_.TakeWord("not");
  TANDEM_ASSIGN_OR_RETURN(const std::string name, tokens_.TakeName("a test after 'is'"));
  const JinjaTest* test = FindTest(name);
  if (test == nullptr) return tokens_.NotSupported(fmt::format("the test '{}'", name));
  Expr expr{.kind = Expr::Kind::kTest, .line = line, .text = name};
  expr.test = test;
  expr.children.push_back(std::move(input));
  const JinjaToken& next = tokens_.Peek();
  const bool is_word = next.kind == Kind::kName && next.text != "else" && next.text != "or" &&
                       next.text != "and" && next.text != "is";
  const bool is_value = next.kind == Kind::kString || next.kind == Kind::kInteger ||
                        next.kind == Kind::kFloat || tokens_.IsOperator("[") ||
                        tokens_.IsOperator("{");
  if (tokens_.IsOperator("(")) {
    TANDEM_RETURN_IF_ERROR(ParseArguments(expr));
  } else if (is_value || (is_word && test->takes_argument)) {
    TANDEM_ASSIGN_OR_RETURN(Expr argument, ParsePrimary());
    TANDEM_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    expr.children.push_back(std::move(argument));
  }
  if (expr.children.size() != (test->takes_argument ? 2 : 1) || !expr.keywords.empty()) {
    return tokens_.Error(fmt::format("the test '{}' takes {}", name,
                                     test->takes_argument ? "one argument" : "no argument"));
  }
  TANDEM_RETURN_IF_ERROR(Deepen(expr));
  if (negated) return Combine(Expr::Kind::kNot, {std::move(expr)});
  return expr;
}

StatusOr<Expr> JinjaExpressionParser::ParseSubscript(Expr object) {
  Expr expr{.kind = Expr::Kind::kAttribute, .line = tokens_.Peek().line};
  if (tokens_.TakeOperator(".")) {
    if (tokens_.Peek().kind == Kind::kInteger) {
      TANDEM_ASSIGN_OR_RETURN(Expr index, ParseNumber());
      return Combine(Expr::Kind::kItem, {std::move(object), std::move(index)});
    }
    TANDEM_ASSIGN_OR_RETURN(expr.text, tokens_.TakeName("a name after '.'"));
    expr.children.push_back(std::move(object));
    TANDEM_RETURN_IF_ERROR(Deepen(expr));
    return expr;
  }
  tokens_.Next();  // [
  if (tokens_.IsOperator(":")) return ParseSlice(std::move(object), Expr(), false);
  TANDEM_ASSIGN_OR_RETURN(Expr key, ParseNested());
  if (tokens_.IsOperator(":")) return ParseSlice(std::move(object), std::move(key), true);
  if (tokens_.IsOperator(",")) return tokens_.NotSupported("several keys in [...]");
  TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  return Combine(Expr::Kind::kItem, {std::move(object), std::move(key)});
}

// Absent parts are none.
StatusOr<Expr> JinjaExpressionParser::ParseSlice(Expr object, Expr begin, bool has_begin) {
  std::vector<Expr> parts;
  parts.push_back(std::move(object));
  if (!has_begin) begin.value = JinjaValue(JinjaValue::None{});
  parts.push_back(std::move(begin));
  while (parts.size() < 4) {
    Expr part;
    part.value = JinjaValue(JinjaValue::None{});
    const bool follows = tokens_.TakeOperator(":");
    if (follows && !tokens_.IsOperator(":") && !tokens_.IsOperator("]")) {
      TANDEM_ASSIGN_OR_RETURN(part, ParseNested());
    }
    parts.push_back(std::move(part));
  }
  TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  return Combine(Expr::Kind::kSlice, std::move(parts));
}

StatusOr<Expr> JinjaExpressionParser::ParseCall(Expr callee) {
  if (callee.kind == Expr::Kind::kAttribute && IsUnsupportedMethod(callee.text)) {
    return tokens_.NotSupported(fmt::format("the method '{}'", callee.text));
  }
  for (const std::string_view function : {"lipsum", "cycler", "joiner"}) {
    if (callee.kind == Expr::Kind::kName && callee.text == function) {
      return tokens_.NotSupported(fmt::format("the function '{}'", function));
    }
  }
  Expr expr{.kind = Expr::Kind::kCall, .line = tokens_.Peek().line};
  expr.children.push_back(std::move(callee));
  TANDEM_RETURN_IF_ERROR(ParseArguments(expr));
  TANDEM_RETURN_IF_ERROR(Deepen(expr));
  return expr;
}

}  // namespace tandem::text
