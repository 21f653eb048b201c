// HTTP workers that compute nothing, for routers to stand before (bench/peers/routers): each
// listens on a port of its own and answers /v1/completions and /v1/chat/completions with a stream
// of `max_tokens` tokens, one event each, the first at once and the others `--token-gap` apart.
// Ports are written to standard output, one to a line. One thread.
#include <CLI/CLI.hpp>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr uint64_t kMaxBody = 16 << 20;

std::string HttpChunk(const std::string& text) {
  char size[20];
  std::snprintf(size, sizeof(size), "%zx\r\n", text.size());
  return size + text + "\r\n";
}

// What every reply is made of; the same bytes for each token.
struct Replies {
  std::chrono::microseconds token_gap{0};
  std::string head =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  std::string chat_token = HttpChunk(
      "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\","
      "\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":"
      "{\"content\":\" word\"},\"finish_reason\":null}]}\n\n");
  std::string text_token = HttpChunk(
      "data: {\"id\":\"cmpl-0123456789abcdef\",\"object\":\"text_completion\","
      "\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,"
      "\"text\":\" word\",\"finish_reason\":null}]}\n\n");

  static std::string End(int64_t tokens) {
    return HttpChunk(
               "data: {\"id\":\"cmpl-0123456789abcdef\",\"object\":\"text_completion\","
               "\"created\":1700000000,\"model\":\"mock\",\"choices\":[],\"usage\":"
               "{\"prompt_tokens\":1,\"completion_tokens\":" +
               std::to_string(tokens) + ",\"total_tokens\":" + std::to_string(tokens + 1) +
               "}}\n\n") +
           HttpChunk("data: [DONE]\n\n") + "0\r\n\r\n";
  }
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, const Replies& replies)
      : socket_(std::move(socket)), replies_(replies), timer_(socket_.get_executor()) {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
  }

  void Read() {
    parser_.emplace();
    parser_->body_limit(kMaxBody);
    http::async_read(socket_, buffer_, *parser_,
                     [self = shared_from_this()](error_code error, size_t) {
                       if (!error) self->Answer();
                     });
  }

 private:
  void Answer() {
    const http::request<http::string_body>& request = parser_->get();
    if (request.method() != http::verb::post) return AnswerText(http::status::ok, kAbout);
    error_code error;
    const boost::json::value body = boost::json::parse(request.body(), error);
    const boost::json::object* fields = error ? nullptr : body.if_object();
    const boost::json::value* tokens = fields ? fields->if_contains("max_tokens") : nullptr;
    if (tokens == nullptr || !tokens->is_int64()) {
      return AnswerText(http::status::bad_request, "{\"error\":\"max_tokens is missing\"}");
    }
    total_ = left_ = tokens->as_int64();
    token_ = request.target().find("chat") != std::string_view::npos ? &replies_.chat_token
                                                                     : &replies_.text_token;
    Write(replies_.head);
  }

  void AnswerText(http::status status, const char* text) {
    auto reply = std::make_shared<http::response<http::string_body>>(status, 11);
    reply->set(http::field::content_type, "application/json");
    reply->body() = text;
    reply->prepare_payload();
    http::async_write(socket_, *reply,
                      [self = shared_from_this(), reply](error_code error, size_t) {
                        if (!error) self->Read();
                      });
  }

  // Each event is a write of its own, as a worker that has just computed it would do.
  void Write(const std::string& text) {
    asio::async_write(socket_, asio::buffer(text),
                      [self = shared_from_this()](error_code error, size_t) {
                        if (!error) self->Next();
                      });
  }

  void Next() {
    if (left_ < 0) return Read();
    if (left_ == 0) {
      left_ = -1;
      end_ = Replies::End(total_);
      return Write(end_);
    }
    const bool first = left_-- == total_;
    if (first || replies_.token_gap.count() == 0) {
      due_ = std::chrono::steady_clock::now();
      return Write(*token_);
    }
    due_ += replies_.token_gap;
    timer_.expires_at(due_);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error) self->Write(*self->token_);
    });
  }

  static constexpr const char* kAbout =
      "{\"status\":\"ok\",\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\"}],"
      "\"model_path\":\"mock\",\"is_generation\":true}";

  tcp::socket socket_;
  const Replies& replies_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  const std::string* token_ = nullptr;
  std::string end_;
  int64_t total_ = 0;
  int64_t left_ = 0;  // -1: the end is written too
  std::chrono::steady_clock::time_point due_;
};

void Accept(tcp::acceptor& acceptor, const Replies& replies) {
  acceptor.async_accept([&](error_code error, tcp::socket socket) {
    if (!error) std::make_shared<Session>(std::move(socket), replies)->Read();
    Accept(acceptor, replies);
  });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("HTTP workers that compute nothing.", "tandem-bench-mock-workers");
  int count = 1;
  int64_t gap_us = 0;
  app.add_option("--count", count, "workers, each on a port of its own")
      ->check(CLI::PositiveNumber);
  app.add_option("--token-gap", gap_us, "microseconds between tokens")
      ->check(CLI::NonNegativeNumber);
  CLI11_PARSE(app, argc, argv);
  Replies replies;
  replies.token_gap = std::chrono::microseconds(gap_us);
  asio::io_context io(1);
  std::vector<tcp::acceptor> acceptors;
  for (int i = 0; i < count; ++i) {
    acceptors.emplace_back(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    std::printf("%d\n", acceptors.back().local_endpoint().port());
  }
  std::fflush(stdout);
  for (tcp::acceptor& acceptor : acceptors) Accept(acceptor, replies);
  io.run();
}
