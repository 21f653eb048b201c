#include "tests/bench/load/run_against.h"

#include <functional>
#include <mutex>
#include <vector>

namespace tandem::load {
namespace {

using Kind = Step::Kind;

const volatile std::sig_atomic_t g_never = 0;

}  // namespace

Ran RunAgainst(const std::string& url, Plan plan) {
  Ran ran;
  plan.request.model = "m";
  const Target target = *ParseUrl(url);
  const auto client = StreamClient::Open(target, plan.timeout, plan.tls);
  EXPECT_TRUE(client.ok()) << client.status();
  LoadedWorkload loaded = *LoadWorkload(plan.workload);
  LoadRun run(**client, target, plan.request, *loaded.workload, g_never);
  if (plan.warmup > 0) {
    const Status status = run.WarmUp(plan.warmup, 4);
    EXPECT_TRUE(status.ok()) << status;
  }
  Driver driver(plan.driver, loaded.workload->num_conversations(), loaded.times);
  ran.result = run.Run(driver, nullptr);
  ran.num_connects = (*client)->num_connects();
  ran.num_sent_again = (*client)->num_sent_again();
  EXPECT_TRUE(driver.finished());
  EXPECT_EQ(driver.num_issued(), static_cast<int64_t>(ran.result.records.size()));
  for (const Record& record : ran.result.records) {
    EXPECT_NE(record.outcome, Outcome::kPending);
    EXPECT_LE(record.intended, record.sent);
    EXPECT_LE(record.sent, record.ended);
    ++ran.outcomes[std::string(Name(record.outcome))];
  }
  return ran;
}

Plan Small(int64_t requests, int64_t concurrency) {
  Plan plan;
  plan.driver.concurrency = concurrency;
  plan.driver.num_requests = requests;
  plan.workload.input = {4, 4};
  plan.workload.output = {5, 5};
  return plan;
}

Script Whole(int tokens) { return {SendBytes(WholeStream(tokens))}; }

namespace {

struct Behaviour {
  const char* outcome;
  Script script;
};

std::vector<Behaviour> Behaviours() {
  const std::string sse = StreamHead();
  const std::string json = "application/json";
  std::vector<Behaviour> all = {
      {"ok", Whole(5)},
      {"ok",
       {SendBytes(StreamHead("\n")), SendBytes(ChunkOf(": ping\r\n\r\n")),
        SendBytes(ChunkOf(TextEvent("a", "\r\n"))), SendBytes(ChunkOf("data: [DO")),
        SendBytes(ChunkOf("NE]\r\n\r\n") + "0\r\n\r\n")}},
      {"ok",
       {SendBytes("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
        SendBytes(TextEvent("a") + "data: [DONE]\n"),
        {Kind::kClose}}},
      {"no_response", {{Kind::kClose}}},
      {"no_response", {{Kind::kReset}}},
      {"no_response", {SendBytes("HTTP/1.1 200 OK\r\nCont"), {Kind::kClose}}},
      {"http_status", {SendBytes(PlainReply(429, json, "{\"error\":{\"message\":\"slow\"}}"))}},
      {"http_status", {SendBytes(PlainReply(500, "text/html", "<h1>no</h1>"))}},
      {"http_status",
       {SendBytes("HTTP/1.1 503 X\r\nContent-Length: 99\r\n\r\ncut"), {Kind::kClose}}},
      {"protocol", {SendBytes("\x16\x03\x01 what is this\r\n\r\n"), {Kind::kClose}}},
      {"protocol", {SendBytes(sse + "not a chunk size\r\n")}},
      {"protocol", {SendBytes(sse + ChunkOf("data: {nonsense\n\n"))}},
      {"protocol", {SendBytes(PlainReply(200, json, "{\"choices\":[]}"))}},
      {"error_event", {SendBytes(PlainReply(200, json, "{\"error\":{\"message\":\"x\"}}"))}},
      {"error_event",
       {SendBytes(sse + ChunkOf(TextEvent("a")) +
                  ChunkOf("data: {\"error\":{\"code\":\"group_lost\"}}\n\n") + "0\r\n\r\n")}},
      {"truncated", {SendBytes(sse + ChunkOf(TextEvent("a")) + "0\r\n\r\n")}},
      {"truncated", {SendBytes(sse + ChunkOf(TextEvent("a"))), {Kind::kClose}}},
      {"truncated",
       {SendBytes(sse + ChunkOf(TextEvent("a")) + "40\r\ndata: {\"cho"), {Kind::kReset}}},
      {"no_tokens", {SendBytes(sse + ChunkOf("data: [DONE]\n\n") + "0\r\n\r\n")}}};
  // A whole stream whose bytes come one by one.
  Script bytes;
  for (const char c : WholeStream(1)) bytes.push_back(SendBytes(std::string(1, c)));
  all.push_back({"ok", bytes});
  return all;
}

}  // namespace

void CheckEveryOutcome(Mode mode, const OwnCertificate* certificate) {
  const std::vector<Behaviour> behaviours = Behaviours();
  std::mutex mutex;
  std::map<std::string, const char*> done;  // by request text: one sent again is the same request
  ScriptedServer server(
      [&](const std::string&, const std::string& body) {
        const Behaviour& chosen = behaviours[std::hash<std::string>()(body) % behaviours.size()];
        const std::lock_guard lock(mutex);
        done[body] = chosen.outcome;
        return chosen.script;
      },
      certificate == nullptr ? nullptr : certificate->server());
  Plan plan = Small(400, 16);
  if (certificate != nullptr) plan.tls.ca_file = certificate->file();
  plan.driver.mode = mode;
  plan.driver.rate = 4000;
  const Ran ran = RunAgainst(server.url(), plan);
  EXPECT_EQ(ran.result.records.size(), 400u);
  EXPECT_EQ(done.size(), 400u);
  Outcomes expected;
  for (const auto& [body, outcome] : done) ++expected[outcome];
  EXPECT_EQ(ran.outcomes, expected);
  EXPECT_EQ(expected.size(), 7u);  // or the draw has left one out
  for (const Record& record : ran.result.records) EXPECT_EQ(record.ok(), record.error.empty());
}

}  // namespace tandem::load
