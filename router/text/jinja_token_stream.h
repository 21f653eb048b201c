// The tokens of a template as its parser walks over them, and the parser's errors.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "router/text/jinja_lexer.h"

namespace tandem::text {

class JinjaTokenStream {
 public:
  using Kind = JinjaToken::Kind;

  // REQUIRES: `tokens` ends with kEnd.
  explicit JinjaTokenStream(std::vector<JinjaToken> tokens) : tokens_(std::move(tokens)) {}

  const JinjaToken& Peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const JinjaToken& Next() { return tokens_[at_ < tokens_.size() - 1 ? at_++ : at_]; }
  bool Is(Kind kind, std::string_view text = "") const {
    return Peek().kind == kind && Peek().text == text;
  }
  bool IsOperator(std::string_view text) const { return Is(Kind::kOperator, text); }
  bool IsWord(std::string_view text) const { return Is(Kind::kName, text); }
  bool Take(Kind kind, std::string_view text) { return Is(kind, text) && (Next(), true); }
  bool TakeOperator(std::string_view text) { return Take(Kind::kOperator, text); }
  bool TakeWord(std::string_view text) { return Take(Kind::kName, text); }

  StatusOr<std::string> TakeName(const char* what) {
    if (Peek().kind != Kind::kName) return Error(fmt::format("{} is missing", what));
    return Next().text;
  }
  Status Expect(Kind kind, std::string_view text, const char* what) {
    if (Take(kind, text)) return OkStatus();
    return Error(fmt::format("'{}' where {} is expected", Peek().text, what));
  }
  Status ExpectOperator(const char* text) { return Expect(Kind::kOperator, text, text); }

  Status Error(const std::string& what) const {
    return InvalidArgument("chat template, line {}: {}", Peek().line, what);
  }
  Status NotSupported(const std::string& what) const {
    return Unsupported("chat template, line {}: uses {}, which is not supported", Peek().line,
                       what);
  }

 private:
  std::vector<JinjaToken> tokens_;
  size_t at_ = 0;
};

}  // namespace tandem::text
