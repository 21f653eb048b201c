// The parser's innermost part: values, and the arguments of calls and filters.
#include <algorithm>
#include <charconv>
#include <utility>

#include "router/text/jinja_expression_parser.h"
#include "router/text/jinja_filters.h"

namespace tandem::text {

using Expr = JinjaExpr;

Status JinjaExpressionParser::ParseArguments(Expr& call) {
  tokens_.Next();  // (
  while (!tokens_.IsOperator(")")) {
    if (tokens_.IsOperator("*") || tokens_.IsOperator("**")) {
      return tokens_.NotSupported("an argument * or **");
    }
    const JinjaToken& next = tokens_.Peek(1);
    const bool is_keyword =
        tokens_.Peek().kind == Kind::kName && next.kind == Kind::kOperator && next.text == "=";
    TANDEM_RETURN_IF_ERROR(CheckArgument(call, is_keyword));
    if (is_keyword) {
      call.keywords.push_back(tokens_.Next().text);
      tokens_.Next();  // =
    }
    TANDEM_ASSIGN_OR_RETURN(Expr argument, ParseNested());
    call.children.push_back(std::move(argument));
    if (!tokens_.TakeOperator(",")) break;
  }
  return tokens_.ExpectOperator(")");
}

Status JinjaExpressionParser::CheckArgument(const Expr& call, bool is_keyword) const {
  if (!is_keyword && !call.keywords.empty()) {
    return tokens_.Error("an argument without a name follows one with a name");
  }
  const std::string& name = tokens_.Peek().text;
  const auto& given = call.keywords;
  if (is_keyword && std::find(given.begin(), given.end(), name) != given.end()) {
    return tokens_.Error(fmt::format("the argument '{}' is given twice", name));
  }
  return OkStatus();
}

// Where each argument goes is known when the template is parsed.
Status JinjaExpressionParser::BindArguments(Expr& expr) const {
  const auto& parameters = expr.filter->parameters;
  const size_t num_positional = expr.children.size() - 1 - expr.keywords.size();
  for (size_t i = 0; i < expr.children.size() - 1; ++i) {
    if (i < num_positional) {
      expr.slots.push_back(static_cast<int>(i));
      continue;
    }
    const std::string& keyword = expr.keywords[i - num_positional];
    const auto it = std::find(parameters.begin(), parameters.end(), keyword);
    if (it == parameters.end()) {
      return tokens_.NotSupported(
          fmt::format("the argument '{}' of the filter '{}'", keyword, expr.text));
    }
    expr.slots.push_back(static_cast<int>(it - parameters.begin()));
  }
  const bool too_many = num_positional > parameters.size() ||
                        (num_positional > 0 && parameters[num_positional - 1].empty());
  if (too_many) {
    return tokens_.NotSupported(
        fmt::format("{} arguments of the filter '{}'", num_positional, expr.text));
  }
  if (static_cast<int>(expr.slots.size()) < expr.filter->num_required) {
    return tokens_.Error(fmt::format("the filter '{}' lacks an argument", expr.text));
  }
  // map('name') and its like look the name up when they run; here it is checked, if it is known.
  const bool names_filter = expr.text == "map" && num_positional > 0;
  const std::string* name = names_filter ? expr.children[1].value.as_string() : nullptr;
  if (name != nullptr && FindFilter(*name) == nullptr) {
    return tokens_.NotSupported(fmt::format("the filter '{}'", *name));
  }
  const bool attribute = expr.text == "selectattr" || expr.text == "rejectattr";
  const size_t test = attribute ? 2 : 1;
  if (!(attribute || expr.text == "select" || expr.text == "reject") || num_positional < test) {
    return OkStatus();
  }
  name = expr.children[test].value.as_string();
  if (name == nullptr || FindTest(*name) != nullptr) return OkStatus();
  return tokens_.NotSupported(fmt::format("the test '{}'", *name));
}

StatusOr<Expr> JinjaExpressionParser::ParsePrimary() {
  const JinjaToken& token = tokens_.Peek();
  if (tokens_.TakeOperator("(")) return ParseParentheses();
  if (tokens_.TakeOperator("[")) return ParseList();
  if (tokens_.TakeOperator("{")) return ParseMap();
  if (token.kind == Kind::kInteger || token.kind == Kind::kFloat) return ParseNumber();
  if (token.kind == Kind::kName) return ParseName();
  if (token.kind != Kind::kString) {
    return tokens_.Error(fmt::format("a value is missing before '{}'", token.text));
  }
  Expr expr{.line = token.line};
  std::string text;
  while (tokens_.Peek().kind == Kind::kString) text += tokens_.Next().text;
  expr.value = JinjaValue(std::move(text));
  return expr;
}

StatusOr<Expr> JinjaExpressionParser::ParseParentheses() {
  if (tokens_.TakeOperator(")")) return Combine(Expr::Kind::kTuple, {});
  TANDEM_ASSIGN_OR_RETURN(Expr expr, ParseTuple());
  TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
  return expr;
}

StatusOr<Expr> JinjaExpressionParser::ParseList() {
  std::vector<Expr> items;
  while (!tokens_.IsOperator("]")) {
    TANDEM_ASSIGN_OR_RETURN(Expr item, ParseNested());
    items.push_back(std::move(item));
    if (!tokens_.TakeOperator(",")) break;
  }
  TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  return Combine(Expr::Kind::kList, std::move(items));
}

StatusOr<Expr> JinjaExpressionParser::ParseMap() {
  std::vector<Expr> items;
  while (!tokens_.IsOperator("}")) {
    TANDEM_ASSIGN_OR_RETURN(Expr key, ParseNested());
    TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
    TANDEM_ASSIGN_OR_RETURN(Expr value, ParseNested());
    items.push_back(std::move(key));
    items.push_back(std::move(value));
    if (!tokens_.TakeOperator(",")) break;
  }
  TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator("}"));
  return Combine(Expr::Kind::kMap, std::move(items));
}

StatusOr<Expr> JinjaExpressionParser::ParseName() {
  const JinjaToken& token = tokens_.Next();
  Expr expr{.line = token.line};
  if (token.text == "true" || token.text == "True") {
    expr.value = JinjaValue(true);
  } else if (token.text == "false" || token.text == "False") {
    expr.value = JinjaValue(false);
  } else if (token.text == "none" || token.text == "None") {
    expr.value = JinjaValue(JinjaValue::None{});
  } else {
    expr.kind = Expr::Kind::kName;
    expr.text = token.text;
    expr.symbol = Intern(token.text);
    ++uses_[static_cast<size_t>(expr.symbol)];
  }
  return expr;
}

StatusOr<Expr> JinjaExpressionParser::ParseNumber() {
  const JinjaToken& token = tokens_.Peek();
  Expr expr{.line = token.line};
  const char* end = token.text.data() + token.text.size();
  std::from_chars_result result{};
  if (token.kind == Kind::kFloat) {
    double number = 0;
    result = std::from_chars(token.text.data(), end, number);
    expr.value = JinjaValue(number);
  } else {
    int64_t number = 0;
    result = std::from_chars(token.text.data(), end, number);
    expr.value = JinjaValue(number);
  }
  if (result.ec != std::errc() || result.ptr != end) {
    return tokens_.Error(fmt::format("'{}' is not a number", token.text));
  }
  tokens_.Next();
  return expr;
}

}  // namespace tandem::text
