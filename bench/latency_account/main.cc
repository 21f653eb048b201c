// Holds the latency account to what a client sees: streams chat requests over one keep-alive
// connection with x-tandem-timing, and compares the time to the first content chunk with the sum of
// the account's parts. Unloaded system; the bar is a median residual below 5 % of the client's TTFT
// or 0.3 ms, whichever is more. Exit 0: held; 1: missed; 2: could not measure.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/status.h"

namespace tandem {
namespace {

namespace json = boost::json;

struct Options {
  std::string host = "127.0.0.1";
  int port = 8000;
  int requests = 200;
  int prompt_words = 40;
  int max_tokens = 4;
  std::string json_file;
};

// One connection; reads a chunked reply as the text of its body, as far as it has come.
class Connection {
 public:
  ~Connection() {
    if (fd_ >= 0) ::close(fd_);
  }

  Status Open(const Options& options) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(options.port));
    if (::inet_pton(AF_INET, options.host.c_str(), &address.sin_addr) != 1) {
      return InvalidArgument("{} is not an IPv4 address", options.host);
    }
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      return Unavailable("no router at {}:{}", options.host, options.port);
    }
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return OkStatus();
  }

  Status Send(std::string_view data) {
    while (!data.empty()) {
      const ssize_t n = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
      if (n <= 0) return Unavailable("the router closed the connection");
      data.remove_prefix(static_cast<size_t>(n));
    }
    return OkStatus();
  }

  // Appends what has come, at least one byte.
  Status Receive(std::string& text) {
    char buffer[65536];
    const ssize_t n = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (n <= 0) return Unavailable("the router closed the connection");
    text.append(buffer, static_cast<size_t>(n));
    return OkStatus();
  }

 private:
  int fd_ = -1;
};

struct Sample {
  double client_us = 0, account_us = 0;
  double residual_us() const { return client_us - account_us; }
};

// The payloads of complete `data: ` lines from `begin` on; moves `begin` behind them.
std::vector<std::string> TakeEvents(const std::string& text, size_t& begin) {
  std::vector<std::string> events;
  for (;;) {
    const size_t at = text.find("data: ", begin);
    const size_t end = at == std::string::npos ? at : text.find("\n\n", at);
    if (end == std::string::npos) return events;
    events.push_back(text.substr(at + 6, end - at - 6));
    begin = end + 2;
  }
}

bool HasContent(const json::object& chunk) {
  const json::value* choices = chunk.if_contains("choices");
  if (choices == nullptr || choices->as_array().empty()) return false;
  const json::value* delta = choices->as_array()[0].as_object().if_contains("delta");
  const json::value* content =
      delta == nullptr ? nullptr : delta->as_object().if_contains("content");
  return content != nullptr && content->is_string() && !content->as_string().empty();
}

double SumOfParts(const json::object& timing) {
  double sum = 0;
  for (const auto& part : timing.at("parts").as_object()) sum += part.value().to_number<double>();
  return sum;
}

std::string RequestText(const Options& options, const std::string& model, int number) {
  std::string prompt = "Question " + std::to_string(number) + ":";
  for (int i = 0; i < options.prompt_words; ++i) prompt += " word" + std::to_string(i * 7 % 10);
  const std::string body = json::serialize(
      json::object{{"model", model},
                   {"messages", json::array{json::object{{"role", "user"}, {"content", prompt}}}},
                   {"max_tokens", options.max_tokens},
                   {"temperature", 0},
                   {"stream", true}});
  return fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n"
      "x-tandem-timing: 1\r\nContent-Length: {}\r\n\r\n{}",
      options.host, body.size(), body);
}

StatusOr<Sample> Measure(Connection& connection, const std::string& request) {
  Sample sample;
  std::string text;
  size_t begin = 0;
  const Nanos start = MonotonicNow();
  TANDEM_RETURN_IF_ERROR(connection.Send(request));
  while (text.find("\r\n0\r\n\r\n", begin == 0 ? 0 : begin - 1) == std::string::npos) {
    TANDEM_RETURN_IF_ERROR(connection.Receive(text));
    const Nanos now = MonotonicNow();
    if (text.starts_with("HTTP/1.1 ") && !text.starts_with("HTTP/1.1 200")) {
      return Unavailable("the router answered: {}", text);
    }
    for (const std::string& event : TakeEvents(text, begin)) {
      if (event == "[DONE]") continue;
      const json::object chunk = json::parse(event).as_object();
      if (sample.client_us == 0 && HasContent(chunk)) {
        sample.client_us = static_cast<double>(now - start) / kMicrosecond;
      }
      if (const json::value* timing = chunk.if_contains("timing")) {
        sample.account_us = SumOfParts(timing->as_object());
      }
    }
  }
  if (sample.client_us == 0 || sample.account_us == 0) {
    return Unavailable("a reply without content or without a timing object");
  }
  return sample;
}

StatusOr<std::string> FirstModel(Connection& connection, const Options& options) {
  TANDEM_RETURN_IF_ERROR(
      connection.Send(fmt::format("GET /v1/models HTTP/1.1\r\nHost: {}\r\n\r\n", options.host)));
  std::string text;
  for (;;) {
    TANDEM_RETURN_IF_ERROR(connection.Receive(text));
    const size_t id = text.find("\"id\":\"");
    const size_t end = id == std::string::npos ? id : text.find('"', id + 6);
    if (end != std::string::npos && text.back() == '}') return text.substr(id + 6, end - id - 6);
  }
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

StatusOr<std::vector<Sample>> Run(const Options& options) {
  Connection connection;
  TANDEM_RETURN_IF_ERROR(connection.Open(options));
  TANDEM_ASSIGN_OR_RETURN(const std::string model, FirstModel(connection, options));
  std::vector<Sample> samples;
  const int warm_up = std::max(1, options.requests / 10);
  for (int i = 0; i < warm_up + options.requests; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const Sample sample,
                            Measure(connection, RequestText(options, model, i)));
    if (i >= warm_up) samples.push_back(sample);
  }
  return samples;
}

int Report(const std::vector<Sample>& samples, const Options& options) {
  std::vector<double> client, account, residual;
  int within = 0;
  for (const Sample& s : samples) {
    client.push_back(s.client_us);
    account.push_back(s.account_us);
    residual.push_back(std::abs(s.residual_us()));
    within += std::abs(s.residual_us()) <= std::max(0.05 * s.client_us, 300.0) ? 1 : 0;
  }
  const double median = Quantile(residual, 0.5);
  const double bar = std::max(0.05 * Quantile(client, 0.5), 300.0);
  std::printf("requests                 %zu\n", samples.size());
  std::printf("client TTFT, median      %.0f us (p95 %.0f)\n", Quantile(client, 0.5),
              Quantile(client, 0.95));
  std::printf("sum of parts, median     %.0f us\n", Quantile(account, 0.5));
  std::printf("residual, median         %.0f us (p95 %.0f); bar %.0f\n", median,
              Quantile(residual, 0.95), bar);
  std::printf("requests within the bar  %.1f %%\n",
              100.0 * within / static_cast<double>(samples.size()));
  if (!options.json_file.empty()) {
    std::FILE* file = std::fopen(options.json_file.c_str(), "w");
    if (file == nullptr) return 2;
    std::fprintf(file,
                 "{\"requests\":%zu,\"client_ttft_us\":%.1f,\"account_us\":%.1f,"
                 "\"residual_us\":%.1f,\"residual_p95_us\":%.1f,\"bar_us\":%.1f}\n",
                 samples.size(), Quantile(client, 0.5), Quantile(account, 0.5), median,
                 Quantile(residual, 0.95), bar);
    std::fclose(file);
  }
  return median <= bar ? 0 : 1;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::Options options;
  CLI::App app("Compares the latency account with what a client sees");
  app.add_option("--host", options.host, "IPv4 address of the router");
  app.add_option("--port", options.port, "its port");
  app.add_option("--requests", options.requests, "measured requests")->check(CLI::Range(1, 100000));
  app.add_option("--prompt-words", options.prompt_words, "length of the prompt");
  app.add_option("--json", options.json_file, "write the figures there too");
  CLI11_PARSE(app, argc, argv);
  const auto samples = tandem::Run(options);
  if (!samples.ok()) {
    std::fprintf(stderr, "%s\n", std::string(tandem::Message(samples.status())).c_str());
    return 2;
  }
  return tandem::Report(*samples, options);
}
