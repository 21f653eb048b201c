// Requests and their answers over real sockets: status codes, errors, keep-alive, limits.
#include "router/http/server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/http/fixture.h"

namespace tandem::http {
namespace {

using routing::FinishReason;
using ::testing::HasSubstr;

TEST_F(ServerTest, AnswersAChatRequest) {
  StartWithGroup();
  groups_->cached_ = 5;
  RawClient client(port());
  client.Send(
      ChatPost("Hi", R"(,"seed":7,"temperature":0,"max_tokens":20)", "x-request-id: my-id.1\r\n"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.seed, 7u);
  EXPECT_EQ(sent.request.temperature, 0);
  EXPECT_EQ(sent.request.max_tokens, 20);
  const auto ends = tokenizer_->end_ids();
  EXPECT_EQ(sent.request.stop_ids, std::vector<TokenId>(ends.begin(), ends.end()));
  EXPECT_EQ(tokenizer_->Decode(sent.request.prompt).substr(0, 12), "<|im_start|>");
  std::vector<TokenId> reply = Tokens("Hello \"you\"\n");
  const int size = static_cast<int>(reply.size());
  groups_->Answer(sent, reply, 0);
  groups_->Answer(sent, {end_id()}, size, FinishReason::kStop);
  const RawResponse response = client.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("x-request-id"), "my-id.1");
  EXPECT_EQ(response.Header("content-type"), "application/json");
  EXPECT_THAT(response.body, HasSubstr(R"("object":"chat.completion")"));
  EXPECT_THAT(response.body, HasSubstr(R"("content":"Hello \"you\"\n")"));
  EXPECT_THAT(response.body, HasSubstr(R"("finish_reason":"stop")"));
  EXPECT_THAT(response.body, HasSubstr("\"completion_tokens\":" + std::to_string(size + 1) + ","));
  EXPECT_THAT(response.body, HasSubstr(R"("prompt_tokens_details":{"cached_tokens":5})"));
}

TEST_F(ServerTest, AnswersACompletionRequestCutAtLength) {
  StartWithGroup();
  RawClient client(port());
  client.Send(RawClient::Post("/v1/completions", R"({"model":"tiny","prompt":"abc"})"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.prompt, Tokens("abc"));
  EXPECT_EQ(sent.request.max_tokens, 512 - static_cast<int>(sent.request.prompt.size()));
  groups_->Answer(sent, Tokens("de"), 0, FinishReason::kLength);
  const RawResponse response = client.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, HasSubstr(R"("object":"text_completion")"));
  EXPECT_THAT(response.body, HasSubstr(R"("text":"de")"));
  EXPECT_THAT(response.body, HasSubstr(R"("finish_reason":"length")"));
}

TEST_F(ServerTest, KeepsTheConnectionAndAnswersPipelinedRequestsInOrder) {
  StartWithGroup();
  RawClient client(port());
  client.Send(RawClient::Get("/v1/models") + ChatPost("one") + RawClient::Get("/health"));
  const RawResponse models = client.Read();
  EXPECT_EQ(models.status, 200);
  EXPECT_THAT(models.body, HasSubstr(R"("id":"tiny","object":"model")"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("x"), 0, FinishReason::kLength);
  EXPECT_THAT(client.Read().body, HasSubstr(R"("content":"x")"));
  EXPECT_THAT(client.Read().body, HasSubstr(R"("name":"g0","state":"up")"));
}

TEST_F(ServerTest, RequestInManyPiecesAndChunkedBody) {
  StartWithGroup();
  RawClient client(port());
  for (const char c : RawClient::Get("/v1/models/tiny")) client.Send({&c, 1});
  EXPECT_EQ(client.Read().status, 200);
  const std::string body = Chat("hey");
  client.Send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n5\r\n" +
      body.substr(0, 5) + "\r\n");
  client.Send(fmt::format("{:x}\r\n{}\r\n0\r\n\r\n", body.size() - 5, body.substr(5)));
  groups_->Answer(groups_->WaitSent(), Tokens("y"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(ServerTest, Expect100Continue) {
  StartWithGroup();
  RawClient client(port());
  const std::string body = Chat("hey");
  const std::string head = fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
      "Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
      body.size());
  client.Send(head);
  EXPECT_EQ(client.Read().status, 100);
  client.Send(body);
  groups_->Answer(groups_->WaitSent(), Tokens("y"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
  // Refused by its header: no 100, and the body is never read.
  RawClient refused(port());
  refused.Send(
      "POST /nowhere HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: "
      "9\r\n\r\n");
  EXPECT_EQ(refused.Read().status, 404);
  EXPECT_TRUE(refused.AtEnd());
}

struct Refused {
  const char* what;
  std::string request;
  int status;
  const char* in_body;
};

TEST_F(ServerTest, RefusesByName) {
  StartWithGroup();
  const auto chat = [](std::string_view more) { return ChatPost("Hi", more); };
  const auto post = [](std::string_view body) {
    return RawClient::Post("/v1/chat/completions", body);
  };
  const Refused cases[] = {
      {"path", RawClient::Get("/v2/models"), 404, "\"code\":\"not_found\""},
      {"method", RawClient::Get("/v1/completions"), 405, "takes POST"},
      {"method of health", RawClient::Post("/health", "{}"), 405, "takes GET"},
      {"content type",
       "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: text/plain\r\n"
       "Content-Length: 2\r\n\r\n{}",
       415, "application/json"},
      {"no JSON", post("{\"model\": tiny}"), 400, "at byte 10"},
      {"JSON cut off", post("{\"model\":"), 400, "not valid JSON at byte 9"},
      {"two values", post("{} {}"), 400, "at byte 3"},
      {"empty", post(""), 400, "not valid JSON"},
      {"no object", post("[1]"), 400, "must be an object"},
      {"key twice", post(R"({"model":"tiny","model":"x"})"), 400, "appears twice"},
      {"number", post(R"({"model":"tiny","temperature":1e999})"), 400, "out of range"},
      {"depth", post(std::string(100, '[')), 400, "not valid JSON at byte 32"},
      {"UTF-8", post("{\"model\":\"\xff\"}"), 400, "UTF-8 at byte 10"},
      {"surrogate", post(R"({"model":"\ud800"})"), 400, "not valid JSON"},
      {"no model", post(R"({"messages":[]})"), 400, "\"param\":\"messages\""},
      {"no messages", post(R"({"model":"tiny"})"), 400, "\"param\":\"messages\""},
      {"model", post(R"({"model":"x","messages":[{"role":"user","content":""}]})"), 404,
       "\"code\":\"model_not_found\""},
      {"unknown field", chat(R"(,"temprature":1)"), 400, "\"param\":\"temprature\""},
      {"unknown field null", chat(R"(,"nope":null)"), 400, "\"param\":\"nope\""},
      {"n", chat(R"(,"n":129)"), 400, "\"param\":\"n\""},
      {"tools", chat(R"(,"tools":[{"type":"function"}])"), 400, "\"param\":\"tools[0].function\""},
      {"type", chat(R"(,"temperature":"hot")"), 400, "\"param\":\"temperature\""},
      {"range", chat(R"(,"temperature":2.5)"), 400, "from 0 to 2"},
      {"max_tokens 0", chat(R"(,"max_tokens":0)"), 400, "\"param\":\"max_tokens\""},
      {"max_tokens 1.5", chat(R"(,"max_tokens":1.5)"), 400, "an integer"},
      {"max_tokens huge", chat(R"(,"max_tokens":99999999999999999999)"), 400, "max_tokens"},
      {"stop", chat(R"(,"stop":["a","b","c","d","e"])"), 400, "\"param\":\"stop\""},
      {"stop type", chat(R"(,"stop":[1])"), 400, "\"param\":\"stop[0]\""},
      {"stop empty", chat(R"(,"stop":"")"), 400, "\"param\":\"stop\""},
      {"stream_options", chat(R"(,"stream_options":{"include_usage":true})"), 400,
       "needs 'stream'"},
      {"stream option", chat(R"(,"stream":true,"stream_options":{"x":1})"), 400,
       "\"param\":\"stream_options.x\""},
      {"role", post(R"({"model":"tiny","messages":[{"role":"bot","content":""}]})"), 400,
       "\"param\":\"messages[0].role\""},
      {"image",
       post(R"({"model":"tiny","messages":[{"role":"user","content":[{"type":"image_url"}]}]})"),
       400, "\"param\":\"messages[0].content[0].type\""},
      {"token ids", RawClient::Post("/v1/completions", R"({"model":"tiny","prompt":[1,99999]})"),
       400, "\"param\":\"prompt\""},
      {"user", chat(",\"user\":\"" + std::string(300, 'u') + "\""), 400, "\"param\":\"user\""},
      {"long prompt", ChatPost(std::string(2000, 'x')), 400, "context_length_exceeded"},
      {"max_tokens too many", chat(R"(,"max_tokens":5000)"), 400, "context_length_exceeded"},
      {"by that name", chat(R"(,"max_tokens":5000)"), 400, "\"param\":\"max_tokens\""},
      {"of responses",
       RawClient::Post("/v1/responses",
                       R"({"model":"tiny","input":"Hi","max_output_tokens":5000})"),
       400, "\"param\":\"max_output_tokens\""},
      {"too many tokens of a chat",
       RawClient::Post("/v1/chat/completions",
                       R"({"model":"tiny","messages":[{"role":"user","content":"Hi"}],)"
                       R"("max_completion_tokens":5000})"),
       400, "\"param\":\"max_completion_tokens\""},
  };
  RawClient client(port());  // one connection: a refused request does not cost it
  for (const Refused& c : cases) {
    SCOPED_TRACE(c.what);
    client.Send(c.request);
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, c.status);
    EXPECT_THAT(response.body, HasSubstr(c.in_body));
    EXPECT_THAT(response.body, HasSubstr("\"error\":{\"message\":"));
    if (c.status == 405) {
      EXPECT_FALSE(response.Header("allow").empty());
    }
    if (response.status == 0) break;
  }
  EXPECT_FALSE(groups_->HasSent());
}

TEST_F(ServerTest, NeutralValuesOfUnsupportedFieldsAreTaken) {
  StartWithGroup();
  RawClient client(port());
  client.Send(
      ChatPost("Hi", R"(,"n":1,"logprobs":false,"frequency_penalty":0,"presence_penalty":0.0,
      "logit_bias":{},"response_format":{"type":"text"},"tools":null,"stop":null,"seed":null,
      "user":"someone","max_completion_tokens":3)"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  EXPECT_EQ(sent.request.max_tokens, 3);
  EXPECT_EQ(sent.request.temperature, 1);
  groups_->Answer(sent, Tokens("a"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(ServerTest, KeysAreAskedForUnderV1Only) {
  auto keys = ApiKeys::Parse("# the team\nsecret-1\n\nsecret-2\n", "keys");
  ASSERT_TRUE(keys.ok());
  Start(*keys);
  RawClient client(port());
  client.Send(RawClient::Get("/v1/models"));
  const RawResponse without = client.Read();
  EXPECT_EQ(without.status, 401);
  EXPECT_EQ(without.Header("www-authenticate"), "Bearer");
  client.Send(RawClient::Get("/v1/models", "Authorization: Bearer secret-3\r\n"));
  EXPECT_EQ(client.Read().status, 401);
  client.Send(RawClient::Get("/v1/models", "Authorization: Bearer secret-2\r\n"));
  EXPECT_EQ(client.Read().status, 200);
  client.Send(RawClient::Get("/health"));
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(ServerTest, WithoutAGroupItIsAliveButNotReady) {
  settings_.service.groups = {{"g0", "tiny"}};
  Start();
  RawClient client(port());
  client.Send(RawClient::Get("/health"));
  const RawResponse health = client.Read();
  EXPECT_EQ(health.status, 200);
  EXPECT_THAT(health.body, HasSubstr(R"("name":"g0","state":"down")"));
  client.Send(RawClient::Get("/ready"));
  const RawResponse unready = client.Read();
  EXPECT_EQ(unready.status, 503);
  EXPECT_THAT(unready.body, HasSubstr(R"("status":"no_group_ready")"));
  client.Send(RawClient::Get("/v1/models/nope"));
  EXPECT_EQ(client.Read().status, 404);
  client.Send(RawClient::Get("/metrics"));
  EXPECT_THAT(client.Read().body,
              HasSubstr("tandem_router_errors_total{kind=\"model_not_found\"} 1"));
  client.Send(ChatPost("Hi"));
  const RawResponse refused = client.Read();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.Header("retry-after"), "1");
  EXPECT_THAT(refused.body, HasSubstr("no_group_ready"));

  const GroupId group = groups_->Up("g0");
  RawResponse ready;
  while (ready.status != 200) {
    client.Send(RawClient::Get("/ready"));
    ready = client.Read();
    ASSERT_NE(ready.status, 0);
  }
  groups_->StartDraining(group);
  while (ready.status != 503) {
    client.Send(RawClient::Get("/ready"));
    ready = client.Read();
    ASSERT_NE(ready.status, 0);
  }
  EXPECT_THAT(ready.body, HasSubstr(R"("state":"draining")"));
}

TEST_F(ServerTest, TooManyRequestsAndConnections) {
  settings_.service.max_queued_requests = 1;
  settings_.limits.max_connections = 2;
  StartWithGroup();
  RawClient first(port()), second(port());
  first.Send(ChatPost("one"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  second.Send(ChatPost("two"));
  const RawResponse refused = second.Read();
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.Header("retry-after"), "1");
  RawClient third(port());
  EXPECT_EQ(third.Read().status, 503);
  EXPECT_TRUE(third.AtEnd());
  groups_->Answer(sent, Tokens("x"), 0, FinishReason::kLength);
  EXPECT_EQ(first.Read().status, 200);
}

TEST_F(ServerTest, TimeoutsEndConnectionsThatDoNotSend) {
  settings_.limits.header_timeout = 100 * kMillisecond;
  settings_.limits.body_timeout = 100 * kMillisecond;
  settings_.limits.idle_timeout = 100 * kMillisecond;
  StartWithGroup();
  RawClient idle(port()), header(port()), body(port());
  header.Send("GET /health HT");
  body.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
      "Content-Length: 100\r\n\r\n{");
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_EQ(header.Read().status, 408);
  EXPECT_TRUE(header.AtEnd());
  EXPECT_EQ(body.Read().status, 408);
}

TEST_F(ServerTest, ClosesWhenAskedTo) {
  StartWithGroup();
  RawClient client(port());
  client.Send(RawClient::Get("/health", "Connection: close\r\n"));
  const RawResponse response = client.Read();
  EXPECT_EQ(response.Header("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
  RawClient old(port());
  old.Send("GET /health HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.Read().status, 200);
  EXPECT_TRUE(old.AtEnd());
}

TEST_F(ServerTest, AFailedGenerationIsAnError) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi"));
  groups_->Answer(groups_->WaitSent(), {}, 0, FinishReason::kError);
  const RawResponse response = client.Read();
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(response.body, HasSubstr("a step failed"));
}

TEST_F(ServerTest, AGroupsErrorsHaveTheStatusOfWhoseFaultTheyAre) {
  StartWithGroup();
  const struct {
    routing::ErrorKind kind;
    int status;
    const char* code;
    const char* retry_after;
  } cases[] = {{routing::ErrorKind::kBusy, 429, "too_many_requests", "1"},
               {routing::ErrorKind::kInvalid, 400, "invalid_value", ""},
               {routing::ErrorKind::kGrammar, 400, "invalid_value", ""},
               {routing::ErrorKind::kInternal, 500, "generation_failed", ""}};
  RawClient client(port());
  for (const char* stream : {"", R"(,"stream":true)"}) {
    for (const auto& c : cases) {
      client.Send(ChatPost("Hi", stream));
      groups_->Refuse(groups_->WaitSent(), c.kind, "4096 sequences are waiting already");
      const RawResponse response = client.Read();
      EXPECT_EQ(response.status, c.status);
      EXPECT_EQ(response.Header("retry-after"), c.retry_after);
      EXPECT_THAT(response.body, HasSubstr(fmt::format(R"("code":"{}")", c.code)));
      EXPECT_THAT(response.body, HasSubstr("4096 sequences are waiting already"));
    }
  }
}

TEST_F(ServerTest, WhatAGroupFindsWrongWithAFormNamesTheField) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"guided_regex":"a{3}")"));
  groups_->Refuse(groups_->WaitSent(), routing::ErrorKind::kGrammar, "the grammar is too large");
  RawResponse response = client.Read();
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(response.body,
            R"({"error":{"message":"the grammar is too large","type":"invalid_request_error",)"
            R"("param":"guided_regex","code":"invalid_value"}})");
  client.Send(ChatPost("Hi", R"(,"guided_regex":"a(")"));
  response = client.Read();
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, HasSubstr(R"("param":"guided_regex","code":"invalid_value")"));
  client.Send(ChatPost("Hi", R"(,"guided_regex":"a{3}")"));
  groups_->Refuse(groups_->WaitSent(), routing::ErrorKind::kBusy, "full");
  EXPECT_THAT(client.Read().body, HasSubstr(R"("param":null)"));
  client.Send(ChatPost("Hi", R"(,"guided_regex":"a{3}")"));
  groups_->Refuse(groups_->WaitSent(), routing::ErrorKind::kInvalid, "the prompt is too long");
  EXPECT_THAT(client.Read().body, HasSubstr(R"("param":null)"));
  for (const char* none : {"{}", R"({"json_object":false})", R"({"json":null,"regex":null})"}) {
    client.Send(ChatPost("Hi", fmt::format(R"(,"structured_outputs":{})", none)));
    response = client.Read();
    EXPECT_EQ(response.status, 400) << none;
    EXPECT_THAT(response.body, HasSubstr(R"("param":"structured_outputs")")) << none;
  }
  client.Send(ChatPost("Hi", R"(,"structured_outputs":{"json_object":false,"regex":"b"})"));
  EXPECT_EQ(groups_->WaitSent().request.grammar.text, "b");
}

TEST_F(ServerTest, MetricsTellWhatHappened) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi"));
  groups_->Answer(groups_->WaitSent(), Tokens("x"), 0, FinishReason::kLength);
  client.Read();
  client.Send(ChatPost("Hi", R"(,"audio":{})"));
  client.Read();
  client.Send(RawClient::Get("/metrics"));
  const std::string text = client.Read().body;
  for (const char* line :
       {"tandem_router_ttft_seconds_count 1", "tandem_router_requests_in_flight 0",
        "tandem_router_errors_total{kind=\"unsupported_parameter\"} 1",
        "tandem_router_responses_total{status=\"200\"} 1", "tandem_router_group_up{group=\"g0\"} 1",
        "tandem_router_step_seconds_count{group=\"g0\"} 1"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace tandem::http
