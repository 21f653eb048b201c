// What may stand where in HTTP/1.1: lengths, codings, chunks, targets, limits; what is in doubt is
// refused, and nothing behind it is served.
#include "router/http/server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/http/fixture.h"

namespace tandem::http {
namespace {

using routing::FinishReason;
using ::testing::HasSubstr;

TEST_F(ServerTest, BytesThatAreNoHttpAndLimits) {
  settings_.limits.max_header_bytes = 1024;
  settings_.limits.max_body_bytes = 4096;
  StartWithGroup();
  {
    RawClient client(port());
    client.Send("\x16\x03\x01 this is no HTTP\r\n\r\n");
    EXPECT_EQ(client.Read().status, 400);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    RawClient client(port());
    client.Send("GET /health HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n");
    EXPECT_EQ(client.Read().status, 431);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    RawClient client(port());
    client.Send(ChatPost(std::string(5000, 'x')));
    EXPECT_EQ(client.Read().status, 413);
    EXPECT_TRUE(client.AtEnd());
  }
  {
    RawClient client(port());  // no length says so before it is too much
    client.Send(
        "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n2000\r\n" +
        std::string(8192, ' ') + "\r\n");
    EXPECT_EQ(client.Read().status, 413);
  }
}

TEST_F(ServerTest, ChunkExtensionsAndTrailersAreBounded) {
  StartWithGroup();
  const std::string head =
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  const std::string much(1 << 20, 'a');
  for (const std::string& body : {"5;" + much, "0\r\nX: " + much}) {
    RawClient client(port());
    client.Send(head + body);  // may fail half-way: the answer comes before all was taken
    EXPECT_EQ(client.Read().status, 431);
  }
}

TEST_F(ServerTest, RefusalsOfHeadHaveNoBody) {
  StartWithGroup();
  RawClient client(port());
  for (const char* path : {"/nothing", "/v1/completions"}) {
    client.Send(fmt::format("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", path));
    EXPECT_GE(client.Read(/*head_only=*/true).status, 400);
    client.Send(RawClient::Get("/health"));
    EXPECT_EQ(client.Read().status, 200);
  }
}

TEST_F(ServerTest, ALongPipelinedRequestAfterARefusalIsAnswered) {
  StartWithGroup();
  const std::string refused = R"({"model": "no-such", "prompt": "a"})";
  const std::string body =
      R"({"model": "no-such", "prompt": ")" + std::string(40 << 10, 'a') + R"("})";
  for (int i = 0; i < 20; ++i) {
    RawClient client(port());
    client.Send(RawClient::Post("/v1/completions", refused) +
                RawClient::Post("/v1/completions", body));
    EXPECT_EQ(client.Read().status, 404);
    EXPECT_EQ(client.Read().status, 404);
  }
}

TEST_F(ServerTest, HeadAndOptions) {
  StartWithGroup();
  RawClient client(port());
  client.Send("HEAD /v1/models HTTP/1.1\r\nHost: t\r\n\r\n");
  const RawResponse head = client.Read(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.Header("content-length"), "0");
  client.Send("OPTIONS /v1/completions HTTP/1.1\r\nHost: t\r\n\r\n");
  const RawResponse options = client.Read();
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.Header("allow"), "POST, OPTIONS");
}

TEST_F(ServerTest, BodiesInACodingThatIsNotKnownAreRefused) {
  StartWithGroup();
  RawClient client(port());
  for (const char* coding :
       {"gzip", "br", "identity, gzip", "identity\r\nContent-Encoding: gzip"}) {
    client.Send(ChatPost("Hi", "", fmt::format("Content-Encoding: {}\r\n", coding)));
    const RawResponse response = client.Read();  // the body's length is known: the connection stays
    EXPECT_EQ(response.status, 415) << coding;
    EXPECT_THAT(response.body, HasSubstr("\"code\":\"unsupported_content_encoding\""));
  }
  client.Send(ChatPost("Hi", "", "Content-Encoding: Identity\r\n"));
  groups_->Answer(groups_->WaitSent(), Tokens("x"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
}

// The body of a request whose end is in doubt must not be taken for the next request.
TEST_F(ServerTest, NothingAfterADoubtfulEndIsServed) {
  StartWithGroup();
  const std::string hidden = ChatPost("hidden");
  const std::pair<const char*, int> cases[] = {
      {"Transfer-Encoding: gzip\r\n", 501},
      {"Transfer-Encoding: gzip, chunked\r\n", 501},
      {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400},
      {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
      {"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", 400},
      {"Content-Length: 0\r\nContent-Length: 0\r\n", 400},
      {"Content-Length: 0\r\nHost: other\r\n", 400}};
  for (const auto& [headers, status] : cases) {
    SCOPED_TRACE(headers);
    RawClient client(port());
    client.Send(
        fmt::format("POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: "
                    "application/json\r\n{}\r\n0\r\n\r\n{}",
                    headers, hidden));
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(response.Header("connection"), "close");
    EXPECT_THAT(response.body, HasSubstr("\"error\":{\"message\":"));
    EXPECT_TRUE(client.AtEnd());
  }
  RawClient client(port());
  client.Send("GET /health HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.Read().status, 400);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_FALSE(groups_->HasSent());
}

TEST_F(ServerTest, OddTargetsAndVersions) {
  auto keys = ApiKeys::Parse("secret", "keys");
  ASSERT_TRUE(keys.ok());
  Start(*keys);
  RawClient client(port());
  const std::pair<const char*, int> cases[] = {{"/health?x=1&y=%zz", 200},
                                               {"/%68ealth", 200},
                                               {"http://t/health", 200},
                                               {"/v1/models", 401},
                                               {"/%76%31/models", 401},
                                               {"http://t/v1/models", 401},
                                               {"//v1/models", 404},
                                               {"/v1/../health", 404},
                                               {"/health%00", 404},
                                               {"/%ff%0d%0aX-Evil:1", 404},
                                               {"*", 404}};
  for (const auto& [target, status] : cases) {
    client.Send(RawClient::Get(target));
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, status) << target;
    EXPECT_EQ(response.Header("x-evil"), "");
  }
  client.Send(RawClient::Get("/" + std::string(8000, 'a')));
  EXPECT_EQ(client.Read().status, 404);
  client.Send(RawClient::Get("/health", "x-request-id: a\x01b\r\n"));
  const RawResponse control = client.Read();  // refused, or answered under an id of our own
  EXPECT_NE(control.Header("x-request-id"), "a\x01b");
  RawClient old(port());
  old.Send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(old.Read().Header("connection"), "close");
  EXPECT_TRUE(old.AtEnd());
}

TEST_F(ServerTest, UploadsThatStopLeaveNothing) {
  StartWithGroup();
  for (int i = 0; i < 50; ++i) {
    const std::string post = ChatPost(std::string(3000, 'x'));
    RawClient client(port());
    client.Send(post.substr(0, post.size() * static_cast<size_t>(i) / 50));
    if (i % 2 == 0) client.Reset();
  }
  RawClient client(port());
  client.Send(ChatPost("Hi"));
  const FakeGroups::Sent sent = groups_->WaitSent();  // of all, only this one
  EXPECT_LT(sent.request.prompt.size(), 100u);
  groups_->Answer(sent, Tokens("x"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
  EXPECT_FALSE(groups_->HasSent());
}

}  // namespace
}  // namespace tandem::http
