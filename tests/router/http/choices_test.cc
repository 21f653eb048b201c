// Calls of several sequences, what is said of their tokens, and the fields that reach a group.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>

#include "tests/router/http/fixture.h"

namespace tandem::http {
namespace {

using routing::FinishReason;
using routing::TokenLogprob;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
namespace json = boost::json;

class ChoicesTest : public ServerTest {
 protected:
  static std::string Completion(std::string_view fields) {
    return RawClient::Post("/v1/completions", fmt::format(R"({{"model":"tiny",{}}})", fields));
  }
  // The next `count`, by (prompt, index).
  std::vector<FakeGroups::Sent> WaitSent(int count) {
    std::vector<FakeGroups::Sent> sent;
    for (int i = 0; i < count; ++i) sent.push_back(groups_->WaitSent());
    std::sort(sent.begin(), sent.end(), [](const auto& a, const auto& b) {
      return std::pair(a.request.prompt, a.request.index) <
             std::pair(b.request.prompt, b.request.index);
    });
    return sent;
  }
  static std::vector<TokenLogprob> Logprobs(std::vector<float> values) {
    std::vector<TokenLogprob> logprobs;
    for (const float value : values) logprobs.push_back({value, {}});
    return logprobs;
  }
};

TEST_F(ChoicesTest, AReplyHasAllOfThem) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"n":2,"seed":5)"));
  const auto sent = WaitSent(2);
  EXPECT_EQ(sent[0].request.index, 0u);
  EXPECT_EQ(sent[1].request.index, 1u);
  EXPECT_EQ(sent[0].request.prompt, sent[1].request.prompt);
  EXPECT_EQ(sent[1].request.seed, 5u);
  EXPECT_EQ(sent[1].request.num_logprobs, -1);
  groups_->Answer(sent[1], Tokens("second"), 0, FinishReason::kLength);
  groups_->Answer(sent[0], Tokens("a"), 0, FinishReason::kLength);
  const json::value body = json::parse(client.Read().body);
  ASSERT_EQ(body.at("choices").as_array().size(), 2u);
  EXPECT_EQ(body.at_pointer("/choices/0/message/content"), "a");
  EXPECT_EQ(body.at_pointer("/choices/1/message/content"), "second");
  EXPECT_EQ(body.at_pointer("/choices/1/index"), 1);
  EXPECT_EQ(body.at_pointer("/usage/prompt_tokens").as_int64(),
            static_cast<int64_t>(sent[0].request.prompt.size()));
  EXPECT_EQ(body.at_pointer("/usage/completion_tokens").as_int64(),
            static_cast<int64_t>(1 + Tokens("second").size()));
}

TEST_F(ChoicesTest, AStreamTellsThemApart) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"n":2,"stream":true,"stream_options":{"include_usage":true,)"
                             R"("continuous_usage_stats":true})"));
  const auto sent = WaitSent(2);
  groups_->Answer(sent[1], Tokens("b"), 0);
  const std::string head = client.ReadUntil("\"content\":\"b\"");
  EXPECT_THAT(head, HasSubstr(R"({"index":0,"delta":{"role":"assistant","content":""})"));
  EXPECT_THAT(head, HasSubstr(R"({"index":1,"delta":{"role":"assistant","content":""})"));
  EXPECT_THAT(head, HasSubstr(R"({"index":1,"delta":{"content":"b")"));
  EXPECT_THAT(client.ReadUntil("\n\n"), HasSubstr("\"completion_tokens\":1"));
  groups_->Answer(sent[1], {end_id()}, 1, FinishReason::kStop);
  EXPECT_THAT(client.ReadUntil("\"finish_reason\":\"stop\""),
              HasSubstr(R"({"index":1,"delta":{})"));
  groups_->Answer(sent[0], Tokens("a"), 0, FinishReason::kLength);
  const std::string rest = client.ReadUntil("[DONE]");
  EXPECT_THAT(rest, HasSubstr(R"({"index":0,"delta":{"content":"a")"));
  EXPECT_THAT(rest, HasSubstr(R"("choices":[],"usage":)"));
  EXPECT_THAT(rest, HasSubstr("\"completion_tokens\":3"));
}

TEST_F(ChoicesTest, EveryChunkSaysTheUsageSoFar) {
  StartWithGroup();
  for (const bool chat : {true, false}) {
    RawClient client(port());
    constexpr std::string_view kOptions =
        R"(,"n":2,"stream":true,"stream_options":{"include_usage":true,)"
        R"("continuous_usage_stats":true})";
    client.Send(
        chat ? ChatPost("Hi", kOptions)
             : RawClient::Post("/v1/completions",
                               fmt::format(R"({{"model":"tiny","prompt":"Hi"{}}})", kOptions)));
    const auto sent = WaitSent(2);
    groups_->Answer(sent[0], Tokens("a"), 0);
    groups_->Answer(sent[0], {end_id()}, 1, FinishReason::kStop);
    groups_->Answer(sent[1], Tokens("b"), 0, FinishReason::kLength);
    const std::string events = client.ReadUntil("data: [DONE]\n\n");
    std::vector<int64_t> tokens;
    for (size_t at = 0; (at = events.find("data: {", at)) != events.npos;) {
      at += 6;
      const json::value chunk = json::parse(events.substr(at, events.find("\n\n", at) - at));
      EXPECT_EQ(chunk.at_pointer("/usage/prompt_tokens").as_int64(),
                static_cast<int64_t>(sent[0].request.prompt.size()));
      tokens.push_back(chunk.at_pointer("/usage/completion_tokens").as_int64());
    }
    EXPECT_TRUE(std::is_sorted(tokens.begin(), tokens.end()));
    EXPECT_EQ(tokens.front(), chat ? 0 : 1);  // a chat's first says the role
    EXPECT_EQ(tokens.back(), 3);
  }
}

TEST_F(ChoicesTest, AClientThatLeavesCancelsAll) {
  StartWithGroup();
  for (const bool streaming : {false, true}) {
    RawClient client(port());
    client.Send(ChatPost("Hi", streaming ? R"(,"n":3,"stream":true)" : R"(,"n":3)"));
    const auto sent = WaitSent(3);
    groups_->Answer(sent[0], Tokens("a"), 0, FinishReason::kLength);  // one has ended
    groups_->Answer(sent[1], Tokens("b"), 0);
    if (streaming) client.ReadUntil("\"content\":\"b\"");
    client.Close();
    std::vector<uint32_t> cancelled = {groups_->WaitCancel().index, groups_->WaitCancel().index};
    std::sort(cancelled.begin(), cancelled.end());
    if (!streaming && cancelled.front() == 0) continue;  // it left before the first had ended
    EXPECT_THAT(cancelled, ElementsAre(1u, 2u));
    for (size_t i : {size_t{1}, size_t{2}}) {
      groups_->Answer(sent[i], {}, i == 1 ? 1 : 0, FinishReason::kCancelled);
    }
  }
}

TEST_F(ChoicesTest, OneThatFailsTakesTheOthersAlong) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"n":2)"));
  auto sent = WaitSent(2);
  groups_->Answer(sent[0], Tokens("a"), 0);
  groups_->Answer(sent[1], {}, 0, FinishReason::kError);
  EXPECT_EQ(client.Read().status, 500);
  EXPECT_EQ(groups_->WaitCancel().index, 0u);
  groups_->Answer(sent[0], {}, 1, FinishReason::kCancelled);

  client.Send(ChatPost("Hi", R"(,"n":2,"stream":true)"));  // the connection stayed
  sent = WaitSent(2);
  groups_->Answer(sent[0], Tokens("a"), 0);
  client.ReadUntil("\"content\":\"a\"");
  groups_->Answer(sent[1], {}, 0, FinishReason::kError);
  EXPECT_THAT(client.ReadUntil("\r\n0\r\n\r\n"), Not(HasSubstr("[DONE]")));
  EXPECT_EQ(groups_->WaitCancel().index, 0u);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(ChoicesTest, OnesThatWaitEndWithTheOneThatIsRefused) {
  StartWithGroup();
  RawClient client(port());
  client.Send(Completion(R"("prompt":["a","b",[99999],"c"])"));
  const RawResponse response = client.Read();
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, HasSubstr("99999 is no token id"));
  groups_->WaitCancel();  // the two before it
  groups_->WaitCancel();
  client.Send(RawClient::Get("/health"));
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(ChoicesTest, TheBestAreThoseOfTheGreatestLogprob) {
  StartWithGroup();
  RawClient client(port());
  client.Send(Completion(R"("prompt":"p","n":2,"best_of":3)"));
  const auto sent = WaitSent(3);
  EXPECT_EQ(sent[0].request.num_logprobs, 0);
  const char* texts[] = {"x", "y", "z"};
  const float logprobs[] = {-3, -1, -2};
  for (size_t i = 0; i < 3; ++i) {
    groups_->Answer(sent[i], Tokens(texts[i]), 0, FinishReason::kLength, Logprobs({logprobs[i]}));
  }
  const json::value body = json::parse(client.Read().body);
  ASSERT_EQ(body.at("choices").as_array().size(), 2u);
  EXPECT_EQ(body.at_pointer("/choices/0/text"), "y");
  EXPECT_EQ(body.at_pointer("/choices/1/text"), "z");
  EXPECT_EQ(body.at_pointer("/choices/1/index"), 1);
  EXPECT_TRUE(body.at_pointer("/choices/0/logprobs").is_null());
  EXPECT_EQ(body.at_pointer("/usage/completion_tokens"), 3);
}

TEST_F(ChoicesTest, ManyPromptsAreEchoedAndCounted) {
  StartWithGroup();
  RawClient client(port());
  const std::vector<TokenId> ids = Tokens("two");
  client.Send(
      Completion(fmt::format(R"("prompt":["one",[{}]],"n":2,"echo":true)", fmt::join(ids, ","))));
  std::vector<FakeGroups::Sent> sent = WaitSent(4);
  for (const FakeGroups::Sent& one : sent) {
    groups_->Answer(one, Tokens(one.request.prompt == ids ? "!" : "?"), 0, FinishReason::kLength);
  }
  const json::value body = json::parse(client.Read().body);
  const char* texts[] = {"one?", "one?", "two!", "two!"};
  for (int i = 0; i < 4; ++i) {
    const json::value& choice = body.at("choices").as_array()[static_cast<size_t>(i)];
    EXPECT_EQ(choice.at("index"), i);
    EXPECT_EQ(choice.at("text"), texts[i]);
  }
  EXPECT_EQ(body.at_pointer("/usage/prompt_tokens").as_int64(),
            static_cast<int64_t>(Tokens("one").size() + ids.size()));
  EXPECT_EQ(body.at_pointer("/usage/completion_tokens"), 4);
}

TEST_F(ChoicesTest, LogprobsInOpenAisForms) {
  StartWithGroup();
  RawClient client(port());
  const TokenId a = Tokens("a")[0], b = Tokens("b")[0];
  const std::vector<TokenId> half = Tokens("é");  // two bytes, a token each
  const TokenLogprob first{-0.5f, {{b, -0.25f}, {a, -0.5f}}};
  const float never = -std::numeric_limits<float>::infinity();
  client.Send(ChatPost("Hi", R"(,"logprobs":true,"top_logprobs":2)"));
  FakeGroups::Sent sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.num_logprobs, 2);
  groups_->Answer(sent, {a, half[0]}, 0, FinishReason::kLength, {first, {never, {}}});
  json::value content = json::parse(client.Read().body).at_pointer("/choices/0/logprobs/content");
  ASSERT_EQ(content.as_array().size(), 2u);
  EXPECT_EQ(content.at_pointer("/0"), json::parse(R"({"token":"a","logprob":-0.5,"bytes":[97],
      "top_logprobs":[{"token":"b","logprob":-0.25,"bytes":[98]},
                      {"token":"a","logprob":-0.5,"bytes":[97]}]})"));
  EXPECT_EQ(content.at_pointer("/1"),
            json::parse("{\"token\":\"\xef\xbf\xbd\",\"logprob\":-9999,\"bytes\":[195],"
                        "\"top_logprobs\":[]}"));

  client.Send(Completion(R"("prompt":"p","logprobs":1)"));
  sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.num_logprobs, 1);
  groups_->Answer(sent, {half[0], half[1], a}, 0, FinishReason::kLength,
                  {{-1, {}}, {-2, {}}, {-0.5f, {{b, -0.25f}}}});
  content = json::parse(client.Read().body).at_pointer("/choices/0");
  EXPECT_EQ(content.at("text"), "éa");
  EXPECT_EQ(content.at_pointer("/logprobs/text_offset"), json::parse("[0,1,1]"));
  EXPECT_EQ(content.at_pointer("/logprobs/token_logprobs"), json::parse("[-1,-2,-0.5]"));
  EXPECT_EQ(content.at_pointer("/logprobs/tokens/2"), "a");
  EXPECT_EQ(content.at_pointer("/logprobs/top_logprobs/2"), json::parse(R"({"b":-0.25,"a":-0.5})"));

  client.Send(Completion(R"("prompt":"p","logprobs":0,"stream":true,"return_token_ids":true)"));
  sent = groups_->WaitSent();
  groups_->Answer(sent, {half[0]}, 0, FinishReason::kNone, Logprobs({-1}));  // no text yet
  EXPECT_THAT(client.ReadUntil("\n\n"), HasSubstr(fmt::format(R"("token_ids":[{}])", half[0])));
  groups_->Answer(sent, {half[1], a}, 1, FinishReason::kLength, Logprobs({-2, -3}));
  const std::string chunk = client.ReadUntil("\n\n");
  EXPECT_THAT(chunk, HasSubstr(R"("text":"éa")"));
  EXPECT_THAT(chunk, HasSubstr(R"("text_offset":[1,1])"));
  EXPECT_THAT(chunk, HasSubstr(R"("token_logprobs":[-2,-3])"));
  EXPECT_THAT(chunk, Not(HasSubstr("prompt_token_ids")));
  client.ReadUntil("[DONE]");
}

TEST_F(ChoicesTest, WhatEndsAReplyAndWhatIsSaidOfIt) {
  StartWithGroup();
  RawClient client(port());
  const TokenId x = Tokens("x")[0], z = Tokens("z")[0];
  const auto reply = [&](const std::string& fields, std::vector<TokenId> tokens) {
    client.Send(ChatPost("Hi", fields + R"(,"return_token_ids":true)"));
    const FakeGroups::Sent sent = groups_->WaitSent();
    groups_->Answer(sent, std::move(tokens), 0, FinishReason::kStop);
    return json::parse(client.Read().body).as_object();
  };
  const std::string ids = fmt::format(R"(,"stop_token_ids":[{}])", z);
  json::value body = reply(ids, {x, z});
  EXPECT_EQ(body.at_pointer("/choices/0/message/content"), "x");
  EXPECT_EQ(body.at_pointer("/choices/0/finish_reason"), "stop");
  EXPECT_EQ(body.at_pointer("/choices/0/stop_reason"), z);
  EXPECT_EQ(body.at_pointer("/choices/0/token_ids").as_array().size(), 2u);
  EXPECT_GT(body.at("prompt_token_ids").as_array().size(), 2u);
  body = reply(ids + R"(,"include_stop_str_in_output":true)", {x, z});
  EXPECT_EQ(body.at_pointer("/choices/0/message/content"), "xz");
  body = reply(R"(,"skip_special_tokens":false)", {1, x, end_id()});
  EXPECT_EQ(body.at_pointer("/choices/0/message/content"),
            json::value(std::string(tokenizer_->TokenText(1)) + "x"));
  EXPECT_FALSE(body.at_pointer("/choices/0").as_object().contains("stop_reason"));
  body = reply(R"(,"stop":["z"],"include_stop_str_in_output":true)", {x, z, end_id()});
  EXPECT_EQ(body.at_pointer("/choices/0/message/content"), "xz");
  EXPECT_EQ(body.at_pointer("/choices/0/stop_reason"), "z");
  body = reply(R"(,"stop":["z"],"service_tier":"auto")", {x, z, end_id()});
  EXPECT_EQ(body.at_pointer("/choices/0/message/content"), "x");
  EXPECT_EQ(body.at("service_tier"), "default");
}

TEST_F(ChoicesTest, FieldsReachTheGroup) {
  settings_.service.admission.highest_priority = "normal";
  StartWithGroup();
  RawClient client(port());
  client.Send(Completion(R"("prompt":"abcdef","min_tokens":3,"max_tokens":9,"ignore_eos":true,)"
                         R"("stop_token_ids":[5],"logit_bias":{"7":-100},"cache_salt":"tenant",)"
                         R"("truncate_prompt_tokens":2,"priority":4)"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.min_tokens, 3);
  EXPECT_EQ(sent.request.stop_ids, std::vector<TokenId>{5});
  ASSERT_EQ(sent.request.logit_bias.size(), 1u);
  EXPECT_EQ(sent.request.logit_bias[0], std::pair(7, -100.0f));
  EXPECT_EQ(sent.request.cache_salt, "tenant");
  EXPECT_LT(sent.request.priority, 0);
  std::vector<TokenId> all = Tokens("abcdef");
  all.erase(all.begin(), all.end() - 2);
  EXPECT_EQ(sent.request.prompt, all);
  groups_->Answer(sent, Tokens("a"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
  for (const char* fields : {R"("stop_token_ids":[99999])", R"("logit_bias":{"99999":1})",
                             R"("min_tokens":5000)", R"("priority":-1)"}) {
    client.Send(Completion(fmt::format(R"("prompt":"x",{})", fields)));
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, 400) << fields << response.body;
  }
}

TEST_F(ChoicesTest, ResponsesAreEventsInOrder) {
  StartWithGroup();
  RawClient client(port());
  const std::string body = R"({"model":"tiny","input":"Hi","metadata":{"a":"b"},"stream":)";
  client.Send(RawClient::Post("/v1/responses", body + "true}"));
  FakeGroups::Sent sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("a"), 0);
  groups_->Answer(sent, Tokens("b"), 1, FinishReason::kLength);
  const std::string events = client.ReadUntil("\r\n0\r\n\r\n");
  size_t at = 0;
  for (const char* event :
       {"event: response.created\n", "event: response.in_progress\n",
        "event: response.output_item.added\n", "event: response.content_part.added\n",
        R"("delta":"a")", R"("delta":"b")", "event: response.output_text.done\n",
        "event: response.content_part.done\n", "event: response.output_item.done\n",
        "event: response.incomplete\n", R"("text":"ab")", "max_output_tokens",
        R"("metadata":{"a":"b"})", R"("store":false)", R"("output_tokens":2)"}) {
    at = events.find(event, at);
    ASSERT_NE(at, std::string::npos) << event << " in " << events;
  }
  EXPECT_THAT(events, Not(HasSubstr("[DONE]")));

  client.Send(RawClient::Post("/v1/responses", body + "false}"));
  sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("ab"), 0);
  groups_->Answer(sent, {end_id()}, static_cast<int>(Tokens("ab").size()), FinishReason::kStop);
  const json::value reply = json::parse(client.Read().body);
  EXPECT_EQ(reply.at("status"), "completed");
  EXPECT_EQ(reply.at_pointer("/output/0/content/0/text"), "ab");

  client.Send(RawClient::Post("/v1/responses", body + "true}"));
  sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("a"), 0);
  groups_->Answer(sent, {}, 1, FinishReason::kError);
  EXPECT_THAT(client.ReadUntil("\r\n0\r\n\r\n"), HasSubstr("event: error\n"));
}

TEST_F(ChoicesTest, TokenizerWithoutAGroup) {
  service_options_.inline_text_bytes = 64;
  Start();
  RawClient client(port());
  const std::string text = "ab " + std::string(100, 'c');  // on a text thread
  for (const std::string& prompt : {std::string("ab"), text}) {
    client.Send(RawClient::Post("/tokenize", fmt::format(R"({{"prompt":"{}"}})", prompt)));
    const json::value reply = json::parse(client.Read().body);
    const std::vector<TokenId> ids = Tokens(prompt);
    EXPECT_EQ(reply.at("count").as_int64(), static_cast<int64_t>(ids.size()));
    EXPECT_EQ(serialize(reply.at("tokens")), fmt::format("[{}]", fmt::join(ids, ",")));
    EXPECT_TRUE(reply.at("token_strs").is_null() && reply.at("max_model_len").is_null());
    client.Send(RawClient::Post(
        "/detokenize", fmt::format(R"({{"model":"tiny","tokens":[{}]}})", fmt::join(ids, ","))));
    EXPECT_EQ(json::parse(client.Read().body), json::value({{"prompt", prompt}}));
  }
  client.Send(RawClient::Post("/detokenize", R"({"tokens":[]})"));
  EXPECT_EQ(client.Read().body, R"({"prompt":""})");
  client.Send(RawClient::Post("/detokenize", R"({"tokens":[99999]})"));
  EXPECT_THAT(client.Read().body, HasSubstr(R"("param":"tokens")"));
  client.Send(RawClient::Post("/tokenize", R"({"messages":[{"role":"user","content":"x"}],)"
                                           R"("return_token_strs":true})"));
  const json::value chat = json::parse(client.Read().body);
  EXPECT_EQ(chat.at("token_strs").as_array().size(), chat.at("tokens").as_array().size());
  client.Send(RawClient::Post("/tokenize", R"({"model":"x","prompt":""})"));
  EXPECT_EQ(client.Read().status, 404);
  client.Send(RawClient::Get("/openapi.json"));
  EXPECT_EQ(json::parse(client.Read().body).at("openapi"), "3.1.0");
}

TEST_F(ChoicesTest, ManySequencesAreBounded) {
  StartWithGroup();
  RawClient client(port());
  client.Send(Completion(R"("prompt":["a","b","c"],"n":100)"));
  EXPECT_THAT(client.Read().body, HasSubstr("300 sequences"));
  EXPECT_FALSE(groups_->HasSent());
}

// Each by itself.
TEST_F(ChoicesTest, OfALostGroupAllStartAgainElsewhere) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"n":2)"));
  WaitSent(2);
  const GroupId other = groups_->Up("g1");
  groups_->Lose(group_, "gone");
  for (const FakeGroups::Sent& again : WaitSent(2)) {
    EXPECT_EQ(again.group, other);
    EXPECT_EQ(again.request.attempt, 1u);
    groups_->Answer(again, Tokens("a"), 0, FinishReason::kLength);
  }
  EXPECT_EQ(client.Read().status, 200);
}

}  // namespace
}  // namespace tandem::http
