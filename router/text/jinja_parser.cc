#include "router/text/jinja_parser.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "router/text/jinja_expression_parser.h"
#include "router/text/jinja_token_stream.h"

namespace tandem::text {
namespace {

using Kind = JinjaToken::Kind;
using Expr = JinjaExpr;
using Node = JinjaNode;

constexpr size_t kMaxSourceBytes = 1 << 20;

class Parser {
 public:
  explicit Parser(std::vector<JinjaToken> tokens)
      : tokens_(std::move(tokens)), expressions_(tokens_) {}

  StatusOr<JinjaTree> Run() {
    JinjaTree tree;
    TANDEM_ASSIGN_OR_RETURN(tree.body, ParseBody({}));
    tree.symbols = expressions_.TakeSymbols();
    return tree;
  }

 private:
  using Words = std::initializer_list<std::string_view>;

  // Nodes up to a block tag that begins with one of `ends`, which is not consumed; without ends, up
  // to the end of the template.
  StatusOr<std::vector<Node>> ParseBody(Words ends);
  StatusOr<std::vector<Node>> ParseBodyUntil(std::string_view end);  // which is consumed
  StatusOr<Node> ParseStatement();
  StatusOr<Node> ParseOutput();
  StatusOr<Node> ParseFor();
  StatusOr<Node> ParseIf();
  StatusOr<Node> ParseSet();
  StatusOr<Node> ParseSetBlock(Node node);
  StatusOr<Node> ParseMacro();
  StatusOr<Node> ParseCall();
  StatusOr<Node> ParseFilterBlock();
  StatusOr<Node> ParseWith();
  StatusOr<Node> ParseGeneration();
  StatusOr<Node> ParseLoopControl(Node::Kind kind);
  StatusOr<JinjaTarget> ParseTarget();
  StatusOr<int> ParseTargetName();
  Status ParseSignature(JinjaMacroBody& macro);
  Status ParseMacroBody(JinjaMacroBody& macro, std::string_view end);
  Expr Captured();

  Status EndBlock() { return tokens_.Expect(Kind::kBlockEnd, "", "%}"); }
  // The tag {% word %}.
  Status EndBlockNamed(std::string_view word) {
    TANDEM_RETURN_IF_ERROR(tokens_.Expect(Kind::kBlock, "", "{%"));
    TANDEM_RETURN_IF_ERROR(tokens_.Expect(Kind::kName, word, "the end of a block"));
    return EndBlock();
  }

  JinjaTokenStream tokens_;
  JinjaExpressionParser expressions_;
  int nesting_ = 0;
  int loops_ = 0;  // around this place, within the same macro
};

StatusOr<std::vector<Node>> Parser::ParseBody(Words ends) {
  if (++nesting_ > kMaxJinjaDepth) {
    return tokens_.NotSupported(fmt::format("nesting deeper than {}", kMaxJinjaDepth));
  }
  std::vector<Node> body;
  while (true) {
    if (tokens_.Peek().kind == Kind::kEnd) {
      if (ends.size() == 0) break;
      return tokens_.Error(fmt::format("a tag has no {{% {} %}}", *(ends.end() - 1)));
    }
    const bool is_block = tokens_.Peek().kind == Kind::kBlock;
    const std::string& word = tokens_.Peek(1).text;
    if (is_block && std::find(ends.begin(), ends.end(), word) != ends.end()) break;
    TANDEM_ASSIGN_OR_RETURN(Node node, ParseStatement());
    body.push_back(std::move(node));
  }
  --nesting_;
  return body;
}

StatusOr<std::vector<Node>> Parser::ParseBodyUntil(std::string_view end) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Node> body, ParseBody({end}));
  tokens_.Next(), tokens_.Next();  // {% end
  TANDEM_RETURN_IF_ERROR(EndBlock());
  return body;
}

StatusOr<Node> Parser::ParseStatement() {
  if (tokens_.Peek().kind == Kind::kData) {
    const JinjaToken& token = tokens_.Next();
    return Node{.kind = Node::Kind::kData, .line = token.line, .text = token.text};
  }
  if (tokens_.Peek().kind == Kind::kOutput) return ParseOutput();
  tokens_.Next();  // {%
  constexpr std::pair<std::string_view, StatusOr<Node> (Parser::*)()> kTags[] = {
      {"for", &Parser::ParseFor},   {"if", &Parser::ParseIf},
      {"set", &Parser::ParseSet},   {"macro", &Parser::ParseMacro},
      {"call", &Parser::ParseCall}, {"filter", &Parser::ParseFilterBlock},
      {"with", &Parser::ParseWith}, {"generation", &Parser::ParseGeneration}};
  for (const auto& [word, parse] : kTags) {
    if (tokens_.TakeWord(word)) return (this->*parse)();
  }
  if (tokens_.TakeWord("break")) return ParseLoopControl(Node::Kind::kBreak);
  if (tokens_.TakeWord("continue")) return ParseLoopControl(Node::Kind::kContinue);
  return tokens_.NotSupported(fmt::format("the tag {{% {} %}}", tokens_.Peek().text));
}

StatusOr<Node> Parser::ParseOutput() {
  Node node{.kind = Node::Kind::kOutput, .line = tokens_.Next().line};
  TANDEM_ASSIGN_OR_RETURN(node.expr, expressions_.ParseTuple());
  TANDEM_RETURN_IF_ERROR(tokens_.Expect(Kind::kOutputEnd, "", "}}"));
  return node;
}

StatusOr<Node> Parser::ParseLoopControl(Node::Kind kind) {
  Node node{.kind = kind, .line = tokens_.Peek().line};
  if (loops_ == 0) return tokens_.Error("a break or continue stands outside of a loop");
  TANDEM_RETURN_IF_ERROR(EndBlock());
  return node;
}

// --- loops and conditions

StatusOr<Node> Parser::ParseFor() {
  Node node{.kind = Node::Kind::kFor, .line = tokens_.Peek().line};
  TANDEM_ASSIGN_OR_RETURN(node.target, ParseTarget());
  TANDEM_RETURN_IF_ERROR(tokens_.Expect(Kind::kName, "in", "'in'"));
  TANDEM_ASSIGN_OR_RETURN(node.expr, expressions_.ParseTuple(/*with_conditional=*/false));
  if (tokens_.TakeWord("if")) {
    TANDEM_ASSIGN_OR_RETURN(Expr condition, expressions_.ParseExpression());
    node.conditions.push_back(std::move(condition));
  }
  if (tokens_.IsWord("recursive")) return tokens_.NotSupported("a recursive {% for %}");
  TANDEM_RETURN_IF_ERROR(EndBlock());
  const int uses_before = expressions_.uses("loop");
  ++loops_;
  TANDEM_ASSIGN_OR_RETURN(node.body, ParseBody({"else", "endfor"}));
  --loops_;
  node.uses_loop = expressions_.uses("loop") > uses_before;
  if (tokens_.Peek(1).text == "else") {
    tokens_.Next(), tokens_.Next();  // {% else
    TANDEM_RETURN_IF_ERROR(EndBlock());
    TANDEM_ASSIGN_OR_RETURN(node.otherwise, ParseBody({"endfor"}));
  }
  TANDEM_RETURN_IF_ERROR(EndBlockNamed("endfor"));
  return node;
}

StatusOr<Node> Parser::ParseIf() {
  Node node{.kind = Node::Kind::kIf, .line = tokens_.Peek().line};
  while (true) {
    Node::Branch& branch = node.branches.emplace_back();
    TANDEM_ASSIGN_OR_RETURN(branch.condition, expressions_.ParseTuple());
    TANDEM_RETURN_IF_ERROR(EndBlock());
    TANDEM_ASSIGN_OR_RETURN(branch.body, ParseBody({"elif", "else", "endif"}));
    if (tokens_.Peek(1).text != "elif") break;
    tokens_.Next(), tokens_.Next();  // {% elif
  }
  if (tokens_.Peek(1).text == "else") {
    tokens_.Next(), tokens_.Next();  // {% else
    TANDEM_RETURN_IF_ERROR(EndBlock());
    Node::Branch& branch = node.branches.emplace_back();
    branch.condition.value = JinjaValue(true);
    TANDEM_ASSIGN_OR_RETURN(branch.body, ParseBody({"endif"}));
  }
  TANDEM_RETURN_IF_ERROR(EndBlockNamed("endif"));
  return node;
}

// --- assignments

StatusOr<int> Parser::ParseTargetName() {
  TANDEM_ASSIGN_OR_RETURN(const std::string name, tokens_.TakeName("the name of a variable"));
  for (const std::string_view word : {"true", "false", "none", "True", "False", "None"}) {
    if (name == word) return tokens_.Error(fmt::format("'{}' cannot be assigned to", name));
  }
  return expressions_.Intern(name);
}

StatusOr<JinjaTarget> Parser::ParseTarget() {
  JinjaTarget target;
  const bool in_brackets = tokens_.TakeOperator("(");
  target.unpacks = in_brackets;
  do {
    if (tokens_.IsOperator("(")) return tokens_.NotSupported("names in brackets inside of others");
    TANDEM_ASSIGN_OR_RETURN(const int symbol, ParseTargetName());
    target.symbols.push_back(symbol);
    if (!tokens_.TakeOperator(",")) break;
    target.unpacks = true;
  } while ((tokens_.Peek().kind == Kind::kName && !tokens_.IsWord("in")) ||
           tokens_.IsOperator("("));
  if (in_brackets) TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
  return target;
}

StatusOr<Node> Parser::ParseSet() {
  Node node{.kind = Node::Kind::kSet, .line = tokens_.Peek().line};
  TANDEM_ASSIGN_OR_RETURN(node.target, ParseTarget());
  if (!node.target.unpacks && tokens_.TakeOperator(".")) {
    TANDEM_ASSIGN_OR_RETURN(node.target.attribute, tokens_.TakeName("a name after '.'"));
  }
  if (!tokens_.TakeOperator("=")) return ParseSetBlock(std::move(node));
  TANDEM_ASSIGN_OR_RETURN(node.expr, expressions_.ParseTuple());
  TANDEM_RETURN_IF_ERROR(EndBlock());
  return node;
}

// What a block made, as an expression that filters can be applied to.
Expr Parser::Captured() {
  Expr expr{.kind = Expr::Kind::kName, .line = tokens_.Peek().line};
  expr.symbol = expressions_.Intern("");
  return expr;
}

StatusOr<Node> Parser::ParseSetBlock(Node node) {
  node.kind = Node::Kind::kSetBlock;
  if (node.target.unpacks) return tokens_.Error("a block cannot be assigned to several names");
  node.expr = Captured();
  if (tokens_.TakeOperator("|")) {
    TANDEM_ASSIGN_OR_RETURN(node.expr, expressions_.ParseFilterChain(std::move(node.expr)));
  }
  TANDEM_RETURN_IF_ERROR(EndBlock());
  TANDEM_ASSIGN_OR_RETURN(node.body, ParseBodyUntil("endset"));
  return node;
}

StatusOr<Node> Parser::ParseFilterBlock() {
  Node node{.kind = Node::Kind::kFilterBlock, .line = tokens_.Peek().line};
  TANDEM_ASSIGN_OR_RETURN(node.expr, expressions_.ParseFilterChain(Captured()));
  TANDEM_RETURN_IF_ERROR(EndBlock());
  TANDEM_ASSIGN_OR_RETURN(node.body, ParseBodyUntil("endfilter"));
  return node;
}

StatusOr<Node> Parser::ParseWith() {
  Node node{.kind = Node::Kind::kWith, .line = tokens_.Peek().line};
  while (tokens_.Peek().kind != Kind::kBlockEnd) {
    if (!node.targets.empty()) TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
    TANDEM_ASSIGN_OR_RETURN(const int symbol, ParseTargetName());
    JinjaTarget& target = node.targets.emplace_back();
    target.symbols.push_back(symbol);
    TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator("="));
    TANDEM_ASSIGN_OR_RETURN(Expr value, expressions_.ParseExpression());
    node.values.push_back(std::move(value));
  }
  TANDEM_RETURN_IF_ERROR(EndBlock());
  TANDEM_ASSIGN_OR_RETURN(node.body, ParseBodyUntil("endwith"));
  return node;
}

// Hugging Face's mark around what the assistant said. Its body is one of a macro there.
StatusOr<Node> Parser::ParseGeneration() {
  Node node{.kind = Node::Kind::kScope, .line = tokens_.Peek().line};
  TANDEM_RETURN_IF_ERROR(EndBlock());
  const int loops = std::exchange(loops_, 0);
  TANDEM_ASSIGN_OR_RETURN(node.body, ParseBodyUntil("endgeneration"));
  loops_ = loops;
  return node;
}

// --- macros

// (a, b=1)
Status Parser::ParseSignature(JinjaMacroBody& macro) {
  TANDEM_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
  while (!tokens_.IsOperator(")")) {
    const std::string name = tokens_.Peek().text;
    TANDEM_ASSIGN_OR_RETURN(const int symbol, ParseTargetName());
    macro.parameters.push_back(symbol);
    macro.parameter_names.push_back(name);
    if (tokens_.TakeOperator("=")) {
      TANDEM_ASSIGN_OR_RETURN(Expr value, expressions_.ParseExpression());
      macro.defaults.push_back(std::move(value));
    } else if (!macro.defaults.empty()) {
      return tokens_.Error("a parameter without a default follows one that has one");
    }
    if (!tokens_.TakeOperator(",")) break;
  }
  return tokens_.ExpectOperator(")");
}

Status Parser::ParseMacroBody(JinjaMacroBody& macro, std::string_view end) {
  TANDEM_RETURN_IF_ERROR(EndBlock());
  const int varargs = expressions_.uses("varargs");
  const int kwargs = expressions_.uses("kwargs");
  const int loops = std::exchange(loops_, 0);
  TANDEM_ASSIGN_OR_RETURN(macro.body, ParseBodyUntil(end));
  loops_ = loops;
  macro.uses_varargs = expressions_.uses("varargs") > varargs;
  macro.uses_kwargs = expressions_.uses("kwargs") > kwargs;
  return OkStatus();
}

StatusOr<Node> Parser::ParseMacro() {
  Node node{.kind = Node::Kind::kMacro, .line = tokens_.Peek().line};
  auto macro = std::make_shared<JinjaMacroBody>();
  macro->line = node.line;
  macro->name = tokens_.Peek().text;
  TANDEM_ASSIGN_OR_RETURN(const int symbol, ParseTargetName());
  node.target.symbols.push_back(symbol);
  TANDEM_RETURN_IF_ERROR(ParseSignature(*macro));
  TANDEM_RETURN_IF_ERROR(ParseMacroBody(*macro, "endmacro"));
  node.macro = std::move(macro);
  return node;
}

// {% call(parameters) macro(arguments) %}
StatusOr<Node> Parser::ParseCall() {
  Node node{.kind = Node::Kind::kCall, .line = tokens_.Peek().line};
  auto caller = std::make_shared<JinjaMacroBody>();
  caller->line = node.line;
  caller->name = "caller";
  if (tokens_.IsOperator("(")) TANDEM_RETURN_IF_ERROR(ParseSignature(*caller));
  TANDEM_ASSIGN_OR_RETURN(node.expr, expressions_.ParseExpression());
  if (node.expr.kind != Expr::Kind::kCall) return tokens_.Error("{% call %} without a call");
  TANDEM_RETURN_IF_ERROR(ParseMacroBody(*caller, "endcall"));
  node.macro = std::move(caller);
  return node;
}

}  // namespace

StatusOr<JinjaTree> ParseJinja(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return InvalidArgument("chat template: {} bytes; at most {} are supported", source.size(),
                           kMaxSourceBytes);
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<JinjaToken> tokens, LexJinja(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace tandem::text
