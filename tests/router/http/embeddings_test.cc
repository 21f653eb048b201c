// /v1/embeddings: what groups are asked, and what clients hear.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "router/http/reply.h"
#include "tests/router/http/fixture.h"

namespace tandem::http {
namespace {

using routing::Pooling;
using ::testing::HasSubstr;
namespace json = boost::json;

class EmbeddingsTest : public ServerTest {
 protected:
  static std::string Post(std::string_view fields) {
    return RawClient::Post("/v1/embeddings", fmt::format(R"({{"model":"tiny",{}}})", fields));
  }
  RawResponse Ask(std::string_view fields) {
    RawClient client(port());
    client.Send(Post(fields));
    return client.Read();
  }
  // Of a request that no group hears of.
  void ExpectRefused(std::string_view fields, std::string_view param, std::string_view code) {
    SCOPED_TRACE(fields.substr(0, 80));
    const RawResponse reply = Ask(fields);
    EXPECT_EQ(reply.status, 400) << reply.body;
    const json::value body = json::parse(reply.body);
    EXPECT_EQ(body.at_pointer("/error/param"), json::value(param)) << reply.body;
    EXPECT_EQ(body.at_pointer("/error/code"), json::value(code)) << reply.body;
    EXPECT_FALSE(groups_->HasSent());
  }
};

TEST_F(EmbeddingsTest, AVectorOfLengthOne) {
  StartWithGroup();
  groups_->cached_ = 1;
  RawClient client(port());
  client.Send(Post(R"("input":"Hello","cache_salt":"mine","user":"me")"));
  const auto sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.pooling, Pooling::kLast);
  EXPECT_EQ(sent.request.prompt, Tokens("Hello"));
  EXPECT_EQ(sent.request.max_tokens, 0);
  EXPECT_EQ(sent.request.cache_salt, "mine");
  groups_->AnswerEmbedding(sent, {3, 0, -4, 0});
  const RawResponse reply = client.Read();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.Header("x-tandem-model"), "tiny");
  EXPECT_THAT(reply.body, HasSubstr(R"("data":[{"object":"embedding","index":0,)"
                                    R"("embedding":[0.6,0,-0.8,0]}])"));
  const json::value body = json::parse(reply.body);
  EXPECT_EQ(body.at("object"), "list");
  EXPECT_EQ(body.at("model"), "tiny");
  const auto tokens = static_cast<int64_t>(sent.request.prompt.size());
  EXPECT_EQ(body.at_pointer("/usage/prompt_tokens").as_int64(), tokens);
  EXPECT_EQ(body.at_pointer("/usage/total_tokens").as_int64(), tokens);
  EXPECT_EQ(body.at_pointer("/usage/prompt_tokens_details/cached_tokens").as_int64(), 1);
}

TEST_F(EmbeddingsTest, BytesOfFloats) {
  StartWithGroup();
  RawClient client(port());
  client.Send(Post(R"("input":[5],"encoding_format":"base64","normalize":false,"dimensions":4)"));
  groups_->AnswerEmbedding(groups_->WaitSent(), {1, 0, -2, 0.5});
  EXPECT_THAT(client.Read().body, HasSubstr(R"("embedding":"AACAPwAAAAAAAADAAAAAPw==")"));
  for (const auto& [floats, bytes] :
       {std::pair<std::vector<float>, const char*>{{1, 0}, "AACAPwAAAAA="},
        {{1, 0, 1}, "AACAPwAAAAAAAIA/"}}) {
    client.Send(Post(R"("input":[5],"encoding_format":"base64","normalize":false)"));
    groups_->AnswerEmbedding(groups_->WaitSent(), floats);
    EXPECT_THAT(client.Read().body, HasSubstr(fmt::format(R"("embedding":"{}")", bytes)));
  }
}

TEST_F(EmbeddingsTest, InputsComeBackInTheirOrder) {
  StartWithGroup();
  RawClient client(port());
  client.Send(Post(R"("input":["one",[1,2,3],"three"],"use_activation":false)"));
  std::vector<FakeGroups::Sent> sent;
  for (int i = 0; i < 3; ++i) sent.push_back(groups_->WaitSent());
  EXPECT_EQ(sent[1].request.prompt, (std::vector<TokenId>{1, 2, 3}));
  for (const float i : {2.f, 0.f, 1.f}) {
    groups_->AnswerEmbedding(sent[static_cast<size_t>(i)], {i, 0, 0, 0});
  }
  const json::value body = json::parse(client.Read().body);
  ASSERT_EQ(body.at("data").as_array().size(), 3u);
  for (int i = 0; i < 3; ++i) {
    const json::value& one = body.at("data").as_array()[static_cast<size_t>(i)];
    EXPECT_EQ(one.at("index"), i);
    EXPECT_EQ(one.at("embedding").as_array()[0].to_number<int>(), i);
  }
}

// A large body is made on a text thread; what comes of it is the same.
TEST_F(EmbeddingsTest, ALargeBodyIsMadeAside) {
  StartWithGroup();
  const std::vector<float> large(40'000, 0.25f);
  const std::string fields = R"("input":[[1],[2]],"normalize":false)";
  RawClient client(port());
  for (int round = 0; round < 2; ++round) {  // the connection stays
    client.Send(Post(fields));
    for (int i = 0; i < 2; ++i) groups_->AnswerEmbedding(groups_->WaitSent(), large);
    const json::value body = json::parse(client.Read().body);
    for (size_t i = 0; i < 2; ++i) {
      const json::value& one = body.at("data").as_array()[i];
      EXPECT_EQ(one.at("index"), i);
      ASSERT_EQ(one.at("embedding").as_array().size(), large.size());
      EXPECT_EQ(one.at("embedding").as_array().back(), 0.25);
    }
  }
  for (int i = 0; i < 20; ++i) {  // its client may leave meanwhile
    RawClient leaver(port());
    leaver.Send(Post(R"("input":[5],"normalize":false)"));
    groups_->AnswerEmbedding(groups_->WaitSent(), large);
    leaver.Close();
  }
  client.Send(Post(R"("input":[5])"));
  groups_->AnswerEmbedding(groups_->WaitSent(), {1, 0, 0, 0});
  EXPECT_EQ(client.Read().status, 200);
}

// An ended call with one embedding.
std::shared_ptr<ApiCall> CallWith(std::vector<float> embedding) {
  auto call = std::make_shared<ApiCall>();
  call->api.endpoint = Endpoint::kEmbeddings;
  call->api.prompts.resize(1);
  call->api.best_of = 1;
  MakeGenerations(*call);
  call->generations[0].prompt = std::make_shared<const std::vector<TokenId>>(1, 5);
  call->generations[0].embedding = std::move(embedding);
  return call;
}

TEST(Reply, GivesWhatIsMadeAsideOnceItIsThere) {
  using Done = std::function<void(std::string)>;
  for (const size_t size : {4, 40'000}) {
    const auto call = CallWith(std::vector<float>(size, 1));
    std::function<std::string()> make;
    Done done;
    int wakes = 0;
    auto reply = std::make_unique<Reply>(call,
                                         Reply::Options{.make_aside =
                                                            [&](auto asked, auto answer) {
                                                              make = std::move(asked);
                                                              done = std::move(answer);
                                                            }},
                                         [&] { ++wakes; });
    reply->OnFinished(call->generations[0]);
    std::string bytes;
    reply->Take(bytes);
    if (size == 4) {
      EXPECT_FALSE(make);
      EXPECT_THAT(bytes, HasSubstr("\"embedding\":[1,1,1,1]"));
      EXPECT_TRUE(reply->done());
      continue;
    }
    EXPECT_EQ(bytes, "");
    ASSERT_TRUE(make);
    const std::string body = std::exchange(make, nullptr)();
    reply->Take(bytes);  // woken by something else
    EXPECT_EQ(bytes, "");
    EXPECT_FALSE(make);  // it is not made twice
    EXPECT_FALSE(reply->done());
    wakes = 0;
    done(body);
    EXPECT_EQ(wakes, 1);
    reply->Take(bytes);
    EXPECT_TRUE(bytes.ends_with("\r\n\r\n"));
    EXPECT_THAT(bytes, HasSubstr(fmt::format("content-length: {}\r\n", body.size())));
    EXPECT_FALSE(reply->done());
    reply->Take(bytes);
    EXPECT_EQ(bytes, body);
    EXPECT_TRUE(reply->done());
    reply.reset();
    done(body);  // too late
  }
}

TEST_F(EmbeddingsTest, AModelMayHaveTheMean) {
  AddModel("tiny");
  service_options_.models[0].pooling = Pooling::kMean;
  StartWithGroup();
  RawClient client(port());
  client.Send(Post(R"("input":"a")"));
  const auto sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.pooling, Pooling::kMean);
  groups_->AnswerEmbedding(sent, {1, 0, 0, 0});
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(EmbeddingsTest, MessagesAreATextWithoutTheReplysBeginning) {
  StartWithGroup();
  RawClient client(port());
  client.Send(Post(R"("messages":[{"role":"user","content":"Hi"}])"));
  const auto sent = groups_->WaitSent();
  std::vector<text::Message> messages;
  messages.push_back({"user", "Hi"});
  EXPECT_EQ(sent.request.prompt, Tokens(*template_->Render(messages, false)));
  groups_->AnswerEmbedding(sent, {1, 0, 0, 0});
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(EmbeddingsTest, TheEndOfALongInputIsCutOffIfAsked) {
  StartWithGroup();
  std::string long_input = R"("truncate_prompt_tokens":-1,"input":[7)";  // the context is 512
  for (int i = 0; i < 600; ++i) long_input += ",7";
  long_input += ']';
  const std::vector<std::pair<const char*, std::vector<TokenId>>> cases = {
      {R"("input":[1,2,3,4],"truncate_prompt_tokens":2)", {1, 2}},
      {R"("input":[1,2,3,4],"truncate_prompt_tokens":2,"truncation_side":"left")", {3, 4}},
      {R"("input":[1,2,3,4],"truncate_prompt_tokens":9)", {1, 2, 3, 4}},
      {R"("input":[1,2,3,4],"truncate_prompt_tokens":-1)", {1, 2, 3, 4}},
      {long_input.c_str(), std::vector<TokenId>(512, 7)}};
  for (const auto& [fields, prompt] : cases) {
    RawClient client(port());
    client.Send(Post(fields));
    const auto sent = groups_->WaitSent();
    EXPECT_EQ(sent.request.prompt, prompt) << fields;
    groups_->AnswerEmbedding(sent, {1, 0, 0, 0});
    EXPECT_EQ(client.Read().status, 200);
  }
}

// However many inputs a call has, only 64 of them are requests at a time.
TEST_F(EmbeddingsTest, FewOfACallAreInFlight) {
  StartWithGroup();
  std::string inputs = "\"0\"";
  for (int i = 1; i < 200; ++i) inputs += fmt::format(",\"{}\"", i);
  RawClient client(port());
  client.Send(Post(fmt::format(R"("input":[{}])", inputs)));
  std::vector<FakeGroups::Sent> sent;
  for (int i = 0; i < 64; ++i) sent.push_back(groups_->WaitSent());
  for (int i = 0; i < 200; ++i) {
    EXPECT_FALSE(groups_->HasSent());
    groups_->AnswerEmbedding(sent[static_cast<size_t>(i)], {float(i), 1, 0, 0});
    if (sent.size() < 200) sent.push_back(groups_->WaitSent());
  }
  const json::value body = json::parse(client.Read().body);
  EXPECT_EQ(body.at("data").as_array().size(), 200u);
}

TEST_F(EmbeddingsTest, AClientThatLeavesCancelsAll) {
  StartWithGroup();
  std::string inputs = "\"0\"";
  for (int i = 1; i < 100; ++i) inputs += fmt::format(",\"{}\"", i);
  RawClient client(port());
  client.Send(Post(fmt::format(R"("input":[{}])", inputs)));
  std::vector<FakeGroups::Sent> sent;
  for (int i = 0; i < 64; ++i) sent.push_back(groups_->WaitSent());
  client.Close();
  for (int i = 0; i < 64; ++i) groups_->WaitCancel();
  for (const auto& one : sent) groups_->AnswerEmbedding(one, {1, 0, 0, 0});  // too late
  EXPECT_EQ(Ask(R"("input":"")").status, 400);                               // it is well
  EXPECT_FALSE(groups_->HasSent());
}

TEST_F(EmbeddingsTest, AGroupThatIsLostIsReplaced) {
  Start();
  const GroupId first = groups_->Up("g0");
  RawClient client(port());
  client.Send(Post(R"("input":"a")"));
  groups_->WaitSent();
  groups_->Up("g1");
  groups_->Lose(first, "killed");
  groups_->AnswerEmbedding(groups_->WaitSent(), {1, 0, 0, 0});
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(EmbeddingsTest, OnlyGroupsThatComputeThemAreAsked) {
  Start();
  groups_->Up("gpu", 512, "tiny", /*embedding_size=*/0);
  ExpectRefused(R"("input":"a")", "model", "invalid_value");
  const GroupId cpu = groups_->Up("cpu");
  for (int i = 0; i < 8; ++i) {
    RawClient client(port());
    client.Send(Post(R"("input":"a")"));
    const auto sent = groups_->WaitSent();
    EXPECT_EQ(sent.group, cpu);
    groups_->AnswerEmbedding(sent, {1, 0, 0, 0});
    EXPECT_EQ(client.Read().status, 200);
  }
}

TEST_F(EmbeddingsTest, WhatAGroupCannotDoIsSaid) {
  StartWithGroup();
  RawClient client(port());
  client.Send(Post(R"("input":["a","b"])"));
  const auto sent = groups_->WaitSent();
  groups_->WaitSent();
  groups_->Refuse(sent, routing::ErrorKind::kInvalid, "not today");
  const RawResponse refused = client.Read();
  EXPECT_EQ(refused.status, 400);
  EXPECT_THAT(refused.body, HasSubstr("not today"));
  groups_->WaitCancel();

  client.Send(Post(R"("input":"a")"));
  groups_->AnswerEmbedding(groups_->WaitSent(), {1, std::numeric_limits<float>::quiet_NaN(), 0, 0});
  EXPECT_EQ(client.Read().status, 500);
}

TEST_F(EmbeddingsTest, MistakesAreNamed) {
  StartWithGroup();
  ExpectRefused(R"("user":"x")", "input", "missing_parameter");
  ExpectRefused(R"("input":"")", "input", "invalid_value");
  ExpectRefused(R"("input":[])", "input", "invalid_value");
  ExpectRefused(R"("input":["a",""])", "input[1]", "invalid_value");
  ExpectRefused(R"("input":[["a"]])", "input[0][0]", "invalid_type");
  ExpectRefused(R"("input":7)", "input", "invalid_type");
  ExpectRefused(R"("input":[100000])", "input", "invalid_value");
  ExpectRefused(R"("input":"a","messages":[{"role":"user","content":"b"}])", "messages",
                "invalid_value");
  ExpectRefused(R"("input":"a","dimensions":2)", "dimensions", "unsupported_parameter");
  ExpectRefused(R"("input":"a","encoding_format":"bytes")", "encoding_format", "invalid_value");
  ExpectRefused(R"("input":"a","embed_dtype":"float16")", "embed_dtype", "unsupported_parameter");
  ExpectRefused(R"("input":"a","stream":true)", "stream", "unknown_parameter");
  ExpectRefused(R"("input":"a","normalize":false,"use_activation":true)", "use_activation",
                "invalid_value");
  ExpectRefused(R"("input":"a","truncate_prompt_tokens":0)", "truncate_prompt_tokens",
                "invalid_value");
  std::string ids = "1";
  for (int i = 1; i < 513; ++i) ids += ",1";
  ExpectRefused(fmt::format(R"("input":[[{}]])", ids), "input", "context_length_exceeded");
  // More values than the body of a chat may have: what counts is the context.
  for (int i = 0; i < 300'000; ++i) ids += ",1";
  ExpectRefused(fmt::format(R"("input":[[{}]])", ids), "input", "context_length_exceeded");
  std::string inputs = "[1]";
  for (int i = 1; i < 2049; ++i) inputs += ",[1]";
  ExpectRefused(fmt::format(R"("input":[{}])", inputs), "input", "invalid_value");
}

}  // namespace
}  // namespace tandem::http
