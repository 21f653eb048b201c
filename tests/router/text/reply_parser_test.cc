// Replies as models of several families write them, cut in every way.
#include "router/text/reply_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "router/text/reply_syntax.h"

namespace tandem::text {
namespace {

// All that was heard, put together.
struct Heard final : ReplyHandler {
  std::string reasoning, content;
  std::vector<std::pair<std::string, std::string>> calls;
  std::string order;  // r, c, f, a: one letter for each run of a kind

  void Note(char kind) {
    if (order.empty() || order.back() != kind || kind == 'f') order += kind;
  }
  void OnReasoning(std::string_view text) override {
    EXPECT_FALSE(text.empty());
    Note('r');
    reasoning += text;
  }
  void OnContent(std::string_view text) override {
    EXPECT_FALSE(text.empty());
    Note('c');
    content += text;
  }
  void OnCall(int index, std::string_view name) override {
    EXPECT_EQ(index, static_cast<int>(calls.size()));
    Note('f');
    calls.emplace_back(name, "");
  }
  void OnArguments(int index, std::string_view json) override {
    EXPECT_FALSE(json.empty());
    ASSERT_EQ(index + 1, static_cast<int>(calls.size()));
    Note('a');
    calls.back().second += json;
  }
  bool operator==(const Heard& o) const {
    return reasoning == o.reasoning && content == o.content && calls == o.calls && order == o.order;
  }
};

std::string Shown(const Heard& heard) {
  std::string text = heard.order + " [" + heard.reasoning + "][" + heard.content + "]";
  for (const auto& [name, arguments] : heard.calls) text += name + "(" + arguments + ")";
  return text;
}

Heard Parse(const ReplyParser::Options& options, const std::vector<std::string_view>& pieces) {
  Heard heard;
  ReplyParser parser(options);
  for (const std::string_view piece : pieces) parser.Push(piece, heard);
  parser.Finish(heard);
  EXPECT_EQ(parser.num_calls(), static_cast<int>(heard.calls.size()));
  return heard;
}

// Whole; cut at every byte into two; byte by byte; and at random: always the same.
Heard ParseEveryWay(const ReplyParser::Options& options, std::string_view text) {
  const Heard whole = Parse(options, {text});
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    bytes.push_back(text.substr(i, 1));
    const Heard cut = Parse(options, {text.substr(0, i), text.substr(i)});
    EXPECT_EQ(cut, whole) << text << "\nat " << i << ": " << Shown(cut);
    // And cut off: what was heard before stays true.
    const Heard part = Parse(options, {text.substr(0, i)});
    EXPECT_TRUE(whole.reasoning.starts_with(part.reasoning) || part.calls.empty());
  }
  const Heard slow = Parse(options, bytes);
  EXPECT_EQ(slow, whole) << text << "\nbyte by byte: " << Shown(slow);
  std::mt19937 random(static_cast<unsigned>(text.size()));
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string_view> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 9;
      pieces.push_back(text.substr(at, size));
      at += std::min(size, text.size() - at);
    }
    const Heard cut = Parse(options, pieces);
    EXPECT_EQ(cut, whole) << text << "\nin pieces: " << Shown(cut);
  }
  return whole;
}

const std::vector<std::string> kNames = {"get_weather", "add"};

// By what their templates have in them.
constexpr std::string_view kHermes = "tools <tool_call> name arguments";
constexpr std::string_view kLlama = "tools <|python_tag|>";
constexpr std::string_view kMistral = "tools [TOOL_CALLS]";
constexpr std::string_view kGranite = "tools <|tool_call|>";
constexpr std::string_view kListed = "tools <tool_calls>";
constexpr std::string_view kJson = "messages";

ReplyParser::Options OptionsFor(std::string_view source) {
  const ReplySyntax syntax = ReplySyntaxOf(source);
  return {.reasoning = syntax.reasoning, .tools = syntax.tools, .names = kNames};
}

struct Case {
  std::string_view source, text, shown;
};

TEST(ReplyParser, EveryFormatInEveryCut) {
  for (
      const Case& c : std::initializer_list<Case>{
          {kHermes,
           "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n"
           "</tool_call>",
           R"(fa [][]get_weather({"city": "Paris"}))"},
          {kHermes,
           "Let me look.\n\n<tool_call>\n{\"name\":\"add\",\"arguments\":{\"a\":{\"b\":[1,\"}\"]}}}"
           "\n</tool_call>\n<tool_call>\n{\"arguments\": {\"x\": 1}, \"name\": \"other\"}\n"
           "</tool_call>\nDone. ",
           R"(cfafac [][Let me look.Done.]add({"a":{"b":[1,"}"]}})other({"x": 1}))"},
          // Keys that are not asked for; none that is; what closes too much or too little.
          {kHermes,
           "<tool_call>{\"id\": 7, \"name\": \"add\", \"arguments\": {}, \"type\": \"function\"}"
           "</tool_call>",
           "fa [][]add({})"},
          {kHermes, "<tool_call>{\"name\": \"add\"}</tool_call>", "fa [][]add({})"},
          {kHermes, "<tool_call>{\"name\": \"add\", \"arguments\": null}</tool_call>",
           "fa [][]add({})"},
          {kHermes, "<tool_call>{\"name\": \"add\", \"arguments\": {}}}</tool_call>",
           "fa [][]add({})"},
          {kHermes, "<tool_call>{\"name\": \"add\", \"arguments\": {}</tool_call> ok",
           "fac [][ok]add({})"},
          {kHermes,
           "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n"
           "{\"name\": \"add\", \"arguments\": {\"a\": 2}}</tool_call>",
           R"(fafa [][]add({"a": 1})add({"a": 2}))"},
          // Cut off by a limit.
          {kHermes, "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": \"x\\\"",
           R"(fa [][]add({"a": "x\"))"},
          // Not calls: nothing is lost.
          {kHermes, "a < b <tool_ca", "c [][a < b <tool_ca]"},
          {kHermes, "The mark \n<tool_call> comes first. \n",
           "c [][The mark \n<tool_call> comes first. \n]"},
          {kHermes, "<tool_call>{\"name\": \"add\", \"arguments\": [1]}</tool_call>",
           "c [][<tool_call>{\"name\": \"add\", \"arguments\": [1]}</tool_call>]"},
          {kHermes, "<tool_call>{\"nam", "c [][<tool_call>{\"nam]"},
          {kHermes, "<tool_call><tool_call>{\"name\":\"add\",\"arguments\":{}}</tool_call>",
           "cfa [][<tool_call>]add({})"},
          {kHermes, "{\"name\": \"add\", \"arguments\": {}}",
           "c [][{\"name\": \"add\", \"arguments\": {}}]"},
          {kHermes, "  \n", "c [][  \n]"},
          {kHermes, "", " [][]"},
          {kLlama, "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"\xc3\x9c\"}}",
           "fa [][]get_weather({\"city\": \"\xc3\x9c\"})"},
          {kLlama,
           "\n<|python_tag|>{\"type\": \"function\", \"name\": \"add\", \"parameters\": {\"a\": 1}}"
           "; {\"name\": \"get_weather\", \"parameters\": {}}",
           R"(fafa [][]add({"a": 1})get_weather({}))"},
          {kLlama, "{\"name\": \"Ann\", \"parameters\": {}}",
           "c [][{\"name\": \"Ann\", \"parameters\": {}}]"},
          {kLlama, "{\"name\": \"add\"}", "c [][{\"name\": \"add\"}]"},
          {kLlama, "<|python_tag|>print(1)", "c [][<|python_tag|>print(1)]"},
          {kLlama, "It is {\"name\": \"add\", \"parameters\": {}}",
           "c [][It is {\"name\": \"add\", \"parameters\": {}}]"},
          {kMistral,
           "[TOOL_CALLS] [{\"name\": \"add\", \"arguments\": {\"a\": 1}, \"id\": \"abc123def\"}, "
           "{\"name\": \"get_weather\", \"arguments\": {}}]",
           R"(fafa [][]add({"a": 1})get_weather({}))"},
          {kMistral, "Hm.[TOOL_CALLS]add{\"a\": 1}[TOOL_CALLS]get_weather{\"b\": []}",
           R"(cfafa [][Hm.]add({"a": 1})get_weather({"b": []}))"},
          {kMistral, "[TOOL_CALLS]add[ARGS]{\"a\": 1}[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{}",
           R"(fafa [][]add({"a": 1})add({}))"},
          {kMistral, "[TOOL_CALLS]add nothing", "c [][[TOOL_CALLS]add nothing]"},
          {kMistral, "[{\"name\": \"add\", \"arguments\": {}}]",
           "c [][[{\"name\": \"add\", \"arguments\": {}}]]"},
          {kGranite, "<|tool_call|>[{\"arguments\": {\"a\": 1}, \"name\": \"add\"}]",
           R"(fa [][]add({"a": 1}))"},
          {kListed,
           "ok <tool_calls>[\n{\"name\": \"a\", \"arguments\": {}},\n"
           "{\"name\": \"b\", \"arguments\": {}}\n]</tool_calls>",
           "cfafa [][ok]a({})b({})"},
          {kJson,
           " [{\"name\": \"add\", \"arguments\": {\"a\": 1}}, {\"name\": \"add\", "
           "\"arguments\": {\"a\": 2}}] ",
           R"(fafa [][]add({"a": 1})add({"a": 2}))"},
          {kJson, "[1, 2]", "c [][[1, 2]]"},
          {kJson, "{\"answer\": 42}", "c [][{\"answer\": 42}]"},
      }) {
    const Heard heard = ParseEveryWay(OptionsFor(c.source), c.text);
    EXPECT_EQ(Shown(heard), c.shown) << c.text;
  }
}

TEST(ReplyParser, ReasoningStandsApart) {
  const ReplyParser::Options plain = OptionsFor("</think>");
  const auto shown = [](const ReplyParser::Options& options, std::string_view text) {
    return Shown(ParseEveryWay(options, text));
  };
  EXPECT_EQ(shown(plain, "<think>\nWhy.\n</think>\n\nSo."), "rc [\nWhy.\n][\n\nSo.]");
  EXPECT_EQ(shown(plain, "\n<think>a < b </th </think>c"), "rc [a < b </th ][c]");
  EXPECT_EQ(shown(plain, "<think></think>So."), "c [][So.]");
  EXPECT_EQ(shown(plain, "So. <think>no</think>"), "c [][So. <think>no</think>]");
  EXPECT_EQ(shown(plain, "<think>cut o"), "r [cut o][]");
  EXPECT_EQ(shown(plain, "<thin"), "c [][<thin]");
  EXPECT_EQ(shown(plain, " \n"), "c [][ \n]");
  ReplyParser::Options begun = plain;
  begun.reasoning_begun = true;
  EXPECT_EQ(shown(begun, "Why.</think>So."), "rc [Why.][So.]");
  EXPECT_EQ(shown(begun, " <think>Why.</think>So."), "rc [Why.][So.]");
  EXPECT_EQ(shown(begun, " Why"), "r [ Why][]");
  ReplyParser::Options both = OptionsFor("</think> tools <tool_call> name arguments");
  EXPECT_EQ(shown(both,
                  "<think>I call <tool_call>{\"name\":\"f\"}</tool_call></think>\n\n"
                  "<tool_call>{\"name\":\"add\",\"arguments\":{}}</tool_call>"),
            "rfa [I call <tool_call>{\"name\":\"f\"}</tool_call>][]add({})");
  ReplyParser::Options bare = OptionsFor("</think> tools <|python_tag|>");
  EXPECT_EQ(shown(bare, "<think>x</think>\n{\"name\":\"add\",\"parameters\":{}}"),
            "rfa [x][]add({})");
}

TEST(ReplyParser, OneCallIsAllThereIs) {
  ReplyParser::Options options = OptionsFor(kMistral);
  options.one_call = true;
  EXPECT_EQ(Shown(ParseEveryWay(options, "[TOOL_CALLS]add{\"a\": 1}[TOOL_CALLS]add{\"a\": 2}")),
            R"(fa [][]add({"a": 1}))");
  options = OptionsFor(kMistral);
  options.bare = true;
  EXPECT_EQ(Shown(ParseEveryWay(options, "[{\"name\": \"add\", \"arguments\": {}}]")),
            "fa [][]add({})");
}

TEST(ReplyParser, WithoutToolsAllIsContent) {
  ReplyParser::Options options = OptionsFor(kHermes);
  options.tools = nullptr;
  const std::string_view text = " <tool_call>{\"name\":\"add\",\"arguments\":{}}</tool_call> ";
  EXPECT_EQ(ParseEveryWay(options, text).content, text);
}

// Bounds: a head that does not end, space that does not end, marks in marks.
TEST(ReplyParser, WhatWaitsIsBounded) {
  const ReplyParser::Options options = OptionsFor(kHermes);
  const std::string spaces(700, ' ');
  EXPECT_EQ(ParseEveryWay(options, "a" + spaces + "b").content, "a" + spaces + "b");
  EXPECT_EQ(ParseEveryWay(options, spaces + "<tool_call>{\"name\":\"add\"}").content,
            spaces.substr(256));
  // Between calls too.
  ReplyParser spaced(options);
  Heard called;
  spaced.Push("<tool_call>{\"name\":\"add\",\"arguments\":{}},", called);
  for (int i = 0; i < 50; ++i) {
    spaced.Push(spaces, called);
    EXPECT_LE(spaced.num_waiting_bytes(), ReplyParser::kMaxSpace);
  }
  const std::string call = "{\"name\":\"add\",\"arguments\":{}}";
  EXPECT_EQ(ParseEveryWay(options, "<tool_call>" + call + ", " + call).calls.size(), 2u);
  const std::string apart = "," + spaces + call;
  EXPECT_EQ(ParseEveryWay(options, "<tool_call>" + call + apart).content, apart);
  std::string marks;
  for (int i = 0; i < 2000; ++i) marks += "<tool_call>{\"a\":\"";
  Heard heard;
  ReplyParser parser(options);
  for (size_t at = 0; at < marks.size(); at += 50) {
    parser.Push(std::string_view(marks).substr(at, 50), heard);
    EXPECT_LE(at, heard.content.size() + 2 * ReplyParser::kMaxHeadBytes);
  }
  parser.Finish(heard);
  EXPECT_EQ(heard.content, marks);
  EXPECT_EQ(Parse(options, {marks}).content, marks);
}

// Any text out of pieces of formats: the cut does not matter, and without a call nothing is lost.
TEST(ReplyParser, RandomReplies) {
  constexpr std::string_view kPieces[] = {"<tool_call>",
                                          "</tool_call>",
                                          "[TOOL_CALLS]",
                                          "<|python_tag|>",
                                          "{",
                                          "}",
                                          "[",
                                          "]",
                                          "\"name\"",
                                          ":",
                                          "\"add\"",
                                          ",",
                                          ";",
                                          "\"arguments\"",
                                          "\"parameters\"",
                                          " ",
                                          "\n",
                                          "\"",
                                          "\\",
                                          "add",
                                          "[ARGS]",
                                          "<think>",
                                          "</think>",
                                          "<",
                                          "null",
                                          "{\"name\":\"add\",\"arguments\":{",
                                          "x"};
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 1500; ++round) {
    std::string text;
    for (size_t n = random() % 14; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
    const std::string_view sources[] = {
        kHermes, kLlama, kMistral, kJson, kListed, "</think> tools <tool_call> name arguments"};
    ReplyParser::Options options = OptionsFor(sources[random() % std::size(sources)]);
    options.reasoning_begun = random() % 4 == 0;
    options.bare = random() % 4 == 0;
    const Heard heard = ParseEveryWay(options, text);
    if (heard.calls.empty() && options.reasoning == nullptr) {
      EXPECT_EQ(heard.content, text);
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace tandem::text
