// The parts of the HTTP room that need no socket.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>

#include "router/http/api_keys.h"
#include "router/http/completions_format.h"
#include "router/http/json_text.h"
#include "router/http/latency_account.h"
#include "router/http/model_routes.h"
#include "router/http/request_reader.h"
#include "router/http/trace_recorder.h"

namespace tandem::http {
namespace {

using ::testing::HasSubstr;

TEST(JsonText, FindsInvalidUtf8) {
  EXPECT_EQ(FindInvalidUtf8("plain ascii text, \xc3\xa9, \xe2\x82\xac, \xf0\x9f\x98\x80"),
            std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8("12345678\x80"), 8u);
  EXPECT_EQ(FindInvalidUtf8("a\xc0\x80"), 1u);          // overlong
  EXPECT_EQ(FindInvalidUtf8("a\xed\xa0\x80"), 1u);      // surrogate
  EXPECT_EQ(FindInvalidUtf8("a\xf4\x90\x80\x80"), 1u);  // past U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("\xe2\x82"), 0u);           // cut off
}

TEST(JsonText, Escapes) {
  std::string out;
  AppendJsonString(out, std::string_view("a\"\\\n\t\x01\x00z\xc3\xa9", 10));
  EXPECT_EQ(out, "\"a\\\"\\\\\\n\\t\\u0001\\u0000z\xc3\xa9\"");
}

TEST(ApiKeys, ErrorsNameFileAndLine) {
  EXPECT_THAT(std::string(Message(ApiKeys::Parse("# only\n", "k.txt").status())),
              HasSubstr("k.txt:1:"));
  EXPECT_THAT(std::string(Message(ApiKeys::Parse("good\nnot good\n", "k.txt").status())),
              HasSubstr("k.txt:2:"));
  EXPECT_THAT(std::string(Message(ApiKeys::Load("/nowhere/keys").status())),
              HasSubstr("/nowhere/keys:1:"));
}

TEST(ApiKeys, ComparesWholeKeys) {
  const auto keys = ApiKeys::Parse("abc\r\n  def  \n", "k");
  ASSERT_TRUE(keys.ok());
  EXPECT_TRUE(keys->Allows("Bearer abc"));
  EXPECT_TRUE(keys->Allows("bearer def"));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "Bearer ab", "Bearer abcd", "Basic abc", "abc"}) {
    EXPECT_FALSE(keys->Allows(wrong)) << wrong;
  }
}

TEST(RequestReader, AnyCutOfTheBytesGivesTheSameRequests) {
  const std::string bytes =
      "GET /a?b HTTP/1.1\r\nHost: x\r\nX-Request-Id: 7\r\n\r\n"
      "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
      "4\r\n\r\nbody"
      "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    RequestReader reader(4096, 4096);
    std::vector<std::string> seen;
    std::string pending;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      pending += bytes.substr(at, piece);
      while (true) {
        size_t used = 0;
        const auto state = reader.Put(pending, used);
        pending.erase(0, used);
        ASSERT_NE(state, RequestReader::State::kFailed) << reader.error().message;
        if (state == RequestReader::State::kNeedMore) break;
        if (state == RequestReader::State::kHeader) continue;
        seen.push_back(reader.request().method + reader.request().path + reader.request().body);
        reader.Reset();
        if (pending.empty()) break;
      }
    }
    ASSERT_EQ(seen, (std::vector<std::string>{"GET/a", "POST/pbody", "POST/cabc"})) << piece;
  }
}

// What a proxy in front might read otherwise than we do.
TEST(RequestReader, AmbiguousRequestsAreRefusedAndCostTheConnection) {
  const std::pair<const char*, int> cases[] = {
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nContent-Length: 4\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: gzip\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: "
       "chunked\r\n",
       501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
       "chunked\r\n",
       400},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 4\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n", 400},
      {"GET / HTTP/1.1\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400},
      {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a, b\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: user@a\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : a\r\n", 400},
      {"GET / HTTP/2.0\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n", 400}};
  for (const auto& [head, status] : cases) {
    RequestReader reader(4096, 4096);
    size_t used = 0;
    EXPECT_EQ(reader.Put(std::string(head) + "\r\n", used), RequestReader::State::kFailed) << head;
    EXPECT_EQ(reader.error().status, status) << head;
    EXPECT_TRUE(reader.error().close) << head;
  }
}

TEST(RequestReader, PathsAreDecodedAndWithoutTheirHost) {
  const std::pair<const char*, const char*> cases[] = {
      {"/health?x=%41/b", "/health"},
      {"/v1/m%6Fdels/a%2fb%20c", "/v1/models/a/b c"},
      {"http://other:80/health?q", "/health"},
      {"HTTP://other/%68ealth", "/health"},
      {"http://other", "/"},
      {"/%", "/%"},
      {"/%4", "/%4"},
      {"/a%zz", "/a%zz"},
      {"*", "*"}};
  for (const auto& [target, path] : cases) {
    RequestReader reader(4096, 4096);
    size_t used = 0;
    const std::string head = std::string("GET ") + target + " HTTP/1.1\r\nHost:\r\n\r\n";
    ASSERT_EQ(reader.Put(head, used), RequestReader::State::kHeader) << target;
    EXPECT_EQ(reader.request().path, path);
  }
}

TEST(OpenAiResponse, ATextChunkIsWhatIsAroundItsText) {
  ReplyMeta meta;
  meta.id = "cmpl-1";
  meta.created = 7;
  meta.model = R"(odd "text":"" "content":"")";
  for (const bool usage : {false, true}) {
    meta.include_usage = usage;
    const std::string end = usage ? R"(,"usage":null})" : "}";
    std::string model;
    AppendJsonString(model, meta.model);
    meta.endpoint = Endpoint::kCompletions;
    std::string out;
    AppendTextChunk(out, MakeTextChunkFrame(meta, 0), "a\"\n");
    EXPECT_EQ(out, R"(data: {"id":"cmpl-1","object":"text_completion","created":7,"model":)" +
                       model + R"(,"choices":[{"index":0,"text":"a\"\n","logprobs":null,)" +
                       R"("finish_reason":null}])" + end + "\n\n");
    meta.endpoint = Endpoint::kChat;
    out.clear();
    AppendTextChunk(out, MakeTextChunkFrame(meta, 0), "");
    EXPECT_EQ(out, R"(data: {"id":"cmpl-1","object":"chat.completion.chunk","created":7,"model":)" +
                       model + R"(,"choices":[{"index":0,"delta":{"content":""},"logprobs":null,)" +
                       R"("finish_reason":null}])" + end + "\n\n");
  }
}

TEST(LatencyAccount, PartsAndResidualAddUp) {
  LatencyAccount a;
  a.received = 1000;
  a.read = 10'000;
  a.parse = 20'000;
  a.wire = 100'000;
  a.worker.prefill = 500'000;
  a.flush = 5'000;
  a.first_flushed = 1000 + 640'000;
  EXPECT_EQ(a.Sum(), 635'000);
  EXPECT_EQ(a.Residual(), 5'000);
  EXPECT_THAT(a.Json(), HasSubstr("\"ttft_us\":640.0"));
  EXPECT_THAT(a.Json(), HasSubstr("\"residual_us\":5.0"));
  EXPECT_THAT(a.Json(), HasSubstr("\"parts\":{\"read_us\":10.0,\"parse_us\":20.0"));
}

TEST(ModelRoutes, NamesOfModelsAndAliases) {
  const ModelRoutes routes(
      {"large", "small"},
      {{"auto", {{.model = "large", .max_prompt_tokens = 9, .max_ttft = 7}, {.model = "small"}}}});
  EXPECT_EQ(routes.names(), (std::vector<std::string>{"large", "small", "auto"}));
  EXPECT_EQ(routes.Find("none"), nullptr);
  ASSERT_NE(routes.Find("small"), nullptr);
  EXPECT_EQ(routes.Find("small")->size(), 1u);
  EXPECT_EQ(routes.Find("small")->at(0).model, 1u);
  const auto alias = routes.Find("auto");
  ASSERT_EQ(alias->size(), 2u);
  EXPECT_EQ(alias->at(0).max_prompt_tokens, 9);
  EXPECT_EQ(alias->at(0).max_ttft, 7);
  EXPECT_FALSE(alias->is_last(0));
  EXPECT_TRUE(alias->is_last(1));
}

TEST(ModelRoutes, SharesAreExact) {
  for (const int share : {1, 30, 50, 99, 100}) {
    ModelRoute route("auto", {{.share = share}, {.model = 1}});
    for (int round = 0; round < 3; ++round) {
      int taken = 0;
      for (int i = 0; i < 100; ++i) taken += route.TakeShare(0) ? 1 : 0;
      EXPECT_EQ(taken, share);
    }
  }
}

TEST(TraceRecorder, WritesArrivalsLengthsAndHashesOfFullBlocks) {
  char folder[] = "/tmp/tandem-trace-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/new/t.jsonl";
  auto recorder = TraceRecorder::Open(path, 1000 * kMillisecond);
  ASSERT_TRUE(recorder.ok()) << recorder.status();
  std::vector<TokenId> prompt(40, 7);
  (*recorder)->Record({1012 * kMillisecond, "m", "seed", prompt, 5});
  prompt[20] = 8;
  (*recorder)->Record({1013 * kMillisecond + 500 * kMicrosecond, "m", "seed", prompt, 1});
  std::ifstream in(path);
  std::string header, first, second, none;
  std::getline(in, header);
  std::getline(in, first);
  std::getline(in, second);
  EXPECT_EQ(header, R"({"tandem_trace":1,"block_size":16})");
  EXPECT_EQ(first.substr(0, 20), R"({"timestamp":12.000,)");
  const auto a = boost::json::parse(first), b = boost::json::parse(second);
  EXPECT_EQ(a.at("timestamp").as_double(), 12.0);
  EXPECT_EQ(b.at("timestamp").as_double(), 13.5);
  EXPECT_EQ(a.at("input_length"), 40);
  EXPECT_EQ(a.at("output_length"), 5);
  EXPECT_EQ(a.at("model"), "m");
  const auto& blocks = a.at("hash_ids").as_array();
  const auto& others = b.at("hash_ids").as_array();
  ASSERT_EQ(blocks.size(), 2u);
  ASSERT_EQ(others.size(), 2u);
  EXPECT_EQ(blocks[0], others[0]);
  EXPECT_NE(blocks[1], others[1]);
  EXPECT_FALSE(std::getline(in, none));

  auto again = TraceRecorder::Open(path, 0);  // never over one that is there
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->path(), path + ".1");
  std::filesystem::remove_all(folder);
  EXPECT_FALSE(TraceRecorder::Open("/dev/null/t", 0).ok());
}

TEST(ApiKeys, EachKeyIsAClient) {
  const auto keys = ApiKeys::Parse("one\ntwo\n", "keys");
  ASSERT_TRUE(keys.ok());
  EXPECT_NE(keys->ClientOf("Bearer one"), 0u);
  EXPECT_EQ(keys->ClientOf("Bearer one"), keys->ClientOf("bearer  one"));
  EXPECT_NE(keys->ClientOf("Bearer one"), keys->ClientOf("Bearer two"));
  EXPECT_EQ(keys->ClientOf("Bearer three"), 0u);
}

}  // namespace
}  // namespace tandem::http
