#include "router/http/server.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <csignal>
#include <string_view>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "common/observe/log.h"
#include "router/http/connection.h"

namespace tandem::http {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using Error = boost::system::error_code;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

constexpr auto kSweepPeriod = std::chrono::milliseconds(50);  // of deadlines and of the drain
constexpr Nanos kLastWords = kSecond;  // to write error events after the drain's time is over
// Some senders deliver one wish twice: timeout(1) signals the process and its group.
constexpr Nanos kSameWish = kSecond;
constexpr int kMaxRefusing = 64;  // connections over the limit that still get a 503

ServiceOptions WithSettings(ServiceOptions options, const ServiceSettings& settings) {
  options.settings = settings;
  return options;
}

}  // namespace

struct Server::Impl {
  Impl(const ServerOptions& server_options, const ServerSettings& settings,
       const ServiceOptions& service_options, observe::Metrics& metrics)
      : options(server_options),
        limits(settings.limits),
        service(WithSettings(service_options, settings.service), metrics,
                [this](std::function<void()> job) { asio::post(io, std::move(job)); }),
        handler(service, settings.keys, metrics),
        context{limits, settings.session_header, handler, {}} {}
  ~Impl() { service.StopText(); }

  Status Listen();
  asio::awaitable<void> Accept();
  asio::awaitable<void> Sweep();
  asio::awaitable<void> Signals();
  void SetLink(int fd, std::function<void()> turn);
  void AwaitLink();
  void TurnLink();
  void Reload();
  void Drain();
  void Finish();
  std::vector<Connection*> Connections() const {
    return {context.open.begin(), context.open.end()};
  }

  const ServerOptions options;
  config::RouterLimits limits;
  Service service;
  Handler handler;
  ConnectionContext context;
  asio::io_context io{1};  // after what its handlers use, so that it goes first
  tcp::acceptor acceptor{io};
  asio::signal_set signals{io};
  asio::steady_timer sweep_timer{io};
  asio::posix::stream_descriptor link{io};
  std::function<void()> turn_link;
  bool link_turn_posted = false;
  bool finished = false;
  Nanos drain_began = 0;
  Nanos drain_until = 0;  // 0: not draining
};

Status Server::Impl::Listen() {
  Error error;
  tcp::resolver resolver(io);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return InvalidArgument("cannot resolve the listen address '{}': {}", options.host,
                           error.message());
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return Unavailable("cannot listen on {}:{}: {}", options.host, options.port, error.message());
  }
  return OkStatus();
}

asio::awaitable<void> Server::Impl::Accept() {
  while (!finished) {
    tcp::socket socket(io);
    const auto [error] = co_await acceptor.async_accept(socket, kAwait);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {  // out of descriptors, most likely: wait for one
      observe::LogWarn("cannot accept a connection: {}", error.message());
      asio::steady_timer pause(io, kSweepPeriod);
      const auto [ignored] = co_await pause.async_wait(kAwait);
      (void)ignored;
      continue;
    }
    const int open = static_cast<int>(context.open.size());
    if (open >= limits.max_connections + kMaxRefusing) continue;  // closes it
    const auto connection = std::make_shared<Connection>(std::move(socket), context);
    const bool refuse = open >= limits.max_connections;
    asio::co_spawn(io, refuse ? connection->Refuse() : connection->Run(), asio::detached);
  }
}

asio::awaitable<void> Server::Impl::Sweep() {
  while (!finished) {
    sweep_timer.expires_after(kSweepPeriod);
    const auto [ignored] = co_await sweep_timer.async_wait(kAwait);
    (void)ignored;
    const Nanos now = MonotonicNow();
    const std::vector<Connection*> connections = Connections();
    for (Connection* connection : connections) connection->CheckDeadline(now);
    service.Tick(now);
    if (turn_link) turn_link();
    if (drain_until == 0) continue;
    const bool busy =
        service.num_active() > 0 || std::any_of(connections.begin(), connections.end(),
                                                [](const Connection* c) { return c->busy(); });
    if (now >= drain_until) {
      service.FailAll(ServerError(503, "draining", "the server shut down before this ended"));
    }
    if (!busy || now >= drain_until + kLastWords) Finish();
  }
}

void Server::Impl::SetLink(int fd, std::function<void()> turn) {
  const int copy = ::dup(fd);  // for Asio to close
  TANDEM_CHECK(copy >= 0) << "no descriptors left";
  link.assign(copy);
  turn_link = std::move(turn);
}

void Server::Impl::AwaitLink() {
  link.async_wait(asio::posix::stream_descriptor::wait_read, [this](Error error) {
    if (error || finished) return;
    turn_link();
    AwaitLink();
  });
}

void Server::Impl::TurnLink() {
  if (std::exchange(link_turn_posted, true)) return;
  asio::post(io, [this] {
    link_turn_posted = false;
    if (!finished) turn_link();
  });
}

asio::awaitable<void> Server::Impl::Signals() {
  while (!finished) {
    const auto [error, signal] = co_await signals.async_wait(kAwait);
    if (error) co_return;
    if (signal == SIGHUP) {
      Reload();
    } else if (drain_until != 0 && MonotonicNow() - drain_began < kSameWish) {
      continue;
    } else if (drain_until != 0) {
      observe::LogWarn("second signal {}: stopping at once", signal);
      Finish();
    } else {
      Drain();
    }
  }
}

void Server::Impl::Reload() {
  if (!options.reload) return;
  StatusOr<ServerSettings> settings = options.reload();
  if (!settings.ok()) {
    observe::LogError(
        "the cluster file, or one that it names, has mistakes, so all stays as it was:");
    std::string_view lines = Message(settings.status());
    while (!lines.empty()) {  // a record each
      const size_t end = std::min(lines.find('\n'), lines.size());
      observe::LogError("{}", lines.substr(0, end));
      lines.remove_prefix(std::min(end + 1, lines.size()));
    }
    return;
  }
  limits = settings->limits;
  context.session_header = settings->session_header;
  handler.SetKeys(std::move(settings->keys));
  service.Reload(settings->service);
  observe::LogInfo("the cluster file was read again");
}

void Server::Impl::Drain() {
  if (drain_until != 0 || finished) return;
  observe::LogInfo("draining: {} requests in flight have up to {} s", service.num_active(),
                   limits.drain_timeout / kSecond);
  drain_began = MonotonicNow();
  drain_until = drain_began + limits.drain_timeout;
  service.Drain();
  for (Connection* connection : Connections()) connection->CloseIfIdle();
}

void Server::Impl::Finish() {
  if (finished) return;
  finished = true;
  service.Drain();
  service.FailAll(ServerError(503, "draining", "the server was stopped"));
  Error ignored;
  acceptor.close(ignored);
  signals.cancel(ignored);
  sweep_timer.cancel();
  link.close(ignored);
  for (Connection* connection : Connections()) connection->Close();
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

StatusOr<ServerSettings> ServerSettings::Of(const config::Cluster& cluster) {
  ServerSettings settings;
  settings.limits = cluster.router.limits;
  settings.session_header = cluster.router.session_header;
  settings.service = ServiceSettings::Of(cluster);
  if (!cluster.router.api_keys_file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(settings.keys, ApiKeys::Load(cluster.router.api_keys_file));
    settings.service.several_keys = settings.keys.several();
  }
  return settings;
}

StatusOr<std::unique_ptr<Server>> Server::Open(const ServerOptions& options,
                                               const ServerSettings& settings,
                                               const ServiceOptions& service_options,
                                               observe::Metrics& metrics) {
  auto impl = std::make_unique<Impl>(options, settings, service_options, metrics);
  TANDEM_RETURN_IF_ERROR(impl->Listen());
  if (options.handle_signals) {
    Error error;
    impl->signals.add(SIGTERM, error);
    if (!error) impl->signals.add(SIGINT, error);
    if (!error) impl->signals.add(SIGHUP, error);
    if (error) return Internal("cannot catch signals: {}", error.message());
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Service& Server::service() { return impl_->service; }

int Server::port() const {
  Error ignored;
  return impl_->acceptor.local_endpoint(ignored).port();
}

std::string Server::url() const {
  const bool v6 = impl_->options.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", v6 ? "[" : "", impl_->options.host, v6 ? "]" : "", port());
}

void Server::Run() {
  asio::co_spawn(impl_->io, impl_->Accept(), asio::detached);
  asio::co_spawn(impl_->io, impl_->Sweep(), asio::detached);
  if (impl_->options.handle_signals) {
    asio::co_spawn(impl_->io, impl_->Signals(), asio::detached);
  }
  if (impl_->turn_link) impl_->AwaitLink();
  impl_->io.run();
}

void Server::SetLink(int fd, std::function<void()> turn) { impl_->SetLink(fd, std::move(turn)); }

void Server::TurnLink() { impl_->TurnLink(); }

void Server::Drain() {
  asio::post(impl_->io, [this] { impl_->Drain(); });
}

void Server::Reload() {
  asio::post(impl_->io, [this] { impl_->Reload(); });
}

void Server::Stop() {
  asio::post(impl_->io, [this] { impl_->Finish(); });
}

}  // namespace tandem::http
