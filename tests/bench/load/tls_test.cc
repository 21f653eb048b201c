// https, with a certificate made by the test.
#include "bench/load/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "tests/bench/load/own_certificate.h"
#include "tests/bench/load/run_against.h"
#include "tests/bench/load/scripted_server.h"

namespace tandem::load {
namespace {

using testing::HasSubstr;

const TlsOptions kInsecure{.verify = false, .ca_file = ""};

ScriptedServer::Answer Always(const Script& script) {
  return [script](const std::string&, const std::string&) { return script; };
}

class Tls : public testing::Test {
 protected:
  Outcomes Run(const std::string& url, const TlsOptions& tls) {
    Plan plan = Small(20, 4);
    plan.tls = tls;
    const Ran ran = RunAgainst(url, plan);
    error_ = ran.result.records.front().error;
    num_connects_ = ran.num_connects;
    return ran.outcomes;
  }

  const OwnCertificate certificate_{"DNS:localhost,IP:127.0.0.1"};
  ScriptedServer server_{Always(Whole(5)), certificate_.server()};
  std::string error_;
  int64_t num_connects_ = 0;
};

TEST_F(Tls, ACertificateOfATrustedAuthorityIsTaken) {
  EXPECT_EQ(Run(server_.url(), {.verify = true, .ca_file = certificate_.file()}),
            (Outcomes{{"ok", 20}}));
  EXPECT_LE(num_connects_, 4);  // they are kept
  const std::string by_name = fmt::format("https://localhost:{}", server_.port());
  EXPECT_EQ(Run(by_name, {.verify = true, .ca_file = certificate_.file()}), (Outcomes{{"ok", 20}}));
}

TEST_F(Tls, ACertificateThatNobodyVouchesForIsRefused) {
  EXPECT_EQ(Run(server_.url(), {}), (Outcomes{{"connect", 20}}));
  EXPECT_THAT(error_, HasSubstr("self-signed certificate"));
  EXPECT_EQ(Run(server_.url(), kInsecure), (Outcomes{{"ok", 20}}));
}

TEST_F(Tls, ACertificateOfAnotherNameIsRefused) {
  const OwnCertificate other("DNS:elsewhere.test,IP:127.0.0.2");
  const ScriptedServer server(Always(Whole(5)), other.server());
  EXPECT_EQ(Run(server.url(), {.verify = true, .ca_file = other.file()}),
            (Outcomes{{"connect", 20}}));
  EXPECT_THAT(error_, HasSubstr("IP address mismatch"));
  const std::string by_name = fmt::format("https://localhost:{}", server.port());
  EXPECT_EQ(Run(by_name, {.verify = true, .ca_file = other.file()}), (Outcomes{{"connect", 20}}));
  EXPECT_THAT(error_, HasSubstr("hostname mismatch"));
}

// Says one thing to whoever connects, as a server does that cannot read what it got.
class Blurter {
 public:
  explicit Blurter(std::string text) : text_(std::move(text)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 64), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      for (int fd = 0; (fd = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(fd)) {
        ::send(fd, text_.data(), text_.size(), MSG_NOSIGNAL);
        char byte = 0;
        EXPECT_GE(::recv(fd, &byte, 1, 0), 0);
      }
    });
  }
  ~Blurter() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  int port() const { return port_; }

 private:
  const std::string text_;
  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
};

TEST_F(Tls, AServerWithoutItIsAConnectError) {
  const Blurter talks("HTTP/1.1 400 Bad Request\r\n\r\n"), silent("");
  const auto url = [](const Blurter& server) {
    return fmt::format("https://127.0.0.1:{}", server.port());
  };
  EXPECT_EQ(Run(url(talks), kInsecure), (Outcomes{{"connect", 20}}));
  EXPECT_EQ(error_, "TLS: wrong version number");
  EXPECT_EQ(Run(url(silent), kInsecure), (Outcomes{{"connect", 20}}));
}

TEST_F(Tls, WithoutItAServerThatWantsItSaysNothing) {
  const Outcomes outcomes = Run(fmt::format("http://127.0.0.1:{}", server_.port()), {});
  EXPECT_EQ(outcomes.count("ok"), 0u);
}

TEST_F(Tls, AFileWithoutCertificatesIsAMistake) {
  const auto target = ParseUrl("https://127.0.0.1:1");
  for (const char* file : {"/no/such/file.pem", "/dev/null"}) {
    const auto client = StreamClient::Open(*target, kSecond, {.verify = true, .ca_file = file});
    ASSERT_EQ(client.status().code(), StatusCode::kInvalidArgument) << file;
    EXPECT_THAT(std::string(Message(client.status())), HasSubstr(file));
  }
}

// More than a socket's buffers hold, so that it goes out in parts.
TEST_F(Tls, LongRequestsAndRepliesAreWhole) {
  std::atomic<int64_t> bytes = 0;
  ScriptedServer server(
      [&](const std::string&, const std::string& body) {
        bytes += static_cast<int64_t>(body.size());
        return Whole(20'000);
      },
      certificate_.server());
  Plan plan = Small(4, 2);
  plan.tls.ca_file = certificate_.file();
  plan.workload.input = {1'500'000, 1'500'000};
  const Ran ran = RunAgainst(server.url(), plan);
  EXPECT_EQ(ran.outcomes, (Outcomes{{"ok", 4}}));
  for (const Record& record : ran.result.records) EXPECT_EQ(record.num_text_chunks, 20'000);
  EXPECT_GT(bytes, 4 * 1'500'000 * 4);
}

TEST_F(Tls, EveryRequestEndsInExactlyOneOutcome) {
  CheckEveryOutcome(Mode::kClosed, &certificate_);
  CheckEveryOutcome(Mode::kOpen, &certificate_);
}

TEST_F(Tls, TheModelIsAskedForOverItToo) {
  ScriptedServer server(
      Always({SendBytes(PlainReply(200, "application/json", R"({"data":[{"id":"m"}]})"))}),
      certificate_.server());
  const Target target = *ParseUrl(server.url());
  const auto trusting =
      StreamClient::Open(target, 10 * kSecond, {.verify = true, .ca_file = certificate_.file()});
  const auto body = (*trusting)->Fetch(GetText(target, {}, "/v1/models"));
  ASSERT_TRUE(body.ok()) << body.status();
  EXPECT_EQ(*body, R"({"data":[{"id":"m"}]})");
  const auto wary = StreamClient::Open(target, 10 * kSecond);
  const auto refused = (*wary)->Fetch(GetText(target, {}, "/v1/models"));
  EXPECT_THAT(std::string(Message(refused.status())), HasSubstr("self-signed certificate"));
}

}  // namespace
}  // namespace tandem::load
