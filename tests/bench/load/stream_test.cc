// What a server sends, cut at every byte: the pieces never change what is understood.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "bench/load/chunk_scanner.h"
#include "bench/load/exchange.h"
#include "bench/load/response_parser.h"
#include "bench/load/sse_parser.h"
#include "common/status.h"

namespace tandem::load {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Pieces = std::vector<std::string_view>;

// All of it at once, byte by byte, and in two and three pieces cut everywhere.
void ForEachCut(std::string_view text, const std::function<void(const Pieces&)>& use) {
  use({text});
  Pieces bytes;
  for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
  use(bytes);
  for (size_t i = 1; i < text.size(); ++i) {
    use({text.substr(0, i), text.substr(i)});
    const size_t j = i + (text.size() - i) / 2;
    use({text.substr(0, i), text.substr(i, j - i), text.substr(j)});
  }
}

std::vector<std::string> Events(const Pieces& pieces, bool end = false) {
  SseParser parser;
  std::vector<std::string> events;
  const auto take = [&](std::string_view data) {
    events.emplace_back(data);
    return true;
  };
  for (const std::string_view piece : pieces) EXPECT_TRUE(parser.Feed(piece, take));
  if (end) parser.End(take);
  return events;
}

TEST(SseParser, UnderstandsEveryLineEndAndCut) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    const std::string text = ": keep-alive" + end + end + "data: one" + end + end + "event: x" +
                             end + "data:two" + end + "data:  lines" + end + "id: 7" + end + end +
                             ":" + end + "data" + end + end + "data: [DONE]" + end + end;
    ForEachCut(text, [](const Pieces& pieces) {
      EXPECT_THAT(Events(pieces), ElementsAre("one", "two\n lines", "", "[DONE]"));
    });
  }
}

TEST(SseParser, AnUnfinishedEventCountsAtTheEndOnly) {
  EXPECT_THAT(Events({"data: a\n\ndata: b\n"}), ElementsAre("a"));
  EXPECT_THAT(Events({"data: a\n\ndata: b\n"}, true), ElementsAre("a", "b"));
  EXPECT_THAT(Events({"data: b"}, true), ElementsAre("b"));
  EXPECT_THAT(Events({"\xEF\xBB\xBF", "data: bom\n\n"}), ElementsAre("bom"));
}

TEST(SseParser, StopsWhenToldAndAtItsBound) {
  SseParser parser;
  int events = 0;
  EXPECT_TRUE(
      parser.Feed("data: 1\n\ndata: 2\n\n", [&](std::string_view) { return ++events < 1; }));
  EXPECT_EQ(events, 1);
  SseParser flooded;
  const std::string megabyte(size_t{1} << 20, 'x');
  bool fits = true;
  int fed = 0;
  for (; fits && fed < 20; ++fed)
    fits = flooded.Feed(megabyte, [](std::string_view) { return true; });
  EXPECT_FALSE(fits);
  EXPECT_EQ(fed, 17);
}

struct Read {
  ResponseParser parser;
  std::string body;
};

Read ReadResponse(const Pieces& pieces, bool end = false) {
  Read read;
  for (const std::string_view piece : pieces) read.parser.Feed(piece, read.body);
  if (end) read.parser.End();
  return read;
}

TEST(ResponseParser, ReadsChunkedBodies) {
  const std::string text =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; "
      "charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;ext=1\r\n, worldly!\r\n"
      "0\r\nTrailer: x\r\n\r\n";
  ForEachCut(text, [](const Pieces& pieces) {
    const Read read = ReadResponse(pieces);
    EXPECT_TRUE(read.parser.done());
    EXPECT_EQ(read.parser.status(), 200);
    EXPECT_EQ(read.body, "hello, worldly!");
    EXPECT_EQ(read.parser.content_type(), "text/event-stream");
    EXPECT_TRUE(read.parser.keep_alive());
  });
}

TEST(ResponseParser, ReadsBodiesOfALengthAndUntilTheEnd) {
  ForEachCut("HTTP/1.1 503 Busy\ncontent-length: 4\nConnection: close\n\nbody",
             [](const Pieces& pieces) {
               const Read read = ReadResponse(pieces);
               EXPECT_TRUE(read.parser.done());
               EXPECT_EQ(read.body, "body");
               EXPECT_FALSE(read.parser.keep_alive());
             });
  ForEachCut("HTTP/1.0 200\r\n\r\nall of it", [](const Pieces& pieces) {
    EXPECT_FALSE(ReadResponse(pieces).parser.done());
    const Read read = ReadResponse(pieces, true);
    EXPECT_TRUE(read.parser.done());
    EXPECT_EQ(read.body, "all of it");
    EXPECT_FALSE(read.parser.keep_alive());
  });
  EXPECT_TRUE(ReadResponse({"HTTP/1.1 204 No Content\r\n\r\n"}).parser.done());
  EXPECT_TRUE(ReadResponse({"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}).parser.done());
  // Bytes past the end: whatever they are, not ours.
  EXPECT_FALSE(
      ReadResponse({"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"}).parser.keep_alive());
}

TEST(ResponseParser, RefusesWhatIsNoResponse) {
  const std::pair<std::string, const char*> cases[] = {
      {"SSH-2.0-OpenSSH\r\n", "not an HTTP/1 response"},
      {"HTTP/2 200 OK\r\n", "not an HTTP/1 response"},
      {"HTTP/1.1 OK\r\n\r\n", "not an HTTP/1 response"},
      {"HTTP/1.1 200 OK\r\nno colon\r\n", "a header without a colon"},
      {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", "a content-length that is no number"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", "a transfer-encoding other than chunked"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
       "a chunk size that is no number"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
       "no line end after a chunk"},
      {"HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'x'), "a head or chunk line too long"}};
  for (const auto& [text, why] : cases) {
    const Read read = ReadResponse({text});
    EXPECT_TRUE(read.parser.failed()) << text.substr(0, 60);
    EXPECT_STREQ(read.parser.error(), why);
  }
  EXPECT_STREQ(ReadResponse({"HTTP/1.1 2"}, true).parser.error(),
               "the connection ended in the head");
  EXPECT_STREQ(
      ReadResponse({"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"}, true).parser.error(),
      "the connection ended within the body");
}

TEST(ChunkScanner, FindsWhatMatters) {
  Chunk chat;
  ASSERT_TRUE(ScanChunk(R"({"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":)"
                        R"("a\"\u00e9}]"},"logprobs":null,"finish_reason":null}],"usage":null})",
                        chat));
  EXPECT_TRUE(chat.has_choices);
  EXPECT_EQ(chat.text, R"(a\"\u00e9}])");
  EXPECT_EQ(chat.completion_tokens, -1);

  Chunk usage;
  ASSERT_TRUE(ScanChunk(R"( { "choices" : [ ] , "usage" : {"prompt_tokens": 12,
      "completion_tokens":3,"prompt_tokens_details":{"audio":[1,{}],"cached_tokens":8}}} )",
                        usage));
  EXPECT_FALSE(usage.has_choices);
  EXPECT_EQ(usage.prompt_tokens, 12);
  EXPECT_EQ(usage.completion_tokens, 3);
  EXPECT_EQ(usage.cached_tokens, 8);

  Chunk completion;
  ASSERT_TRUE(
      ScanChunk(R"({"choices":[{"text":" word","x":-1.5E+3},{"text":"other"}]})", completion));
  EXPECT_EQ(completion.text, " word");

  Chunk reasoning;
  ASSERT_TRUE(
      ScanChunk(R"({"choices":[{"delta":{"reasoning_content":"hm","content":null}}]})", reasoning));
  EXPECT_EQ(reasoning.text, "hm");

  Chunk error;
  ASSERT_TRUE(ScanChunk(R"({"error":{"message":"no","code":500}})", error));
  EXPECT_EQ(error.error, R"({"message":"no","code":500})");
  Chunk none;
  ASSERT_TRUE(ScanChunk(R"({"error":null})", none));
  EXPECT_TRUE(none.error.empty());
}

TEST(ChunkScanner, RefusesWhatIsNoObjectOrCutShort) {
  const std::string whole = R"({"choices":[{"delta":{"content":"a\\"}}],"usage":{"a":[1]}})";
  Chunk chunk;
  ASSERT_TRUE(ScanChunk(whole, chunk));
  for (size_t i = 0; i < whole.size(); ++i) {
    Chunk cut;
    EXPECT_FALSE(ScanChunk(std::string_view(whole).substr(0, i), cut)) << i;
  }
  for (const char* bad : {"", "null", "[]", "<html>", "{} {}", "{\"a\"}", "{\"a\":}", "{a:1}"}) {
    Chunk none;
    EXPECT_FALSE(ScanChunk(bad, none)) << bad;
  }
}

// A whole stream, chunked, with a comment, CRLF and LF; what vLLM, SGLang and this router send.
std::string Stream(std::string_view last) {
  const std::string events = fmt::format(
      ": ping\n\ndata: {{\"choices\":[{{\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}}}}]}}"
      "\n\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}}}}]}}\r\n\r\n"
      "data: {{\"choices\":[{{\"delta\":{{\"content\":\"b\"}},\"finish_reason\":\"length\"}}]}}\n\n"
      "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":2}}}}\n\n{}",
      last);
  const size_t half = events.size() / 2;
  return fmt::format(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
      "{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
      half, events.substr(0, half), events.size() - half, events.substr(half));
}

struct Ended {
  Record record;
  bool done = false, reusable = false;
};

Ended Play(const Pieces& pieces, bool close) {
  Ended ended;
  Exchange exchange(&ended.record, true);
  Nanos now = 100;
  for (const std::string_view piece : pieces) exchange.Feed(piece, now++);
  if (close) exchange.Closed(now);
  ended.done = exchange.done();
  ended.reusable = exchange.reusable();
  return ended;
}

TEST(Exchange, AnyCutOfAStreamIsTheSameStream) {
  ForEachCut(Stream("data: [DONE]\n\n"), [](const Pieces& pieces) {
    const Ended ended = Play(pieces, false);
    EXPECT_EQ(ended.record.outcome, Outcome::kOk) << ended.record.error;
    EXPECT_TRUE(ended.done);
    EXPECT_TRUE(ended.reusable);
    EXPECT_EQ(ended.record.text, "ab");
    EXPECT_EQ(ended.record.gaps.size(), 2u);
    EXPECT_EQ(ended.record.num_text_chunks, 2);
    EXPECT_EQ(ended.record.input_tokens(), 5);
    EXPECT_EQ(ended.record.output_tokens(), 2);
    EXPECT_GE(ended.record.first, 100);
    EXPECT_LE(ended.record.first, ended.record.first_text);
    EXPECT_LE(ended.record.first_text, ended.record.last);
    EXPECT_LE(ended.record.last, ended.record.ended);
  });
}

// Cut off after any byte: truncated, or no response; never ok, never left pending.
TEST(Exchange, AnyEndBeforeDoneIsAnError) {
  const std::string text = Stream("data: [DONE]\n\n");
  const size_t head = text.find("\r\n\r\n") + 4, done = text.find("[DONE]") + 6;
  for (size_t i = 0; i < text.size(); ++i) {
    const Ended ended = Play({std::string_view(text).substr(0, i)}, true);
    const Outcome expected = i < head   ? Outcome::kNoResponse
                             : i < done ? Outcome::kTruncated
                                        : Outcome::kOk;
    EXPECT_EQ(Name(ended.record.outcome), Name(expected)) << i << ' ' << ended.record.error;
    EXPECT_TRUE(ended.done) << i;
    EXPECT_FALSE(ended.reusable) << i;
  }
}

TEST(Exchange, TimesAreThoseOfTheirPieces) {
  Record record;
  Exchange exchange(&record, false);
  const std::string chunk = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
  exchange.Feed("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", 10);
  exchange.Feed("data: {\"choices\":[{\"text\":\"\"}]}\n\n", 20);
  exchange.Feed(chunk, 50);
  exchange.Feed(chunk + chunk, 90);
  exchange.Feed("data: {\"choices\":[],\"usage\":{\"completion_tokens\":9}}\n\n", 95);
  EXPECT_FALSE(exchange.settled());
  exchange.Feed("data: [DONE]\n\n", 99);
  EXPECT_TRUE(exchange.settled());
  EXPECT_FALSE(exchange.done());  // the response goes on until it is closed
  exchange.Closed(200);
  EXPECT_TRUE(exchange.done());
  EXPECT_EQ(record.first, 20);
  EXPECT_EQ(record.first_text, 50);
  EXPECT_THAT(record.gaps, ElementsAre(30, 40, 0));
  EXPECT_EQ(record.last, 95);
  EXPECT_EQ(record.ended, 99);
  EXPECT_EQ(record.output_tokens(), 9);
  EXPECT_EQ(record.text, "");
}

struct Fault {
  std::string response;
  Outcome outcome;
  std::string error;
};

TEST(Exchange, FaultsHaveTheirKind) {
  const std::string sse = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
  const Fault cases[] = {
      {"HTTP/1.1 429 Too Many\r\nContent-Length: 15\r\n\r\n{\"error\":\"slow\"",
       Outcome::kHttpStatus, "status 429: {\"error\":\"slow\""},
      {"HTTP/1.1 500 x\r\nContent-Length: 900\r\n\r\ncut", Outcome::kHttpStatus, "status 500: cut"},
      {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"error\":{\"message\":\"no\"}}",
       Outcome::kErrorEvent, "{\"message\":\"no\"}"},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>\x1b[31m", Outcome::kProtocol,
       "status 200 with 'text/html', not an event stream: <html>?[31m"},
      {sse + "data: {\"choices\":[{}]}\n\ndata: {\"error\":{\"code\":503}}\n\n",
       Outcome::kErrorEvent, "{\"code\":503}"},
      {sse + "data: <html>\n\n", Outcome::kProtocol, "an event that is no JSON object: <html>"},
      {sse + "data: [DONE]\n\n", Outcome::kNoTokens, "[DONE] before any choice"},
      {sse + "data: {\"choices\":[{}]}\n\n", Outcome::kTruncated,
       "the response ended without [DONE]"},
      {"\x16\x03\x01garbage\n", Outcome::kProtocol, "not an HTTP/1 response"},
      {"", Outcome::kNoResponse, "the connection ended in the head"}};
  for (const Fault& fault : cases) {
    const Ended ended = Play({fault.response}, true);
    EXPECT_EQ(Name(ended.record.outcome), Name(fault.outcome)) << fault.response;
    EXPECT_EQ(ended.record.error, fault.error);
    EXPECT_TRUE(ended.done);
  }
}

TEST(Exchange, AnOutcomeIsFinal) {
  Record record;
  Exchange exchange(&record, false);
  exchange.Feed("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", 1);
  exchange.Feed("data: {\"choices\":[{}]}\n\ndata: [DONE]\n\ndata: {\"error\":1}\n\n", 2);
  exchange.Abandon(Outcome::kTimeout, "too late", 3);
  exchange.Feed("more", 4);
  exchange.Closed(5);
  EXPECT_EQ(record.outcome, Outcome::kOk);
  EXPECT_EQ(record.ended, 2);
}

}  // namespace
}  // namespace tandem::load
