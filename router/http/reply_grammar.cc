#include "router/http/reply_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/grammar/grammar.h"
#include "router/http/json_fields.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

using grammar::GrammarSpec;
using Kind = GrammarSpec::Kind;
using Layout = text::ToolFormat::Layout;

// Whether the text can be written without control tokens.
bool IsPlain(const text::Tokenizer& tokenizer, std::string_view mark) {
  const std::vector<TokenId> ids = tokenizer.Encode(mark);
  return std::none_of(ids.begin(), ids.end(), [&](TokenId id) { return tokenizer.IsControl(id); });
}

constexpr std::string_view kAnyObject = R"({"type":"object"})";

// A literal. Marks and names are ASCII.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

// A character in a class.
std::string InClass(char c) {
  const bool is_letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
  return is_letter ? std::string(1, c) : fmt::format("\\{}", c);
}

// Expressions of text around a mark: any up to and with the first, and any without one. Neither
// names a rule: tokens that go on behind a rule are tried one by one, and within such text every
// token would. REQUIRES: the mark's first character is nowhere else in it, so that only it can
// begin the mark anew.
struct TextAround {
  std::string up_to, without;
};

TextAround Around(std::string_view mark) {
  // Behind the first character: some of the mark, and what does not go on with it or begin it anew.
  std::string some, others;
  for (size_t at = mark.size() - 1; at > 0; --at) {
    const std::string next = Quoted(mark.substr(at, 1));
    const std::string other = fmt::format("[^{}{}]", InClass(mark[0]), InClass(mark[at]));
    const bool is_last = at + 1 == mark.size();
    some = is_last ? std::string() : fmt::format("({} {})?", next, some);
    others = is_last ? other : fmt::format("({} | {} {})", other, next, others);
  }
  const std::string anew = fmt::format("{0} ({1} {0})*", Quoted(mark.substr(0, 1)), some);
  const std::string off = fmt::format("([^{}] | {} {})*", InClass(mark[0]), anew, others);
  return {fmt::format("{} {} {}", off, anew, Quoted(mark.substr(1))),
          fmt::format("{} ({} {})?", off, anew, some)};
}

bool IsCalled(const ApiRequest& api, size_t tool) {
  return api.tool_choice != ToolChoice::kNamed || api.tool_names[tool] == api.called_tool;
}

// Whether the arguments of that tool follow its schema.
bool IsEnforced(const ApiRequest& api, size_t tool) {
  return api.must_call() ? IsCalled(api, tool) : api.tools[tool].strict;
}

// The rule `call`, of one object.
void AppendCall(std::string& out, const ApiRequest& api, std::string_view key) {
  std::string calls;
  for (size_t i = 0; i < api.tools.size(); ++i) {
    if (!IsCalled(api, i)) continue;
    fmt::format_to(std::back_inserter(calls), "{}call-{}", calls.empty() ? "" : " | ", i);
    const std::string head =
        Quoted(fmt::format(R"({{"name": "{}", "{}": )", api.tool_names[i], key));
    fmt::format_to(std::back_inserter(out), "call-{} ::= {} %json {} \"}}\"\n", i, head,
                   IsEnforced(api, i) ? api.tools[i].parameters : kAnyObject);
  }
  fmt::format_to(std::back_inserter(out), "call ::= {}\n", calls);
}

// `first`, and `next` any number of times if there may be several.
std::string Several(std::string first, std::string_view next, bool one) {
  if (!one) first += fmt::format(" ({})*", next);
  return first;
}

std::string ListOfCalls(bool one) {
  return fmt::format(R"("[" {} "]")", Several("call", R"(", " call)", one));
}

// The rule `calls`: nothing but calls.
void AppendCalls(std::string& out, const text::ToolFormat& format, bool marked, bool one) {
  std::string body;
  if (format.layout == Layout::kJoined) {
    body = Several("call", R"("; " call)", one);
  } else if (format.layout == Layout::kEach && marked) {
    const auto each = [&](std::string_view before) {
      return fmt::format("{} call {}", Quoted(fmt::format("{}{}\n", before, format.begin)),
                         Quoted(fmt::format("\n{}", format.end)));
    };
    body = Several(each(""), each("\n"), one);
  } else if (marked) {
    body = fmt::format("{} {} {}", Quoted(format.begin), ListOfCalls(one), Quoted(format.end));
  } else {
    body = ListOfCalls(one);
  }
  fmt::format_to(std::back_inserter(out), "calls ::= {}\n", body);
}

// The rule `reply`: text in which what stands where calls do is one.
void AppendTextAndCalls(std::string& out, const text::ToolFormat& format, bool marked, bool one) {
  if (!marked) {
    AppendCalls(out, format, marked, one);
    out += R"(reply ::= calls | [ \n\r\t]* ([^ \n\r\t\[\{] .*)?)"
           "\n";
    return;
  }
  const TextAround text = Around(format.begin);
  fmt::format_to(std::back_inserter(out),
                 R"(reply ::= ({} [ \n]{{0,2}} {} [ \n]{{0,2}} {}){} {})"
                 "\n",
                 text.up_to, format.layout == Layout::kEach ? "call" : ListOfCalls(one),
                 Quoted(format.end), one ? "?" : "*", text.without);
}

std::optional<ApiError> Refused(const Status& status, std::string param) {
  if (status.ok()) return std::nullopt;
  return InvalidRequest(std::move(param), std::string(Message(status)), "invalid_value");
}

std::optional<ApiError> CheckSchemas(const ApiRequest& api) {
  for (size_t i = 0; i < api.tools.size(); ++i) {
    if (!IsEnforced(api, i)) continue;
    const Status status = grammar::CheckGrammar({Kind::kJsonSchema, api.tools[i].parameters});
    const bool flat = api.endpoint == Endpoint::kResponses;
    std::string param = fmt::format("tools[{}]{}.parameters", i, flat ? "" : ".function");
    if (auto error = Refused(status, std::move(param))) return error;
  }
  return std::nullopt;
}

// The rule `root`: a thought with its marks, `space` and `then`.
std::string WithThought(const text::ReplyParser::Options& syntax, std::string_view space,
                        std::string_view then) {
  const std::string thought = Around(syntax.reasoning->end).up_to;
  if (syntax.reasoning_begun) return fmt::format("root ::= {} {} {}\n", thought, space, then);
  return fmt::format("root ::= ({} {} {})? {}\n", Quoted(syntax.reasoning->begin), thought, space,
                     then);
}

// The form as a rule of EBNF; empty: it is no JSON.
std::string FormRule(const GrammarSpec& form) {
  if (form.kind == Kind::kJsonObject) return fmt::format("form ::= %json {}\n", kAnyObject);
  if (form.kind == Kind::kJsonSchema) return fmt::format("form ::= %json {}\n", form.text);
  return {};
}

// Of a reply that calls, or that may and then has to do it right.
GrammarSpec ToolsGrammar(const ApiRequest& api, const text::Tokenizer& tokenizer,
                         text::ReplyParser::Options& syntax) {
  const text::ToolFormat& format = *syntax.tools;
  const bool marked = !format.begin.empty() && IsPlain(tokenizer, format.begin) &&
                      IsPlain(tokenizer, format.end) && format.layout != Layout::kJoined;
  syntax.bare = !marked;
  syntax.one_call = syntax.one_call || api.tool_choice == ToolChoice::kNamed;
  const std::string form = FormRule(api.grammar);
  const char* reply = api.must_call() ? "calls" : form.empty() ? "reply" : "(calls | form)";
  std::string text = syntax.reasoning == nullptr
                         ? fmt::format("root ::= {}\n", reply)
                         // Models go on with an empty line; where a form is asked for it would be
                         // part of that.
                         : WithThought(syntax, form.empty() ? R"("\n"{0,2})" : "", reply);
  if (api.must_call() || !form.empty()) {
    AppendCalls(text, format, marked, syntax.one_call);
  } else {
    AppendTextAndCalls(text, format, marked, syntax.one_call);
  }
  AppendCall(text, api, format.arguments);
  return {Kind::kEbnf, text + form};
}

GrammarSpec BehindThought(const GrammarSpec& grammar, const text::ReplyParser::Options& syntax) {
  GrammarSpec both = {Kind::kSequence,
                      fmt::format(R"([{{"kind":{},"text":)", static_cast<int>(Kind::kEbnf))};
  AppendJsonString(both.text, WithThought(syntax, "", ""));
  fmt::format_to(std::back_inserter(both.text), R"(}},{{"kind":{},"text":)",
                 static_cast<int>(grammar.kind));
  AppendJsonString(both.text, grammar.text);
  both.text += "}]";
  return both;
}

}  // namespace

std::optional<ApiError> MakeReplyGrammar(const ApiRequest& api, const text::Tokenizer& tokenizer,
                                         bool check,
                                         std::optional<text::ReplyParser::Options>& syntax,
                                         GrammarSpec& grammar) {
  const bool has_form = api.grammar.kind != Kind::kNone;
  const bool calls =
      syntax && syntax->tools != nullptr && (has_form || api.must_call() || api.has_strict_tools());
  if (!has_form && !calls) return std::nullopt;
  if (calls && has_form && FormRule(api.grammar).empty()) {
    return NotSupported(api.grammar_param,
                        "beside tools that may be called a form is JSON; send 'tool_choice': "
                        "'none'");
  }
  if (check) {
    if (has_form) {
      const Status status = grammar::CheckGrammar(api.grammar);
      if (auto error = Refused(status, api.grammar_param)) return error;
    }
    if (calls) {
      if (auto error = CheckSchemas(api)) return error;
    }
  }
  const text::ReasoningMarks* const marks = syntax ? syntax->reasoning : nullptr;
  const bool thinks =
      marks != nullptr && IsPlain(tokenizer, marks->begin) && IsPlain(tokenizer, marks->end);
  if (syntax && !thinks) syntax->reasoning = nullptr;
  if (calls) {
    grammar = ToolsGrammar(api, tokenizer, *syntax);
  } else {
    grammar = thinks ? BehindThought(api.grammar, *syntax) : api.grammar;
  }
  return std::nullopt;
}

}  // namespace tandem::http
