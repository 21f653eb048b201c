// Grammars of replies that must call tools: what they match, and that it is read as those calls.
#include "router/http/reply_grammar.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/grammar/grammar.h"
#include "router/http/prompt.h"
#include "router/text/reply_parser.h"
#include "tests/common/tokenizer/tiny_tokenizer.h"
#include "tests/worker/grammar/byte_vocabulary.h"
#include "worker/grammar/token_masks.h"

namespace tandem::http {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"add","parameters":{"type":"object",)"
    R"("properties":{"a":{"type":"integer"}},"required":["a"]}}},)"
    R"({"type":"function","function":{"name":"f","parameters":{}}}])";
constexpr std::string_view kHermes = "{% if tools %}{% endif %}{# <tool_call> name arguments #}";
constexpr std::string_view kThinks = "{# </think> #}";
constexpr std::string_view kOpens = "{% if add_generation_prompt %}<think>\n{% endif %}";

class ReplyGrammarTest : public ::testing::Test {
 protected:
  // A request with these fields, for a model with this template; `control`: one more control token.
  void Prepare(std::string_view fields, std::string_view source, std::string_view control = {}) {
    text::TinyTokenizer tiny;
    if (!control.empty()) tiny.AddToken(std::string(control), 3);
    tokenizer_ = tiny.Build();
    auto chat = text::ChatTemplate::Parse(source, "", "");
    ASSERT_TRUE(chat.ok()) << chat.status();
    chat_ = std::make_unique<text::ChatTemplate>(*std::move(chat));
    const std::string body =
        fmt::format(R"({{"model":"m","messages":[{{"role":"user","content":"x"}}],{}}})", fields);
    const auto error = ParseRequest(Endpoint::kChat, body, api_);
    ASSERT_FALSE(error) << error->message;
    prompt_ = PreparePrompt(api_, 0, {"m", "fp", tokenizer_.get(), chat_.get()}, 0);
    masks_.reset();
    if (prompt_.error || prompt_.grammar.kind == grammar::GrammarSpec::Kind::kNone) return;
    auto automaton = grammar::CompileGrammar(prompt_.grammar);
    ASSERT_TRUE(automaton.ok()) << automaton.status() << "\n" << prompt_.grammar.text;
    std::vector<std::string> bytes;
    for (int i = 0; i < 256; ++i) bytes.emplace_back(1, static_cast<char>(i));
    masks_ = std::make_unique<grammar::TokenMasks>(grammar::MakeVocabulary(std::move(bytes)),
                                                   *std::move(automaton));
  }

  bool Matches(std::string_view text) {
    grammar::StateId state = masks_->Start();
    for (const char c : text) {
      state = masks_->Advance(state, static_cast<uint8_t>(c));
      if (state == grammar::TokenMasks::kDead) return false;
    }
    return masks_->CanEnd(state);
  }

  // What the parser makes of it: reasoning|content|calls.
  std::string Read(std::string_view text) const {
    struct : text::ReplyHandler {
      std::string reasoning, content, calls;
      void OnReasoning(std::string_view text) override { reasoning += text; }
      void OnContent(std::string_view text) override { content += text; }
      void OnCall(int, std::string_view name) override { calls += name; }
      void OnArguments(int, std::string_view json) override { calls += json; }
    } heard;
    text::ReplyParser parser(*prompt_.reply_syntax);
    parser.Push(text, heard);
    parser.Finish(heard);
    return fmt::format("{}|{}|{}", heard.reasoning, heard.content, heard.calls);
  }
  void Expect(std::string_view text, std::string_view read) {
    EXPECT_TRUE(Matches(text)) << text << "\n" << prompt_.grammar.text;
    EXPECT_EQ(Read(text), read);
  }
  void Refuse(std::string_view text) {
    EXPECT_FALSE(Matches(text)) << text << "\n" << prompt_.grammar.text;
  }

  static std::string Choose(std::string_view choice, std::string_view more = {}) {
    return fmt::format(R"({},"tool_choice":{}{})", kTools, choice, more);
  }
  static std::string One(std::string_view text) {
    return fmt::format("<tool_call>\n{}\n</tool_call>", text);
  }

  std::unique_ptr<const text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatTemplate> chat_;
  ApiRequest api_;
  PreparedPrompt prompt_;
  std::unique_ptr<grammar::TokenMasks> masks_;
};

constexpr std::string_view kStrict =
    R"("tools":[{"type":"function","function":{"name":"add","strict":true,"parameters":{)"
    R"("properties":{"a":{"type":"integer"}},"required":["a"]}}},)"
    R"({"type":"function","function":{"name":"f","parameters":{}}}])";

constexpr std::string_view kAdd = R"({"name": "add", "arguments": {"a":1}})";
constexpr std::string_view kF = R"({"name": "f", "arguments": {"x": [1, "}"]}})";

TEST_F(ReplyGrammarTest, CallsAreRequired) {
  Prepare(Choose(R"("required")"), kHermes);
  Expect(One(kAdd), R"(||add{"a":1})");
  Expect(One(kAdd) + "\n" + One(kF), R"(||add{"a":1}f{"x": [1, "}"]})");
  Refuse("");
  Refuse("Hello");
  Refuse(kAdd);
  Refuse(One(R"({"name": "add", "arguments": {}})"));
  Refuse(One(R"({"name": "other", "arguments": {}})"));
  Refuse(One(R"({"name": "f", "arguments": []})"));
  Refuse(One(kAdd) + " and");
  Prepare(Choose(R"("required")", R"(,"parallel_tool_calls":false)"), kHermes);
  EXPECT_TRUE(Matches(One(kAdd)));
  Refuse(One(kAdd) + "\n" + One(kF));
}

TEST_F(ReplyGrammarTest, OneFunctionIsRequired) {
  Prepare(Choose(R"({"type":"function","function":{"name":"f"}})"), kHermes);
  Expect(One(kF), R"(||f{"x": [1, "}"]})");
  Refuse(One(kAdd));
  Refuse(One(kF) + "\n" + One(kF));
}

TEST_F(ReplyGrammarTest, AFunctionWithoutParametersIsGivenNone) {
  Prepare(R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required")",
          kHermes);
  Expect(One(R"({"name": "f", "arguments": {}})"), "||f{}");
  Refuse(One(kF));
}

TEST_F(ReplyGrammarTest, EveryFormatHasItsOwn) {
  constexpr std::string_view kParameters = R"({"name": "add", "parameters": {"a": 1}})";
  Prepare(Choose(R"("required")"), "{% if tools %}{% endif %}{# <|python_tag|> #}");
  Expect(fmt::format("{0}; {0}", kParameters), R"(||add{"a": 1}add{"a": 1})");
  Prepare(Choose(R"("required")"), "{{ messages }}");
  Expect(fmt::format("[{}, {}]", kAdd, kF), R"(||add{"a":1}f{"x": [1, "}"]})");
  Refuse(kAdd);
  Prepare(Choose(R"("required")"), "{% if tools %}{% endif %}{# [TOOL_CALLS] #}");
  Expect(fmt::format("[TOOL_CALLS][{}]", kAdd), R"(||add{"a":1})");
  // A mark that is a control token cannot be written; XML is not read.
  for (const std::string_view mark : {"[TOOL_CALLS]", "<function="}) {
    Prepare(Choose(R"("required")"), fmt::format("{{% if tools %}}{{% endif %}}{{# {} #}}", mark),
            mark);
    Expect(fmt::format("[{}]", kAdd), R"(||add{"a":1})");
    Refuse(fmt::format("[TOOL_CALLS][{}]", kAdd));
  }
}

TEST_F(ReplyGrammarTest, TheModelMayThinkFirst) {
  Prepare(Choose(R"("required")"), fmt::format("{}{}", kHermes, kThinks));
  Expect(One(kAdd), R"(||add{"a":1})");
  for (const std::string_view thought :
       {"", "Hm.\n", "a < b", "<", "</", "<<", "</</think", "</th<ink>"}) {
    Expect(fmt::format("<think>{}</think>\n\n{}", thought, One(kAdd)),
           fmt::format(R"({}||add{{"a":1}})", thought));
  }
  Refuse("<think>Hm.</think>");
  Refuse("\n" + One(kAdd));
  Refuse("Hm.</think>" + One(kAdd));
  Refuse("<think>a</think>b</think>" + One(kAdd));
  Prepare(Choose(R"("required")"), fmt::format("{}{}{}", kHermes, kThinks, kOpens));
  Expect("Hm.</think>" + One(kAdd), R"(Hm.||add{"a":1})");
  Refuse(One(kAdd));
  // It cannot where the marks are control tokens.
  Prepare(Choose(R"("required")"), fmt::format("{}{}{}", kHermes, kThinks, kOpens), "</think>");
  Expect(One(kAdd), R"(||add{"a":1})");
  Refuse("Hm.</think>" + One(kAdd));
}

// With a vocabulary of the usual size, of which most tokens may follow anywhere in a thought.
TEST_F(ReplyGrammarTest, ThoughtsMayHaveMarksOfOtherThings) {
  const std::vector<std::string> bytes = grammar::ManyTokens();
  std::mt19937 random(1);
  const auto vocabulary = grammar::MakeVocabulary(bytes);
  const std::string thinks = fmt::format("{}{}{}", kHermes, kThinks, kOpens);
  for (const auto& [fields, source] : {
           std::pair{Choose(R"("required")"), thinks},
           {std::string(R"("response_format":{"type":"json_object"})"), thinks},
           {std::string(kStrict), std::string(kHermes)},
       }) {
    Prepare(fields, source);
    auto automaton = grammar::CompileGrammar(prompt_.grammar);
    ASSERT_TRUE(automaton.ok()) << automaton.status();
    grammar::TokenMasks masks(vocabulary, *std::move(automaton));
    std::vector<uint32_t> mask((bytes.size() + 31) / 32);
    grammar::StateId state = masks.Start();
    for (const char c : std::string_view("a <div>b</div> <th <tool </thin </tool_ <<t")) {
      state = masks.Advance(state, static_cast<uint8_t>(c));
      ASSERT_NE(state, grammar::TokenMasks::kDead) << c;
      ASSERT_EQ(masks.Fill(state, mask), grammar::TokenMasks::Filled::kTokens) << c;
      for (size_t i = 0; i < 500; ++i) {
        const size_t token = i < 256 ? i : random() % bytes.size();
        grammar::StateId end = state;
        for (const char b : bytes[token]) {
          if (end != grammar::TokenMasks::kDead) end = masks.Advance(end, static_cast<uint8_t>(b));
        }
        EXPECT_EQ((mask[token / 32] >> (token % 32) & 1) != 0, end != grammar::TokenMasks::kDead)
            << bytes[token] << " after " << c;
      }
    }
  }
}

TEST_F(ReplyGrammarTest, OtherFormsComeBehindTheThought) {
  constexpr std::string_view kChoice = R"("guided_choice":["yes","no"])";
  Prepare(kChoice, kThinks);
  Expect("<think>Hm.</think>yes", "Hm.|yes|");
  Refuse("<think>Hm.</think>\nyes");
  Expect("no", "|no|");
  Refuse("<think>Hm.</think>maybe");
  Prepare(R"("response_format":{"type":"json_object"})", fmt::format("{}{}", kThinks, kOpens));
  Expect(R"(Hm.</think>{"a":1})", R"(Hm.|{"a":1}|)");
  Refuse(R"({"a":1})");
  Prepare(kChoice, fmt::format("{}{}", kThinks, kOpens), "<think>");
  Expect("yes", "|yes|");
  Prepare(kChoice, "{{ messages }}");
  EXPECT_TRUE(Matches("yes"));
  EXPECT_FALSE(prompt_.reply_syntax);
}

TEST_F(ReplyGrammarTest, WhatIsCalledFollowsStrictSchemas) {
  Prepare(kStrict, kHermes);
  for (const std::string_view text :
       {"", "Hello.", "a < b <tool_", "<", "<<tool_cal", "{}", " \n"}) {
    Expect(text, fmt::format("|{}|", text));
  }
  Expect(One(kAdd), R"(||add{"a":1})");
  Expect(fmt::format("Wait: <<tool_call> {}</tool_call>{} Done <", kAdd, One(kF)),
         R"(|Wait: <Done <|add{"a":1}f{"x": [1, "}"]})");
  Refuse(One(R"({"name": "add", "arguments": {}})"));
  Refuse(One(R"({"name": "g", "arguments": {}})"));
  Refuse("<tool_call>");
  Refuse("I <tool_call> nothing");
  Prepare(fmt::format(R"({},"parallel_tool_calls":false)", kStrict), kHermes);
  EXPECT_TRUE(Matches("Well. " + One(kAdd)));
  Refuse(One(kAdd) + One(kAdd));
  Prepare(kStrict, "{{ messages }}");
  Expect(fmt::format("[{}]", kAdd), R"(||add{"a":1})");
  Expect(" Hello [1]", "| Hello [1]|");
  Expect("", "||");
  Refuse(R"([{"name": "add", "arguments": {}}])");
  Refuse(R"({"name": "add", "arguments": {}})");
  Prepare(kStrict, fmt::format("{}{}", kHermes, kThinks));
  Expect("<think>Hm.</think>So.", "Hm.|So.|");
  Expect("<think>Hm.</think>\n\n" + One(kAdd), R"(Hm.||add{"a":1})");
  Prepare(fmt::format(R"({},"tool_choice":"none")", kStrict), kHermes);
  EXPECT_EQ(prompt_.grammar.kind, grammar::GrammarSpec::Kind::kNone);
}

TEST_F(ReplyGrammarTest, AFormOrACall) {
  constexpr std::string_view kForm =
      R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":)"
      R"({"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"]}}})";
  Prepare(fmt::format("{},{}", kTools, kForm), fmt::format("{}{}", kHermes, kThinks));
  Expect(R"({"a":true})", R"(|{"a":true}|)");
  Expect(R"(<think>Hm.</think>{"a":true})", R"(Hm.|{"a":true}|)");
  Expect(One(R"({"name": "add", "arguments": {"b":1}})"), R"(||add{"b":1})");
  Refuse("Hello");
  Refuse(R"({"a":1})");
  Prepare(fmt::format(R"({},{},"tool_choice":"none")", kTools, kForm), kHermes);
  Refuse(One(kAdd));
  EXPECT_TRUE(Matches(R"({"a":true})"));
  Prepare(fmt::format(R"({},"guided_choice":["a"])", kTools), kHermes);
  ASSERT_TRUE(prompt_.error);
  EXPECT_EQ(prompt_.error->param, "guided_choice");
}

TEST_F(ReplyGrammarTest, WhatIsWrongIsNamed) {
  Prepare(R"("tools":[{"type":"function","function":{"name":"f","parameters":)"
          R"({"properties":{"a":{"multipleOf":2}}}}}],"tool_choice":"required")",
          kHermes);
  ASSERT_TRUE(prompt_.error);
  EXPECT_EQ(prompt_.error->param, "tools[0].function.parameters");
  EXPECT_THAT(prompt_.error->message, HasSubstr("#/properties/a: keyword 'multipleOf'"));
  for (const auto& [fields, param] : {
           std::pair{Choose(R"({"type":"function","function":{"name":"g"}})"), "tool_choice"},
           {Choose(R"("required")", R"(,"guided_choice":["a"])"), "tool_choice"},
       }) {
    ApiRequest r;
    const auto error = ParseRequest(
        Endpoint::kChat,
        fmt::format(R"({{"model":"m","messages":[{{"role":"user","content":"x"}}],{}}})", fields),
        r);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->param, param);
  }
  ApiRequest r;
  EXPECT_FALSE(ParseRequest(
      Endpoint::kChat,
      R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",)"
      R"("function":{"name":"f","strict":true}}],"tool_choice":"required"})",
      r));
}

}  // namespace
}  // namespace tandem::http
