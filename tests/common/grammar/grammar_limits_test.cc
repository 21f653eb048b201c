// Texts made to cost much: each is taken or refused, in a time that is about linear in its size,
// and none nests the stack. A quadratic one would run into the test's time limit.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <functional>
#include <string>

#include "common/grammar/grammar.h"

namespace tandem::grammar {
namespace {

using Kind = GrammarSpec::Kind;

constexpr size_t kMaxBytes = 1 << 20;

// `piece` of 0, 1, 2, ... with `comma` between, as many as `room` has.
std::string Many(const std::function<std::string(int)>& piece, std::string_view comma = ",",
                 size_t room = kMaxBytes - 1000) {
  std::string out;
  for (int i = 0;; ++i) {
    const std::string next = piece(i);
    if (out.size() + next.size() + comma.size() > room) return out;
    if (i > 0) out += comma;
    out += next;
  }
}

std::string Repeated(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

// "": it was compiled.
std::string ErrorOf(Kind kind, const std::string& text) {
  const GrammarSpec spec = {kind, text};
  const Status checked = CheckGrammar(spec);
  if (!checked.ok()) return std::string(Message(checked));
  return std::string(Message(CompileGrammar(spec).status()));
}

TEST(GrammarLimits, ChainsDoNotNestTheStack) {
  const auto chain = [](int links) {
    std::string defs;
    for (int i = 0; i < links; ++i) {
      defs += fmt::format(R"("{}":{{"$ref":"#/$defs/{}"}},)", i, i + 1);
    }
    return fmt::format(R"({{"$ref":"#/$defs/0","$defs":{{{}"{}":{{"type":"null"}}}}}})", defs,
                       links);
  };
  EXPECT_EQ(ErrorOf(Kind::kJsonSchema, chain(9000)), "");
  EXPECT_EQ(ErrorOf(Kind::kJsonSchema, chain(25000)), "the schema is too large");

  const std::string rules = Many([](int i) { return fmt::format("r{} ::= r{}", i, i + 1); }, "\n");
  const size_t last = rules.rfind(' ');
  EXPECT_EQ(ErrorOf(Kind::kEbnf, "root ::= r0\n" + rules.substr(0, last) + " \"x\""), "");

  const auto named = [](size_t size) {
    return fmt::format(
        R"({{"type":"object","required":["{}"],"additionalProperties":{{"type":"null"}}}})",
        std::string(size, 'a'));
  };
  EXPECT_EQ(ErrorOf(Kind::kJsonSchema, named(5000)), "");
  EXPECT_NE(ErrorOf(Kind::kJsonSchema, named(30000)).find("too large"), std::string::npos);
  EXPECT_NE(ErrorOf(Kind::kJsonSchema, named(1000000)).find("too large"), std::string::npos);
  EXPECT_NE(ErrorOf(Kind::kRegex, Repeated("(", 100000)).find("too deeply"), std::string::npos);
  EXPECT_NE(ErrorOf(Kind::kEbnf, "root ::= " + Repeated("(", 100000)).find("too deeply"),
            std::string::npos);
  EXPECT_NE(ErrorOf(Kind::kJsonSchema, Repeated(R"({"items":)", 100000)).find("not JSON"),
            std::string::npos);
}

TEST(GrammarLimits, ManyProperties) {
  for (const bool all : {false, true}) {
    std::string properties, required;
    for (int i = 0; i < 6000; ++i) {
      properties += fmt::format(R"({}"p{}":{{"type":"null"}})", i == 0 ? "" : ",", i);
      required += fmt::format(R"({}"p{}")", i == 0 ? "" : ",", i);
    }
    EXPECT_EQ(ErrorOf(Kind::kJsonSchema, fmt::format(R"({{"properties":{{{}}},"required":[{}]}})",
                                                     properties, all ? required : "")),
              "");
  }
}

// What a schema says once is laid out once: these would be 2^40 states.
TEST(GrammarLimits, NestingDoesNotMultiply) {
  EXPECT_EQ(ErrorOf(Kind::kJsonSchema, Repeated(R"({"properties":{"x":{"type":"null"},"a":)", 40) +
                                           "true" + Repeated("}}", 40)),
            "");
  EXPECT_EQ(ErrorOf(Kind::kJsonSchema,
                    Repeated(R"({"type":"array","items":)", 90) + "true" + Repeated("}", 90)),
            "");
}

TEST(GrammarLimits, LongStrings) {
  EXPECT_EQ(ErrorOf(Kind::kJsonSchema, R"({"type":"string","maxLength":7000})"), "");
  EXPECT_NE(ErrorOf(Kind::kJsonSchema, R"({"type":"string","maxLength":9000})").find("too large"),
            std::string::npos);
}

TEST(GrammarLimits, IntegerBounds) {
  const auto property = [](int i) {
    return fmt::format(
        R"("p{}":{{"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991}})", i);
  };
  EXPECT_EQ(ErrorOf(Kind::kJsonSchema,
                    fmt::format(R"({{"properties":{{{}}}}})", Many(property, ",", 100000))),
            "");
}

TEST(GrammarLimits, LargestTexts) {
  const auto constants = Many([](int i) { return fmt::format(R"({{"const":{}}})", i); });
  const auto tagged = Many([](int i) {
    return fmt::format(R"({{"properties":{{"a":{{"const":{}}}}},"required":["a"]}})", i);
  });
  const auto names = Many([](int i) { return fmt::format("\"{}\"", i); });
  const auto optional = Many([](int i) { return fmt::format("\"{}\":{{}}", i); });
  const std::string half(kMaxBytes / 2, 'n');
  const std::pair<Kind, std::string> cases[] = {
      {Kind::kJsonSchema, fmt::format(R"({{"oneOf":[{}]}})", constants)},
      {Kind::kJsonSchema, fmt::format(R"({{"oneOf":[{}]}})", tagged)},
      {Kind::kJsonSchema,
       fmt::format(R"({{"oneOf":[{}]}})", Repeated(R"({"type":"null"},)", 30000) + "true")},
      {Kind::kJsonSchema, fmt::format(R"({{"required":[{}]}})", names)},
      {Kind::kJsonSchema, fmt::format(R"({{"enum":[{}]}})", names)},
      {Kind::kJsonSchema, fmt::format(R"({{"properties":{{{}}}}})", optional)},
      {Kind::kJsonSchema, fmt::format(R"({{"properties":{{{}}},"required":[{}]}})",
                                      optional.substr(0, 400000) + ":{}", "\"1\"")},
      // Paths that are long, many times.
      {Kind::kJsonSchema,
       fmt::format(R"({{"properties":{{"{}":{{"properties":{{{}}}}}}}}})", half,
                   Many([](int i) { return fmt::format("\"{}\":{{}}", i); }, ",", 400000))},
      // What is large, referred to many times.
      {Kind::kJsonSchema,
       fmt::format(
           R"({{"$defs":{{"a":{{"properties":{{"x":{{"const":"{}"}}}}}}}},"properties":{{{}}}}})",
           half,
           Many(
               [](int i) {
                 return fmt::format(
                     R"("{}":{{"allOf":[{{"$ref":"#/$defs/a"}},{{"type":"object"}}]}})", i);
               },
               ",", 400000))},
      {Kind::kJsonSchema, fmt::format(R"({{"pattern":"{}"}})", Repeated("\\\\W", kMaxBytes / 4))},
      {Kind::kRegex, Repeated("\\W", kMaxBytes / 2)},
      {Kind::kRegex, Repeated("a|", kMaxBytes / 2)},
      {Kind::kRegex, Many([](int i) { return fmt::format("[^a-z\\u{{{:x}}}]", 256 + i); }, "")},
      {Kind::kChoice, fmt::format("[{}]", names)},
      {Kind::kEbnf,
       "root ::= a0\n" + Many([](int i) { return fmt::format("a{} ::= \"x\" a{}?", i, i); }, "\n")},
      {Kind::kEbnf, "root ::= " + Many([](int i) { return fmt::format("a{}", i); }, "\n")},
      {Kind::kEbnf, "root ::= " + Repeated("[^a]|", kMaxBytes / 5 - 10) + "\"\""},
      {Kind::kEbnf, "root ::= \"" + Repeated("x", kMaxBytes - 100) + "\""},
  };
  for (const auto& [kind, text] : cases) {
    ASSERT_LE(text.size(), kMaxBytes);
    const std::string error = ErrorOf(kind, text);
    EXPECT_LT(error.size(), 300u) << text.substr(0, 60);
  }
  EXPECT_NE(ErrorOf(Kind::kRegex, std::string(kMaxBytes + 1, 'a')).find("are allowed"),
            std::string::npos);
}

}  // namespace
}  // namespace tandem::grammar
