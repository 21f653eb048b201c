#include "router/text/jinja_parser.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <utility>

namespace tandem::text {
namespace {

using Kind = JinjaToken::Kind;
using Expr = JinjaExpr;
using Node = JinjaNode;

constexpr size_t kMaxSourceBytes = 1 << 20;
constexpr int kMaxDepth = 64;  // of nested tags and of an expression: evaluation recurses so far

class Parser {
 public:
  explicit Parser(std::vector<JinjaToken> tokens) : tokens_(std::move(tokens)) {}

  // Nodes up to a block tag that begins with one of `ends`, which is not consumed; without ends, up
  // to the end of the template.
  StatusOr<std::vector<Node>> ParseBody(std::initializer_list<std::string_view> ends);

 private:
  StatusOr<Node> ParseStatement();
  StatusOr<Node> ParseFor();
  StatusOr<Node> ParseIf();
  StatusOr<Node> ParseSet();
  StatusOr<Node> ParseOutput();

  // From loose to tight binding.
  StatusOr<Expr> ParseExpr();
  StatusOr<Expr> ParseNestedExpr();  // within brackets
  StatusOr<Expr> ParseOr();
  StatusOr<Expr> ParseAnd();
  StatusOr<Expr> ParseNot();
  StatusOr<Expr> ParseComparison();
  StatusOr<Expr> ParseSum();
  StatusOr<Expr> ParseConcat();
  StatusOr<Expr> ParseUnary();
  StatusOr<Expr> ParsePostfix();
  StatusOr<Expr> ParsePrimary();
  StatusOr<Expr> ParseLiteralOrName();
  StatusOr<Expr> ParseSubscript(Expr object);
  StatusOr<Expr> ParseFilter(Expr input);
  StatusOr<Expr> ParseTest(Expr input);

  StatusOr<Expr> Combine(Expr::Kind kind, std::string text, std::vector<Expr> children) const;

  const JinjaToken& Peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const JinjaToken& Next() { return tokens_[at_ < tokens_.size() - 1 ? at_++ : at_]; }
  bool Is(Kind kind, std::string_view text) const {
    return Peek().kind == kind && Peek().text == text;
  }
  bool Take(Kind kind, std::string_view text) { return Is(kind, text) && (Next(), true); }
  bool TakeOperator(std::string_view text) { return Take(Kind::kOperator, text); }
  bool TakeWord(std::string_view text) { return Take(Kind::kName, text); }
  StatusOr<std::string> TakeName(const char* what);
  Status Expect(Kind kind, std::string_view text, const char* what);
  Status EndBlock() { return Expect(Kind::kBlockEnd, "", "%}"); }
  Status EndBlockNamed(std::string_view word);
  Status Error(const std::string& what) const {
    return InvalidArgument("chat template, line {}: {}", Peek().line, what);
  }
  Status NotSupported(const std::string& what) const {
    return Unsupported("chat template, line {}: uses {}, which is not supported", Peek().line,
                       what);
  }

  std::vector<JinjaToken> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

// --- statements

StatusOr<std::vector<Node>> Parser::ParseBody(std::initializer_list<std::string_view> ends) {
  if (++nesting_ > kMaxDepth) return NotSupported("nesting deeper than 64");
  std::vector<Node> body;
  while (true) {
    if (Peek().kind == Kind::kEnd) {
      if (ends.size() > 0) return Error(fmt::format("a tag has no {{% {} %}}", *(ends.end() - 1)));
      break;
    }
    const bool is_block = Peek().kind == Kind::kBlock;
    if (is_block && std::find(ends.begin(), ends.end(), Peek(1).text) != ends.end()) break;
    TANDEM_ASSIGN_OR_RETURN(Node node, ParseStatement());
    body.push_back(std::move(node));
  }
  --nesting_;
  return body;
}

StatusOr<Node> Parser::ParseStatement() {
  if (Peek().kind == Kind::kData) {
    const JinjaToken& token = Next();
    return Node{.kind = Node::Kind::kData, .text = token.text, .line = token.line};
  }
  if (Peek().kind == Kind::kOutput) return ParseOutput();
  Next();  // {%
  if (TakeWord("for")) return ParseFor();
  if (TakeWord("if")) return ParseIf();
  if (TakeWord("set")) return ParseSet();
  return NotSupported(fmt::format("the tag {{% {} %}}", Peek().text));
}

StatusOr<Node> Parser::ParseOutput() {
  Node node{.kind = Node::Kind::kOutput, .line = Next().line};
  TANDEM_ASSIGN_OR_RETURN(node.expr, ParseExpr());
  TANDEM_RETURN_IF_ERROR(Expect(Kind::kOutputEnd, "", "}}"));
  return node;
}

StatusOr<Node> Parser::ParseFor() {
  Node node{.kind = Node::Kind::kFor, .line = Peek().line};
  TANDEM_ASSIGN_OR_RETURN(node.text, TakeName("a variable after 'for'"));
  if (Is(Kind::kOperator, ",")) return NotSupported("several variables in {% for %}");
  TANDEM_RETURN_IF_ERROR(Expect(Kind::kName, "in", "'in'"));
  TANDEM_ASSIGN_OR_RETURN(node.expr, ParseOr());
  if (Is(Kind::kName, "if")) return NotSupported("'if' in {% for %}");
  TANDEM_RETURN_IF_ERROR(EndBlock());
  TANDEM_ASSIGN_OR_RETURN(node.body, ParseBody({"else", "endfor"}));
  if (Peek(1).text == "else") return NotSupported("{% else %} of {% for %}");
  TANDEM_RETURN_IF_ERROR(EndBlockNamed("endfor"));
  return node;
}

StatusOr<Node> Parser::ParseIf() {
  Node node{.kind = Node::Kind::kIf, .line = Peek().line};
  while (true) {
    Node::Branch& branch = node.branches.emplace_back();
    TANDEM_ASSIGN_OR_RETURN(branch.condition, ParseExpr());
    TANDEM_RETURN_IF_ERROR(EndBlock());
    TANDEM_ASSIGN_OR_RETURN(branch.body, ParseBody({"elif", "else", "endif"}));
    if (Peek(1).text != "elif") break;
    Next(), Next();  // {% elif
  }
  if (Peek(1).text == "else") {
    TANDEM_RETURN_IF_ERROR(EndBlockNamed("else"));
    Node::Branch& branch = node.branches.emplace_back();
    branch.condition.value = JinjaValue(true);
    TANDEM_ASSIGN_OR_RETURN(branch.body, ParseBody({"endif"}));
  }
  TANDEM_RETURN_IF_ERROR(EndBlockNamed("endif"));
  return node;
}

StatusOr<Node> Parser::ParseSet() {
  Node node{.kind = Node::Kind::kSet, .line = Peek().line};
  TANDEM_ASSIGN_OR_RETURN(node.text, TakeName("a variable after 'set'"));
  if (!TakeOperator("=")) return NotSupported("a form of {% set %} other than 'name = value'");
  TANDEM_ASSIGN_OR_RETURN(node.expr, ParseExpr());
  TANDEM_RETURN_IF_ERROR(EndBlock());
  return node;
}

// --- expressions

StatusOr<Expr> Parser::Combine(Expr::Kind kind, std::string text,
                               std::vector<Expr> children) const {
  Expr expr{.kind = kind, .text = std::move(text), .line = Peek().line};
  for (const Expr& child : children) expr.depth = std::max(expr.depth, child.depth + 1);
  if (expr.depth > kMaxDepth) return NotSupported("an expression deeper than 64");
  expr.children = std::move(children);
  return expr;
}

StatusOr<Expr> Parser::ParseExpr() {
  StatusOr<Expr> expr = ParseOr();
  if (expr.ok() && Is(Kind::kName, "if")) return NotSupported("'a if b else c'");
  return expr;
}

StatusOr<Expr> Parser::ParseNestedExpr() {
  if (++nesting_ > kMaxDepth) return NotSupported("nesting deeper than 64");
  StatusOr<Expr> expr = ParseExpr();
  --nesting_;
  return expr;
}

StatusOr<Expr> Parser::ParseOr() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseAnd());
  while (TakeWord("or")) {
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseAnd());
    TANDEM_ASSIGN_OR_RETURN(
        left, Combine(Expr::Kind::kBinary, "or", {std::move(left), std::move(right)}));
  }
  return left;
}

StatusOr<Expr> Parser::ParseAnd() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseNot());
  while (TakeWord("and")) {
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseNot());
    TANDEM_ASSIGN_OR_RETURN(
        left, Combine(Expr::Kind::kBinary, "and", {std::move(left), std::move(right)}));
  }
  return left;
}

StatusOr<Expr> Parser::ParseNot() {
  int negations = 0;
  while (TakeWord("not")) ++negations;
  TANDEM_ASSIGN_OR_RETURN(Expr expr, ParseComparison());
  for (; negations > 0; --negations) {
    TANDEM_ASSIGN_OR_RETURN(expr, Combine(Expr::Kind::kUnary, "not", {std::move(expr)}));
  }
  return expr;
}

StatusOr<Expr> Parser::ParseComparison() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseSum());
  std::string op;
  for (const std::string_view known : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (op.empty() && TakeOperator(known)) op = known;
  }
  const bool is_not_in = Is(Kind::kName, "not") && Peek(1).text == "in";
  if (is_not_in) Next();
  if (op.empty() && TakeWord("in")) op = "in";
  if (op.empty()) return left;
  TANDEM_ASSIGN_OR_RETURN(Expr right, ParseSum());
  TANDEM_ASSIGN_OR_RETURN(Expr expr,
                          Combine(Expr::Kind::kBinary, op, {std::move(left), std::move(right)}));
  if (is_not_in) return Combine(Expr::Kind::kUnary, "not", {std::move(expr)});
  return expr;
}

StatusOr<Expr> Parser::ParseSum() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseConcat());
  while (Is(Kind::kOperator, "+") || Is(Kind::kOperator, "-")) {
    std::string op = Next().text;
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseConcat());
    TANDEM_ASSIGN_OR_RETURN(
        left, Combine(Expr::Kind::kBinary, std::move(op), {std::move(left), std::move(right)}));
  }
  return left;
}

StatusOr<Expr> Parser::ParseConcat() {
  TANDEM_ASSIGN_OR_RETURN(Expr left, ParseUnary());
  while (TakeOperator("~")) {
    TANDEM_ASSIGN_OR_RETURN(Expr right, ParseUnary());
    TANDEM_ASSIGN_OR_RETURN(left,
                            Combine(Expr::Kind::kBinary, "~", {std::move(left), std::move(right)}));
  }
  return left;
}

StatusOr<Expr> Parser::ParseUnary() {
  if (!TakeOperator("-")) return ParsePostfix();
  TANDEM_ASSIGN_OR_RETURN(Expr operand, ParsePostfix());
  return Combine(Expr::Kind::kUnary, "-", {std::move(operand)});
}

StatusOr<Expr> Parser::ParsePostfix() {
  TANDEM_ASSIGN_OR_RETURN(Expr expr, ParsePrimary());
  while (true) {
    if (Is(Kind::kOperator, "(")) return NotSupported("a call of a function");
    if (Is(Kind::kOperator, ".") || Is(Kind::kOperator, "[")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseSubscript(std::move(expr)));
    } else if (TakeOperator("|")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseFilter(std::move(expr)));
    } else if (TakeWord("is")) {
      TANDEM_ASSIGN_OR_RETURN(expr, ParseTest(std::move(expr)));
    } else {
      break;
    }
  }
  for (const std::string_view op : {"*", "/", "//", "%", "**"}) {
    if (Is(Kind::kOperator, op)) return NotSupported(fmt::format("the operator {}", op));
  }
  return expr;
}

StatusOr<Expr> Parser::ParseSubscript(Expr object) {
  Expr key{.line = Peek().line};
  if (TakeOperator(".")) {
    TANDEM_ASSIGN_OR_RETURN(std::string name, TakeName("a name after '.'"));
    key.value = JinjaValue(std::move(name));
  } else {
    Next();  // [
    if (Is(Kind::kOperator, ":")) return NotSupported("a slice [a:b]");
    TANDEM_ASSIGN_OR_RETURN(key, ParseNestedExpr());
    if (Is(Kind::kOperator, ":")) return NotSupported("a slice [a:b]");
    TANDEM_RETURN_IF_ERROR(Expect(Kind::kOperator, "]", "]"));
  }
  return Combine(Expr::Kind::kSubscript, "", {std::move(object), std::move(key)});
}

StatusOr<Expr> Parser::ParseFilter(Expr input) {
  TANDEM_ASSIGN_OR_RETURN(std::string name, TakeName("a filter after '|'"));
  if (name != "trim" && name != "length") return NotSupported(fmt::format("the filter '{}'", name));
  if (Is(Kind::kOperator, "(")) return NotSupported("arguments of a filter");
  return Combine(Expr::Kind::kFilter, std::move(name), {std::move(input)});
}

StatusOr<Expr> Parser::ParseTest(Expr input) {
  const bool negated = TakeWord("not");
  TANDEM_ASSIGN_OR_RETURN(std::string name, TakeName("a test after 'is'"));
  if (name != "defined" && name != "none" && name != "string") {
    return NotSupported(fmt::format("the test '{}'", name));
  }
  TANDEM_ASSIGN_OR_RETURN(Expr test,
                          Combine(Expr::Kind::kTest, std::move(name), {std::move(input)}));
  if (negated) return Combine(Expr::Kind::kUnary, "not", {std::move(test)});
  return test;
}

StatusOr<Expr> Parser::ParsePrimary() {
  if (TakeOperator("(")) {
    TANDEM_ASSIGN_OR_RETURN(Expr expr, ParseNestedExpr());
    TANDEM_RETURN_IF_ERROR(Expect(Kind::kOperator, ")", ")"));
    return expr;
  }
  if (Is(Kind::kOperator, "[")) return NotSupported("a list [...]");
  if (Is(Kind::kOperator, "{")) return NotSupported("a map {...}");
  return ParseLiteralOrName();
}

StatusOr<Expr> Parser::ParseLiteralOrName() {
  const JinjaToken& token = Peek();
  Expr expr{.line = token.line};
  if (token.kind == Kind::kString) {
    expr.value = JinjaValue(token.text);
  } else if (token.kind == Kind::kInteger) {
    int64_t number = 0;
    const char* end = token.text.data() + token.text.size();
    const auto result = std::from_chars(token.text.data(), end, number);
    if (result.ec != std::errc() || result.ptr != end) {
      return Error(fmt::format("'{}' is not a number", token.text));
    }
    expr.value = JinjaValue(number);
  } else if (token.kind != Kind::kName) {
    return Error(fmt::format("a value is missing before '{}'", token.text));
  } else if (token.text == "true" || token.text == "True") {
    expr.value = JinjaValue(true);
  } else if (token.text == "false" || token.text == "False") {
    expr.value = JinjaValue(false);
  } else if (token.text == "none" || token.text == "None") {
    expr.value = JinjaValue(JinjaValue::None{});
  } else {
    expr.kind = Expr::Kind::kName;
    expr.text = token.text;
  }
  Next();
  return expr;
}

// --- tokens

StatusOr<std::string> Parser::TakeName(const char* what) {
  if (Peek().kind != Kind::kName) return Error(fmt::format("{} is missing", what));
  return Next().text;
}

Status Parser::Expect(Kind kind, std::string_view text, const char* what) {
  if (Take(kind, text)) return OkStatus();
  return Error(fmt::format("'{}' where {} is expected", Peek().text, what));
}

// The tag {% word %}.
Status Parser::EndBlockNamed(std::string_view word) {
  TANDEM_RETURN_IF_ERROR(Expect(Kind::kBlock, "", "{%"));
  TANDEM_RETURN_IF_ERROR(Expect(Kind::kName, word, "the end of a block"));
  return EndBlock();
}

}  // namespace

StatusOr<std::vector<Node>> ParseJinja(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return InvalidArgument("chat template: {} bytes; at most {} are supported", source.size(),
                           kMaxSourceBytes);
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<JinjaToken> tokens, LexJinja(source));
  return Parser(std::move(tokens)).ParseBody({});
}

}  // namespace tandem::text
