// The HTTP server: one I/O thread that accepts, reads, routes and writes. Asio stays behind this.
//
// Thread: Run() makes its caller the I/O thread. Drain() and Stop(): any thread.
#pragma once

#include <memory>
#include <string>

#include "common/config/cluster_config.h"
#include "common/observe/metrics.h"
#include "common/status.h"
#include "router/http/api_keys.h"
#include "router/http/service.h"

namespace tandem::http {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0: one that is free
  config::RouterLimits limits;
  bool handle_signals = false;  // SIGTERM, SIGINT: Drain(), the second one Stop()
};

class Server {
 public:
  // Binds and listens; serves once Run() is called. Borrows tokenizer, template and metrics.
  static StatusOr<std::unique_ptr<Server>> Open(const ServerOptions& options,
                                                const ServiceOptions& service_options, ApiKeys keys,
                                                const text::Tokenizer& tokenizer,
                                                const text::ChatTemplate* chat_template,
                                                observe::Metrics& metrics);
  ~Server();

  // What a link needs; it must be gone before this is. Its port is given before Run().
  Service& service();

  int port() const;
  std::string url() const;  // "http://127.0.0.1:8000"

  void Run();    // until drained or stopped
  void Drain();  // new requests: 503; Run() returns once those in flight have ended, at the latest
                 // after limits.drain_timeout
  void Stop();   // at once

  struct Impl;  // of this room only

 private:
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::http
