// Whole runs over real sockets against a server that behaves as the test says: what is counted, not
// how long it took.
#include "bench/load/load_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/json.hpp>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "bench/load/metrics.h"
#include "tests/bench/load/run_against.h"
#include "tests/bench/load/scripted_server.h"

namespace tandem::load {
namespace {

using testing::HasSubstr;
using Kind = Step::Kind;

TEST(LoadRun, CountsTokensOfEveryStream) {
  ScriptedServer server([](const std::string&, const std::string&) { return Whole(5); });
  const Ran ran = RunAgainst(server.url(), Small(40, 8));
  EXPECT_EQ(ran.outcomes, (Outcomes{{"ok", 40}}));
  EXPECT_LE(ran.num_connects, 8);  // they are kept
  EXPECT_EQ(ran.num_connects, server.num_connections());
  for (const Record& record : ran.result.records) {
    EXPECT_EQ(record.output_tokens(), 5);
    EXPECT_EQ(record.input_tokens(), 3);
    EXPECT_EQ(record.gaps.size(), 4u);
    EXPECT_LE(record.sent, record.first);
    EXPECT_LE(record.first, record.last);
    EXPECT_LE(record.last, record.ended);
  }
}

TEST(LoadRun, SendsWhatTheApiAsksFor) {
  std::mutex mutex;
  std::vector<std::string> heads, bodies;
  ScriptedServer server([&](const std::string& head, const std::string& body) {
    const std::lock_guard lock(mutex);
    heads.push_back(head);
    bodies.push_back(body);
    return Whole(1);
  });
  Plan plan = Small(1, 1);
  plan.request.api_key = "secret";
  plan.request.headers = {{"X-Team", "a b"}};
  plan.request.extra_members = "\"temperature\":0";
  RunAgainst(server.url() + "/base/v1", plan);
  plan.request.endpoint = Endpoint::kCompletions;
  RunAgainst(server.url(), plan);
  ASSERT_EQ(bodies.size(), 2u);
  EXPECT_THAT(heads[0], testing::StartsWith("POST /base/v1/chat/completions HTTP/1.1\r\n"));
  EXPECT_THAT(heads[0], HasSubstr("\r\nAuthorization: Bearer secret\r\n"));
  EXPECT_THAT(heads[0], HasSubstr("\r\nX-Team: a b\r\n"));
  EXPECT_THAT(heads[1], testing::StartsWith("POST /v1/completions HTTP/1.1\r\n"));
  const boost::json::object chat = boost::json::parse(bodies[0]).as_object();
  EXPECT_EQ(chat.at("model"), "m");
  EXPECT_EQ(chat.at("max_tokens"), 5);
  EXPECT_EQ(chat.at("stream"), true);
  EXPECT_EQ(chat.at("stream_options").at("include_usage"), true);
  EXPECT_EQ(chat.at("temperature"), 0);
  EXPECT_EQ(chat.at("messages").at(0).at("role"), "user");
  EXPECT_EQ(boost::json::parse(bodies[1]).at("prompt"), chat.at("messages").at(0).at("content"));
}

TEST(LoadRun, ContentIsTheSameForASeedWhateverTheOrder) {
  const auto bodies = [](int64_t concurrency, uint64_t seed) {
    std::mutex mutex;
    std::multiset<std::string> all;
    ScriptedServer server([&](const std::string&, const std::string& body) {
      const std::lock_guard lock(mutex);
      all.insert(body);
      return Whole(2);
    });
    Plan plan = Small(30, concurrency);
    plan.workload.input = {1, 40};
    plan.workload.seed = seed;
    RunAgainst(server.url(), plan);
    return all;
  };
  EXPECT_EQ(bodies(1, 5), bodies(10, 5));
  EXPECT_NE(bodies(1, 5), bodies(1, 6));
}

TEST(LoadRun, ATurnCarriesAllThatWasSaid) {
  std::mutex mutex;
  std::vector<boost::json::value> bodies;
  ScriptedServer server([&](const std::string&, const std::string& body) -> Script {
    const std::lock_guard lock(mutex);
    bodies.push_back(boost::json::parse(body));
    const std::string reply = fmt::format(R"(re\"ply\u00e9{}\n)", bodies.size());
    return {SendBytes(StreamHead() + ChunkOf(TextEvent(reply)) + ChunkOf("data: [DONE]\n\n") +
                      "0\r\n\r\n")};
  });
  Plan plan = Small(3, 1);
  plan.workload.turns = 3;
  RunAgainst(server.url(), plan);
  ASSERT_EQ(bodies.size(), 3u);
  const boost::json::array& last = bodies[2].at("messages").as_array();
  ASSERT_EQ(last.size(), 5u);
  EXPECT_EQ(last[1].at("role"), "assistant");
  EXPECT_EQ(last[1].at("content"), "re\"ply\u00e91\n");
  EXPECT_EQ(last[3].at("content"), "re\"ply\u00e92\n");
  EXPECT_EQ(last[0], bodies[0].at("messages").at(0));
  EXPECT_EQ(last[2], bodies[1].at("messages").at(2));
}

// The first answer is held until the last request has come: a loop that waits for answers would
// never send it.
TEST(LoadRun, OpenLoopDoesNotWaitForAnswers) {
  std::mutex mutex;
  std::condition_variable changed;
  int come = 0;
  constexpr int kRequests = 20;
  const auto all_have_come = [&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return come == kRequests; });
  };
  ScriptedServer server([&](const std::string&, const std::string&) -> Script {
    {
      const std::lock_guard lock(mutex);
      ++come;
    }
    changed.notify_all();
    return {{Kind::kWait, "", all_have_come}, SendBytes(WholeStream(2))};
  });
  Plan plan = Small(kRequests, 1);
  plan.driver.mode = Mode::kOpen;
  plan.driver.rate = 500;
  const Ran ran = RunAgainst(server.url(), plan);
  EXPECT_EQ(ran.outcomes, (Outcomes{{"ok", kRequests}}));
  EXPECT_EQ(ran.num_connects, kRequests);
}

// All are due at once and go one after the other: each one's latency holds the waits of those
// before.
TEST(LoadRun, LatencyCountsFromWhenARequestWasDue) {
  ScriptedServer server([](const std::string&, const std::string&) { return Whole(2); });
  Plan plan = Small(10, 1);
  plan.driver.mode = Mode::kOpen;
  plan.driver.rate = std::numeric_limits<double>::infinity();
  plan.driver.max_outstanding = 1;
  const Ran ran = RunAgainst(server.url(), plan);
  ASSERT_EQ(ran.result.records.size(), 10u);
  EXPECT_EQ(ran.num_connects, 1);
  for (size_t i = 0; i < 10; ++i) {
    const Record& record = ran.result.records[i];
    EXPECT_EQ(record.intended, ran.result.started);
    EXPECT_GE(record.sent, i == 0 ? record.intended : ran.result.records[i - 1].ended);
  }
}

TEST(LoadRun, WarmUpIsNotCountedAndSharesNoPrefix) {
  std::mutex mutex;
  std::vector<std::string> texts;
  ScriptedServer server([&](const std::string&, const std::string& body) {
    const std::lock_guard lock(mutex);
    texts.emplace_back(boost::json::parse(body).at("messages").at(0).at("content").as_string());
    return Whole(1);
  });
  Plan plan = Small(4, 1);
  plan.warmup = 3;
  const Ran ran = RunAgainst(server.url(), plan);
  EXPECT_EQ(ran.result.records.size(), 4u);
  ASSERT_EQ(texts.size(), 7u);
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(texts[i].starts_with("warm up "), i < 3) << texts[i];
}

TEST(LoadRun, AServerThatNeverAnswersIsATimeout) {
  ScriptedServer server(
      [](const std::string&, const std::string&) -> Script { return {{Kind::kHang}}; });
  Plan plan = Small(6, 3);
  plan.timeout = 50 * kMillisecond;
  EXPECT_EQ(RunAgainst(server.url(), plan).outcomes, (Outcomes{{"timeout", 6}}));
}

TEST(LoadRun, NobodyThereIsAConnectError) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);  // bound, so that nobody else is; not listening
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  const std::string url = fmt::format("http://127.0.0.1:{}", ntohs(address.sin_port));
  EXPECT_EQ(RunAgainst(url, Small(5, 2)).outcomes, (Outcomes{{"connect", 5}}));
  ::close(fd);
}

// The stream is over but the response does not end: the request succeeded, the connection is
// dropped.
TEST(LoadRun, AResponseThatGoesOnAfterDoneIsNotWaitedForLong) {
  ScriptedServer server([](const std::string&, const std::string&) -> Script {
    const std::string whole = WholeStream(3);
    return {SendBytes(whole.substr(0, whole.size() - 5)), {Kind::kHang}};
  });
  const Ran ran = RunAgainst(server.url(), Small(2, 2));
  EXPECT_EQ(ran.outcomes, (Outcomes{{"ok", 2}}));
}

// It answers one request on each connection and closes it, though it promised to keep it.
TEST(LoadRun, AConnectionThatWasClosedWhileIdleCostsNoRequest) {
  ScriptedServer server([](const std::string&, const std::string&) -> Script {
    return {SendBytes(WholeStream(2)), {Kind::kClose}};
  });
  const Ran ran = RunAgainst(server.url(), Small(30, 3));
  EXPECT_EQ(ran.outcomes, (Outcomes{{"ok", 30}}));
  EXPECT_EQ(ran.num_connects, 30);
}

TEST(LoadRun, EveryRequestEndsInExactlyOneOutcome) {
  CheckEveryOutcome(Mode::kClosed);
  CheckEveryOutcome(Mode::kOpen);
}

// The program itself, as people start it.
class Program : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::path(testing::TempDir()) / fmt::format("load_program_{}", ::getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  int Run(const std::string& arguments) {
    const std::string out = folder_ / "out", errors = folder_ / "errors";
    const int status = std::system(
        fmt::format("{} bench {} >{} 2>{}", TANDEM_COMMAND, arguments, out, errors).c_str());
    out_ = Read("out");
    errors_ = Read("errors");
    return WEXITSTATUS(status);
  }
  std::string Read(const std::string& name) const {
    std::ifstream in(folder_ / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::filesystem::path folder_;
  std::string out_, errors_;
};

TEST_F(Program, AsksForTheModelAndWritesItsReports) {
  ScriptedServer server([](const std::string& head, const std::string&) -> Script {
    if (head.starts_with("GET /v1/models ")) {
      return {SendBytes(PlainReply(200, "application/json", R"({"data":[{"id":"the-model"}]})"))};
    }
    return Whole(3);
  });
  EXPECT_EQ(Run(fmt::format("--url {} --num-requests 12 --concurrency 4 --warmup 2 --slo ttft=60s "
                            "--json {}/r.json --html {}/r.html --detailed",
                            server.url(), folder_.string(), folder_.string())),
            0)
      << errors_;
  EXPECT_THAT(out_, HasSubstr("requests that succeeded             12"));
  const boost::json::value json = boost::json::parse(Read("r.json"));
  EXPECT_EQ(json.at("model_id"), "the-model");
  EXPECT_EQ(json.at("completed"), 12);
  EXPECT_EQ(json.at("failed"), 0);
  EXPECT_EQ(json.at("total_output_tokens"), 36);
  EXPECT_EQ(json.at("ttfts").as_array().size(), 12u);
  EXPECT_EQ(json.at("generated_texts").as_array().size(), 12u);
  EXPECT_EQ(json.at("generated_texts").at(11),
            boost::json::parse(Read("r.json")).at("generated_texts").at(0));
  EXPECT_EQ(json.at("request_goodput"), json.at("request_throughput"));
  EXPECT_THAT(Read("r.html"), HasSubstr("the-model"));
}

TEST_F(Program, ExitCodesTellWhatHappened) {
  ScriptedServer server([](const std::string&, const std::string& body) {
    return std::hash<std::string>()(body) % 2 == 0
               ? Whole(1)
               : Script{SendBytes(PlainReply(500, "text/plain", "no"))};
  });
  const std::string run = fmt::format("--url {} --model m --num-requests 20", server.url());
  EXPECT_EQ(Run(run), 1);
  EXPECT_THAT(out_, HasSubstr("http_status"));
  EXPECT_EQ(Run(run + " --allow-errors"), 0);
  EXPECT_EQ(Run(run + " --json - --allow-errors"), 0);
  EXPECT_EQ(boost::json::parse(out_).at("num_prompts"), 20);
  EXPECT_EQ(Run("--url https://127.0.0.1:1 --model m --ca-file /no/such.pem"), 2);
  EXPECT_THAT(errors_, HasSubstr("/no/such.pem"));
  EXPECT_EQ(Run("--url nowhere"), 2);
  EXPECT_EQ(std::count(errors_.begin(), errors_.end(), '\n'), 1) << errors_;
  EXPECT_EQ(Run(run + " --trace /absent --replay"), 2);
  EXPECT_THAT(errors_, HasSubstr("/absent: No such file"));
  EXPECT_EQ(Run("--help"), 0);
  EXPECT_THAT(out_, HasSubstr("Exit codes"));
}

TEST_F(Program, AWarmUpThatFailsEndsTheRun) {
  ScriptedServer server([](const std::string&, const std::string&) -> Script {
    return {SendBytes(PlainReply(401, "application/json", "{}"))};
  });
  EXPECT_EQ(Run(fmt::format("--url {} --model m --warmup 2", server.url())), 1);
  EXPECT_THAT(errors_, HasSubstr("no warm-up request succeeded: http_status: status 401"));
}

// The first request is never answered; when it has come the run is interrupted.
TEST_F(Program, AnInterruptedRunGivesItsReport) {
  const std::string pid_file = folder_ / "pid";
  std::atomic<int> come{0};
  ScriptedServer server([&](const std::string&, const std::string&) -> Script {
    if (++come == 3) {
      std::ifstream in(pid_file);
      int pid = 0;
      in >> pid;
      ::kill(pid, SIGINT);
    }
    return {{Kind::kHang}};
  });
  const std::string command = fmt::format(
      "sh -c 'echo $$ >{}; exec {} bench --url {} --model m --concurrency 3 --json {}/r.json' "
      ">{}/o "
      "2>&1",
      pid_file, TANDEM_COMMAND, server.url(), folder_.string(), folder_.string());
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 1);
  const boost::json::value json = boost::json::parse(Read("r.json"));
  EXPECT_EQ(json.at("interrupted"), true);
  EXPECT_EQ(json.at("errors_by_kind").at("cancelled"), 3);
}

}  // namespace
}  // namespace tandem::load
