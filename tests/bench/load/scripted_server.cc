#include "tests/bench/load/scripted_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "common/check.h"

namespace tandem::load {

ScriptedServer::ScriptedServer(Answer answer, SSL_CTX* tls)
    : answer_(std::move(answer)), tls_(tls) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  TANDEM_CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
               ::listen(listener_, 1024) == 0)
      << "no port to listen on";
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

ScriptedServer::~ScriptedServer() {
  ::shutdown(listener_, SHUT_RDWR);  // accept() returns
  acceptor_.join();
  ::close(listener_);
  for (Connection& connection : connections_) ::shutdown(connection.fd, SHUT_RDWR);
  for (Connection& connection : connections_) {
    connection.thread.join();
    ::close(connection.fd);
  }
}

int ScriptedServer::num_connections() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(connections_.size());
}

void ScriptedServer::Accept() {
  while (true) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;  // what is sent leaves before a reset can take it back
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const std::lock_guard lock(mutex_);
    connections_.push_back({fd, std::thread([this, fd] { Serve(fd); })});
  }
}

namespace {

// Length of the request at the front of `in`, 0 while it is not whole; `head` is that of its head.
size_t WholeRequest(const std::string& in, size_t& head) {
  constexpr std::string_view kLength = "Content-Length: ";
  const size_t end = in.find("\r\n\r\n");
  if (end == std::string::npos) return 0;
  head = end + 4;
  const size_t at = in.find(kLength);
  const size_t body = at < end ? std::strtoul(in.c_str() + at + kLength.size(), nullptr, 10) : 0;
  return in.size() >= head + body ? head + body : 0;
}

ssize_t Receive(int fd, SSL* ssl, char* buffer, size_t size) {
  return ssl == nullptr ? ::recv(fd, buffer, size, 0)
                        : SSL_read(ssl, buffer, static_cast<int>(size));
}

ssize_t Send(int fd, SSL* ssl, const char* bytes, size_t size) {
  return ssl == nullptr ? ::send(fd, bytes, size, MSG_NOSIGNAL)
                        : SSL_write(ssl, bytes, static_cast<int>(size));
}

}  // namespace

// Sockets are closed by the destructor only, so that no number is taken twice; until then a
// connection that is over is shut down.
void ScriptedServer::Serve(int fd) {
  std::unique_ptr<SSL, void (*)(SSL*)> ssl(nullptr, SSL_free);
  if (tls_ != nullptr) {
    ssl.reset(SSL_new(tls_));
    SSL_set_fd(ssl.get(), fd);
    if (SSL_accept(ssl.get()) != 1) {
      ::shutdown(fd, SHUT_RDWR);
      return;
    }
  }
  std::string in;
  while (true) {
    size_t head = 0, whole = 0;
    while ((whole = WholeRequest(in, head)) == 0) {
      char buffer[16384];
      const ssize_t n = Receive(fd, ssl.get(), buffer, sizeof(buffer));
      if (n <= 0) return;
      in.append(buffer, static_cast<size_t>(n));
    }
    const Script script = answer_(in.substr(0, head), in.substr(head, whole - head));
    in.erase(0, whole);
    if (!Play(fd, ssl.get(), script)) return;
  }
}

bool ScriptedServer::Play(int fd, SSL* ssl, const Script& script) {
  for (const Step& step : script) {
    switch (step.kind) {
      case Step::Kind::kSend:
        for (size_t sent = 0; sent < step.bytes.size();) {
          const ssize_t n = Send(fd, ssl, step.bytes.data() + sent, step.bytes.size() - sent);
          if (n <= 0) return false;
          sent += static_cast<size_t>(n);
        }
        break;
      case Step::Kind::kWait:
        step.wait();
        break;
      case Step::Kind::kClose:
        ::shutdown(fd, SHUT_RDWR);
        return false;
      case Step::Kind::kReset: {
        // Closing with linger 0 sends RST; the number stays taken by a duplicate of the listener.
        const linger now{1, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        ::dup3(listener_, fd, O_CLOEXEC);
        return false;
      }
      case Step::Kind::kHang: {
        char byte = 0;
        while (Receive(fd, ssl, &byte, 1) > 0) {
        }
        return false;
      }
    }
  }
  return true;
}

Step SendBytes(std::string bytes) { return {Step::Kind::kSend, std::move(bytes)}; }

std::string StreamHead(std::string_view line_end) {
  return fmt::format(
      "HTTP/1.1 200 OK{0}Content-Type: text/event-stream{0}Transfer-Encoding: chunked{0}{0}",
      line_end);
}

std::string ChunkOf(std::string_view data) {
  return fmt::format("{:x}\r\n{}\r\n", data.size(), data);
}

std::string TextEvent(std::string_view text, std::string_view line_end) {
  return fmt::format(
      "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{0}\"}}}}]}}{1}{1}", text,
      line_end);
}

std::string WholeStream(int tokens, int prompt_tokens) {
  std::string out = StreamHead();
  for (int i = 0; i < tokens; ++i) out += ChunkOf(TextEvent("w"));
  out +=
      ChunkOf(fmt::format("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{},"
                          "\"completion_tokens\":{}}}}}\n\n",
                          prompt_tokens, tokens));
  return out + ChunkOf("data: [DONE]\n\n") + "0\r\n\r\n";
}

std::string PlainReply(int status, std::string_view type, std::string_view body) {
  return fmt::format("HTTP/1.1 {} X\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}", status,
                     type, body.size(), body);
}

}  // namespace tandem::load
