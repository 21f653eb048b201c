// An HTTP server on real sockets whose every byte, and its moment, a test decides.
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tandem::load {

// What is done with one request, step by step.
struct Step {
  enum class Kind { kSend, kWait, kClose, kReset, kHang } kind = Kind::kSend;
  std::string bytes = {};           // kSend
  std::function<void()> wait = {};  // kWait: returns when the script may go on
};
using Script = std::vector<Step>;

class ScriptedServer {
 public:
  // `answer` is called with head and body of each request, from the connection's thread, under no
  // lock. After its script the connection takes the next request.
  using Answer = std::function<Script(const std::string& head, const std::string& body)>;
  // tls: what connections speak; null: none. Borrowed.
  explicit ScriptedServer(Answer answer, SSL_CTX* tls = nullptr);
  ~ScriptedServer();  // connections are cut

  int port() const { return port_; }
  std::string url() const {
    return (tls_ == nullptr ? "http://127.0.0.1:" : "https://127.0.0.1:") + std::to_string(port_);
  }
  int num_connections() const;  // taken so far

 private:
  struct Connection {
    int fd;
    std::thread thread;
  };
  void Accept();
  void Serve(int fd);
  // ssl: null without TLS. False: the connection is over.
  bool Play(int fd, SSL* ssl, const Script& script);

  Answer answer_;
  SSL_CTX* const tls_;
  int listener_ = -1;
  int port_ = 0;
  std::thread acceptor_;
  mutable std::mutex mutex_;
  std::list<Connection> connections_;
};

// Pieces of replies.
Step SendBytes(std::string bytes);
std::string StreamHead(std::string_view line_end = "\r\n");  // chunked
std::string ChunkOf(std::string_view data);                  // the chunked coding of it
std::string TextEvent(std::string_view text, std::string_view line_end = "\n");
// A whole stream of `tokens` text events, usage and [DONE].
std::string WholeStream(int tokens, int prompt_tokens = 3);
std::string PlainReply(int status, std::string_view type, std::string_view body);

}  // namespace tandem::load
