// What bodies of requests may say, from the parser's own table and beyond it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <boost/json.hpp>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "router/http/openai_request.h"
#include "router/http/openapi.h"
#include "router/http/request_fields.h"

namespace tandem::http {
namespace {

using ::testing::HasSubstr;

TEST(OpenAiRequest, ReadsEveryField) {
  ApiRequest r;
  const auto error = ParseRequest(Endpoint::kChat, R"({"model":"m","messages":[
      {"role":"system","content":"s"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"assistant","content":"\u00e9"}],
      "stream":true,"stream_options":{"include_usage":true},"stop":["x","y"],"seed":-1,
      "temperature":0.5,"top_p":0.25,"top_k":40,"min_p":0.1,"max_completion_tokens":9,"user":"u",
      "presence_penalty":-2,"frequency_penalty":0.5,"repetition_penalty":1.25})",
                                  r);
  ASSERT_FALSE(error) << error->message;
  ASSERT_EQ(r.messages.size(), 3u);
  EXPECT_EQ(r.messages[1].content, "a\nb");
  EXPECT_EQ(r.messages[2].content, "\xc3\xa9");
  EXPECT_TRUE(r.stream && r.include_usage);
  EXPECT_EQ(r.stop, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(r.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_FLOAT_EQ(*r.temperature, 0.5);
  EXPECT_FLOAT_EQ(*r.top_p, 0.25);
  EXPECT_EQ(r.top_k, 40);
  EXPECT_FLOAT_EQ(*r.min_p, 0.1f);
  EXPECT_EQ(r.max_tokens, 9);
  EXPECT_FLOAT_EQ(*r.presence_penalty, -2);
  EXPECT_FLOAT_EQ(*r.frequency_penalty, 0.5);
  EXPECT_FLOAT_EQ(*r.repetition_penalty, 1.25);
}

TEST(OpenAiRequest, TopKMayBeOff) {
  for (const auto& [value, top_k] : {std::pair{"-1", -1}, {"0", 0}, {"null", kAbsentTopK}}) {
    ApiRequest r;
    const std::string body = R"({"model":"m","prompt":"x","top_k":)" + std::string(value) + "}";
    EXPECT_FALSE(ParseRequest(Endpoint::kCompletions, body, r)) << value;
    EXPECT_EQ(r.top_k, top_k);
  }
  ApiRequest r;
  const auto error =
      ParseRequest(Endpoint::kCompletions, R"({"model":"m","prompt":"x","top_k":-2})", r);
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message, HasSubstr("from -1 to"));
}

TEST(OpenAiRequest, PenaltiesHaveOpenAisRangesAndDefaults) {
  const auto parse = [](const std::string& field, ApiRequest& r) {
    return ParseRequest(Endpoint::kCompletions, R"({"model":"m","prompt":"x")" + field + "}", r);
  };
  ApiRequest r;
  ASSERT_FALSE(
      parse(R"(,"presence_penalty":null,"frequency_penalty":null,"repetition_penalty":null)", r));
  EXPECT_FALSE(r.presence_penalty.has_value());
  EXPECT_FALSE(r.frequency_penalty.has_value());
  EXPECT_FALSE(r.repetition_penalty.has_value());
  ASSERT_FALSE(parse(R"(,"presence_penalty":2,"frequency_penalty":-2,"repetition_penalty":1)", r));
  for (const auto& [name, value, in_message] :
       {std::array{"presence_penalty", "2.01", "expected a number from -2 to 2"},
        std::array{"frequency_penalty", "-3", "expected a number from -2 to 2"},
        std::array{"repetition_penalty", "0", "expected a number from 0.01 to 100"},
        std::array{"repetition_penalty", "-1", "expected a number from 0.01 to 100"},
        std::array{"presence_penalty", "\"1\"", "expected a number, but got a string"}}) {
    const auto error = parse(std::string(",\"") + name + "\":" + value, r);
    ASSERT_TRUE(error) << name << " " << value;
    EXPECT_EQ(error->status, 400);
    EXPECT_EQ(error->param, name);
    EXPECT_THAT(error->message, HasSubstr(in_message));
  }
}

constexpr std::array kEndpoints = {Endpoint::kChat, Endpoint::kCompletions, Endpoint::kTokenize,
                                   Endpoint::kDetokenize, Endpoint::kResponses};

// A body that is right but for `name`, which it may need.
std::string BodyWith(Endpoint endpoint, std::string_view name, std::string_view value) {
  static const std::map<Endpoint, std::pair<std::string, std::string>> kInputs = {
      {Endpoint::kChat, {"messages", R"([{"role":"user","content":"x"}])"}},
      {Endpoint::kCompletions, {"prompt", R"("x")"}},
      {Endpoint::kTokenize, {"prompt", R"("x")"}},
      {Endpoint::kDetokenize, {"tokens", "[1]"}},
      {Endpoint::kResponses, {"input", R"("x")"}}};
  const auto& [input, text] = kInputs.at(endpoint);
  std::string body = fmt::format(R"({{"{}":{})", name, value);
  if (name != "model") body += R"(,"model":"m")";
  if (name != input) body += fmt::format(R"(,"{}":{})", input, text);
  return body + "}";
}

// From the parser's own table: nothing is refused in silence, nothing but null and what happens
// anyway is taken.
TEST(OpenAiRequest, EveryRefusedFieldIsRefusedByName) {
  for (const RefusedField& field : RefusedFields()) {
    SCOPED_TRACE(field.name);
    for (const Endpoint endpoint : kEndpoints) {
      if ((field.on & SetOf(endpoint)) == 0) continue;
      ApiRequest r;
      const auto error = ParseRequest(endpoint, BodyWith(endpoint, field.name, R"({"a":[7]})"), r);
      ASSERT_TRUE(error);
      EXPECT_EQ(error->param, field.name);
      EXPECT_EQ(error->code, "unsupported_parameter");
      EXPECT_THAT(error->message, HasSubstr(std::string(field.why)));
      EXPECT_FALSE(ParseRequest(endpoint, BodyWith(endpoint, field.name, "null"), r));
      if (field.neutral.empty()) continue;
      const boost::json::value neutral = boost::json::parse(std::string(field.neutral));
      for (const boost::json::value& value : neutral.as_array()) {
        EXPECT_FALSE(ParseRequest(endpoint, BodyWith(endpoint, field.name, serialize(value)), r));
      }
    }
  }
}

TEST(OpenAiRequest, EveryFieldIsInOneTableOnceAndTakesNullUnlessRequired) {
  std::map<std::pair<std::string, Endpoint>, int> seen;
  const auto look = [&](std::string_view name, uint8_t on, bool required) {
    for (const Endpoint endpoint : kEndpoints) {
      if ((on & SetOf(endpoint)) == 0) continue;
      EXPECT_EQ(++seen[std::pair(std::string(name), endpoint)], 1) << name;
      ApiRequest r;
      const auto error = ParseRequest(endpoint, BodyWith(endpoint, name, "null"), r);
      const bool only_one = endpoint == Endpoint::kTokenize && name == "prompt";  // of two
      EXPECT_EQ(error.has_value(), required || only_one) << name;
    }
  };
  for (const Field& f : Fields()) {
    look(f.name, f.on, f.required);
    boost::json::parse(std::string(f.schema));
  }
  for (const NumberField& f : NumberFields()) look(f.name, f.on, false);
  for (const IntField& f : IntFields()) look(f.name, f.on, false);
  for (const FlagField& f : FlagFields()) look(f.name, f.on, false);
  for (const RefusedField& f : RefusedFields()) look(f.name, f.on, false);
}

TEST(OpenAiRequest, ReadsWhatVllmHasBeyondOpenAi) {
  ApiRequest r;
  const auto error = ParseRequest(Endpoint::kCompletions, R"({"model":"m",
      "prompt":[[1,2],[3]],"n":2,"best_of":3,"logprobs":4,"min_tokens":2,"max_tokens":5,
      "stop_token_ids":[7],"ignore_eos":true,"include_stop_str_in_output":true,
      "skip_special_tokens":false,"logit_bias":{"9":-100,"4":1.5},"return_token_ids":true,
      "truncate_prompt_tokens":6,"priority":-2,"cache_salt":"s","service_tier":"auto",
      "metadata":{"a":"b\"","c":""},"add_special_tokens":false})",
                                  r);
  ASSERT_FALSE(error) << error->message;
  ASSERT_EQ(r.prompts.size(), 2u);
  EXPECT_EQ(r.prompts[0].ids, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(r.n, 2);
  EXPECT_EQ(r.best_of, 3);
  EXPECT_TRUE(r.logprobs);
  EXPECT_EQ(r.top_logprobs, 4);
  EXPECT_EQ(r.min_tokens, 2);
  EXPECT_EQ(r.stop_token_ids, std::vector<TokenId>{7});
  EXPECT_TRUE(r.ignore_eos && r.include_stop && r.return_token_ids);
  EXPECT_FALSE(r.skip_special_tokens);
  EXPECT_EQ(r.add_special_tokens, false);
  EXPECT_EQ(r.logit_bias, (std::vector<std::pair<TokenId, float>>{{4, 1.5f}, {9, -100.0f}}));
  EXPECT_EQ(r.truncate_prompt_tokens, 6);
  EXPECT_EQ(r.priority, -2);
  EXPECT_EQ(r.cache_salt, "s");
  EXPECT_EQ(r.metadata, R"({"a":"b\"","c":""})");
}

TEST(OpenAiRequest, FieldsThatContradictEachOther) {
  const std::tuple<Endpoint, const char*, const char*> cases[] = {
      {Endpoint::kChat, R"("top_logprobs":2)", "top_logprobs"},
      {Endpoint::kChat, R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {Endpoint::kChat, R"("n":3,"best_of":2)", "best_of"},
      {Endpoint::kChat, R"("best_of":2,"stream":true)", "best_of"},
      {Endpoint::kChat, R"("min_tokens":5,"max_tokens":4)", "min_tokens"},
      {Endpoint::kChat, R"("logit_bias":{"x":1})", "logit_bias"},
      {Endpoint::kChat, R"("logit_bias":{"1":1,"01":1})", "logit_bias"},
      {Endpoint::kChat, R"("logit_bias":{"1":101})", "logit_bias.1"},
      {Endpoint::kChat, R"("top_p":0)", "top_p"},
      {Endpoint::kChat, R"("min_p":1)", "min_p"},
      {Endpoint::kChat, R"("min_p":0.99999999999)", "min_p"},
      {Endpoint::kChat, R"("service_tier":"flex")", "service_tier"},
      {Endpoint::kChat, R"("metadata":{"a":1})", "metadata.a"},
      {Endpoint::kChat, R"("cache_salt":"")", "cache_salt"},
      {Endpoint::kCompletions, R"("echo":true,"logprobs":1)", "echo"},
      {Endpoint::kCompletions, R"("logprobs":true)", "logprobs"},
      {Endpoint::kCompletions, R"("logprobs":21)", "logprobs"},
  };
  for (const auto& [endpoint, fields, param] : cases) {
    const char* prompt = endpoint == Endpoint::kChat
                             ? R"("messages":[{"role":"user","content":"x"}])"
                             : R"("prompt":"x")";
    ApiRequest r;
    const auto error =
        ParseRequest(endpoint, fmt::format(R"({{"model":"m",{},{}}})", prompt, fields), r);
    ASSERT_TRUE(error) << fields;
    EXPECT_EQ(error->param, param) << fields;
  }
  for (const char* prompt : {"[]", R"(["a",""])", R"(["a",[1]])", "[[]]", "[[1,-1]]", "[1.5]", "{}",
                             "3", R"([1,"a"])"}) {
    ApiRequest r;
    const auto error = ParseRequest(Endpoint::kCompletions,
                                    fmt::format(R"({{"model":"m","prompt":{}}})", prompt), r);
    const bool mixed = std::string_view(prompt) == R"(["a",[1]])";  // a text and ids: fine
    EXPECT_EQ(error.has_value(), !mixed) << prompt;
    if (error) {
      EXPECT_THAT(error->param, HasSubstr("prompt"));
    }
  }
}

TEST(OpenAiRequest, ResponsesAreChatsToo) {
  ApiRequest r;
  const auto error = ParseRequest(Endpoint::kResponses, R"({"model":"m","instructions":"i",
      "input":[{"role":"developer","content":"d"},
               {"type":"message","id":"msg_1","status":"completed","phase":null,"role":"assistant","content":[
                 {"type":"output_text","text":"a","annotations":[],"logprobs":[]},
                 {"type":"input_text","text":"b"}]}],
      "max_output_tokens":7,"store":false,"text":{"format":{"type":"text"}}})",
                                  r);
  ASSERT_FALSE(error) << error->message;
  ASSERT_EQ(r.messages.size(), 3u);
  EXPECT_EQ(r.messages[0].role, "system");
  EXPECT_EQ(r.messages[0].content, "i");
  EXPECT_EQ(r.messages[1].role, "system");
  EXPECT_EQ(r.messages[2].content, "ab");
  EXPECT_EQ(r.max_tokens, 7);
  for (const auto& [input, param] :
       {std::pair{"[]", "input"},
        {R"([{"role":"user"}])", "input[0].content"},
        {R"([{"content":""}])", "input[0].role"},
        {R"([{"type":"item_reference"}])", "input[0].type"},
        {R"([{"type":"reasoning"}])", "input"},
        {R"([{"type":"reasoning","summary":[{"type":"summary_text"}]}])", "input[0].summary"},
        {R"([{"type":"function_call","call_id":"c","name":"f"}])", "input[0].arguments"},
        {R"([{"type":"function_call","call_id":"c","name":"f","arguments":"x"}])",
         "input[0].arguments"},
        {R"([{"type":"function_call_output","output":"x"}])", "input[0].call_id"},
        {R"([{"role":"user","content":"x","tool_calls":[]}])", "input[0].tool_calls"},
        {R"([{"role":"user","content":[{"image_url":"x","type":"input_image"}]}])",
         "input[0].content[0].type"}}) {
    const auto bad =
        ParseRequest(Endpoint::kResponses, BodyWith(Endpoint::kResponses, "input", input), r);
    ASSERT_TRUE(bad) << input;
    EXPECT_EQ(bad->param, param);
  }
}

TEST(OpenAiRequest, WhatAResponseDidIsOneMessage) {
  ApiRequest r;
  const auto error = ParseRequest(Endpoint::kResponses, R"({"model":"m","input":[
      {"role":"user","content":"q"},
      {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"t"}]},
      {"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]},
      {"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{\"x\":1}"},
      {"type":"function_call","call_id":"c2","name":"g","arguments":"","status":"completed"},
      {"type":"function_call_output","call_id":"c1","output":"o"},
      {"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"u"}]},
      {"type":"function_call","call_id":"c3","name":"f","arguments":"{}"}],
      "tools":[{"type":"function","name":"f","strict":false,"parameters":{"properties":{}}}],
      "tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false,
      "reasoning":{"effort":"low","summary":null}})",
                                  r);
  ASSERT_FALSE(error) << error->message;
  ASSERT_EQ(r.messages.size(), 4u);
  EXPECT_EQ(r.messages[1].content, "a");
  EXPECT_EQ(r.messages[1].reasoning, "t");
  ASSERT_EQ(r.messages[1].tool_calls.size(), 2u);
  EXPECT_EQ(r.messages[1].tool_calls[1].name, "g");
  EXPECT_EQ(r.messages[2].role, "tool");
  EXPECT_EQ(r.messages[2].tool_call_id, "c1");
  EXPECT_EQ(r.messages[3].reasoning, "u");
  EXPECT_EQ(r.messages[3].tool_calls[0].id, "c3");
  EXPECT_EQ(r.tools[0].json,
            R"({"type":"function","function":{"name":"f","parameters":{"properties":{}}}})");
  EXPECT_EQ(r.tool_choice, ToolChoice::kNamed);
  EXPECT_FALSE(r.parallel_tool_calls);
  EXPECT_EQ(r.reasoning_effort, "low");
  for (const auto& [name, value, param] :
       {std::tuple{"tools", R"([{"type":"function"}])", "tools[0].name"},
        {"tools", R"([{"type":"web_search"}])", "tools[0].type"},
        {"tools", R"([{"type":"function","function":{"name":"f"}}])", "tools[0].function"},
        {"tool_choice", R"({"type":"function"})", "tool_choice.name"},
        {"tool_choice", R"("required")", "tool_choice"},
        {"reasoning", R"({"effort":"much"})", "reasoning.effort"},
        {"reasoning", R"({"summary":"auto"})", "reasoning.summary"}}) {
    const auto bad =
        ParseRequest(Endpoint::kResponses, BodyWith(Endpoint::kResponses, name, value), r);
    ASSERT_TRUE(bad) << name << value;
    EXPECT_EQ(bad->param, param);
  }
  EXPECT_FALSE(ParseRequest(Endpoint::kResponses,
                            BodyWith(Endpoint::kResponses, "tool_choice", "\"auto\""), r));
  // What it thought before it ran into a limit was no part of what it did after the next question.
  constexpr std::string_view kThought =
      R"({"type":"reasoning","content":[{"type":"reasoning_text","text":"t"}]})";
  EXPECT_FALSE(
      ParseRequest(Endpoint::kResponses,
                   fmt::format(R"({{"model":"m","input":[{0},{{"role":"user","content":"q"}},)"
                               R"({{"role":"assistant","content":"a"}},{0}]}})",
                               kThought),
                   r));
  ASSERT_EQ(r.messages.size(), 4u);
  EXPECT_EQ(r.messages[0].role, "assistant");
  EXPECT_EQ(r.messages[0].reasoning, "t");
  EXPECT_EQ(r.messages[1].content, "q");
  EXPECT_EQ(r.messages[2].content, "a");
  EXPECT_EQ(r.messages[2].reasoning, "");
  EXPECT_EQ(r.messages[3].reasoning, "t");
  EXPECT_EQ(r.tool_choice, ToolChoice::kNone);
}

TEST(OpenApi, IsJsonAndHasEveryField) {
  const std::vector<std::string> models = {"m", "n"};
  const boost::json::value api = boost::json::parse(OpenApi(models));
  const auto& properties =
      api.at_pointer(
             "/paths/~1v1~1chat~1completions/post/requestBody/content/application~1json/"
             "schema/properties")
          .as_object();
  for (const char* name : {"messages", "temperature", "n", "echo", "stream", "tools"}) {
    EXPECT_TRUE(properties.contains(name)) << name;
  }
  EXPECT_EQ(properties.at("model"), boost::json::parse(R"({"enum":["m","n"]})"));
  EXPECT_FALSE(properties.contains("suffix"));
}

TEST(OpenAiRequest, TwoLimitsThatDifferAreRefused) {
  ApiRequest r;
  const std::string head = R"({"model":"m","messages":[{"role":"user","content":"x"}],)";
  EXPECT_FALSE(
      ParseRequest(Endpoint::kChat, head + R"("max_tokens":3,"max_completion_tokens":3})", r));
  EXPECT_TRUE(
      ParseRequest(Endpoint::kChat, head + R"("max_tokens":3,"max_completion_tokens":4})", r));
}

TEST(OpenAiRequest, ManyValuesAreBounded) {
  std::string body = R"({"model":[)";
  for (int i = 0; i < 150000; ++i) body += "1,";
  body += "1]}";
  ApiRequest r;
  const auto error = ParseRequest(Endpoint::kChat, body, r);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, "invalid_json");
}

// Any prefix and any one-byte change of a body is answered, never a crash.
TEST(OpenAiRequest, SurvivesDamage) {
  const std::string body = R"({"model":"m","messages":[{"role":"user","content":[{"type":"text",)"
                           R"("text":"\u00e9\n"}]}],"stop":["a"],"seed":12,"temperature":1.5e0})";
  ApiRequest r;
  EXPECT_FALSE(ParseRequest(Endpoint::kChat, body, r));
  for (size_t i = 0; i < body.size(); ++i) {
    EXPECT_TRUE(ParseRequest(Endpoint::kChat, body.substr(0, i), r)) << i;
    for (const char c : {'\0', '"', '\\', '{', ']', '9', '\xff'}) {
      std::string damaged = body;
      damaged[i] = c;
      ParseRequest(Endpoint::kChat, damaged, r);
    }
  }
}

}  // namespace
}  // namespace tandem::http
