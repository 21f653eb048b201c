// The HTTP server: one I/O thread that accepts, reads, routes and writes. Asio stays behind this.
//
// Thread: Run() makes its caller the I/O thread. Drain(), Stop() and Reload(): any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/config/cluster_config.h"
#include "common/observe/metrics.h"
#include "common/status.h"
#include "router/http/api_keys.h"
#include "router/http/service.h"

namespace tandem::http {

// What a running server takes over from a cluster file that is read again.
struct ServerSettings {
  config::RouterLimits limits;
  std::string session_header;  // empty: none
  ApiKeys keys;
  ServiceSettings service;

  // The settings of `cluster`, and the keys of the file it names.
  static StatusOr<ServerSettings> Of(const config::Cluster& cluster);
};

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0: one that is free
  // SIGTERM, SIGINT: Drain(), again a second or more later Stop(). SIGHUP: `reload`.
  bool handle_signals = false;
  // On the I/O thread. Not OK: it is logged and all stays as it was. Null: SIGHUP does nothing.
  std::function<StatusOr<ServerSettings>()> reload;
};

class Server {
 public:
  // Binds and listens; serves once Run() is called. Borrows `metrics` and what the models point to.
  // `service_options.settings` are ignored for those of `settings`.
  static StatusOr<std::unique_ptr<Server>> Open(const ServerOptions& options,
                                                const ServerSettings& settings,
                                                const ServiceOptions& service_options,
                                                observe::Metrics& metrics);
  ~Server();

  // What a link needs; it must be gone before this is. Its port is given before Run().
  Service& service();
  // The link's work, on the I/O thread: whenever `fd` is readable, every 50 ms at least, and
  // soon after each TurnLink(). Before Run(). `fd` is not owned.
  void SetLink(int fd, std::function<void()> turn);
  void TurnLink();  // I/O thread

  int port() const;
  std::string url() const;  // "http://127.0.0.1:8000"

  void Run();     // until drained or stopped
  void Drain();   // new requests: 503; Run() returns once those in flight have ended, at the latest
                  // after limits.drain_timeout
  void Stop();    // at once
  void Reload();  // as SIGHUP does

  struct Impl;  // of this room only

 private:
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::http
