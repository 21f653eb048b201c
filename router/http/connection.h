// One client connection: reads requests, writes replies, one after the other. A client that goes
// away while its reply is made is noticed at once, because the socket is always being read.
//
// Included by connection.cc and server.cc only: Asio is heavy.
// Thread: the I/O thread. Lives as long as its coroutine or an operation of it.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "common/config/cluster_config.h"
#include "router/http/handler.h"
#include "router/http/reply.h"
#include "router/http/request_reader.h"

namespace tandem::http {

class Connection;

// What connections share.
struct ConnectionContext {
  const config::RouterLimits& limits;
  std::string session_header;  // empty: none
  Handler& handler;
  std::unordered_set<Connection*> open;  // all that live
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, ConnectionContext& context);
  ~Connection();

  boost::asio::awaitable<void> Run();
  boost::asio::awaitable<void> Refuse();  // over the limit: 503 and close

  // Called every now and then: ends waits whose time is over.
  void CheckDeadline(Nanos now);
  void CloseIfIdle();                  // between two requests
  void Close();                        // at once
  bool busy() const { return busy_; }  // a request is being read or answered

 private:
  template <class T>
  using Awaitable = boost::asio::awaitable<T>;

  // False: the connection is of no more use.
  Awaitable<bool> ReadRequest(HttpRequest& request);
  Awaitable<bool> ReadMore();
  void Append(size_t count);  // from chunk_ to in_
  size_t num_unparsed() const { return in_.size() - parsed_; }
  Awaitable<bool> HeaderRead();
  Answer Refused(const HttpRequest& request) const;
  Awaitable<bool> WriteAll(std::string_view bytes);
  Awaitable<bool> WriteAnswer(const Answer& answer, bool keep_alive);
  Awaitable<bool> Respond(HttpRequest request);
  Awaitable<bool> Generate(Endpoint endpoint, const HttpRequest& request);
  Awaitable<bool> Tokenize(Endpoint endpoint, const HttpRequest& request);
  Awaitable<bool> WriteReply(Reply& reply, std::shared_ptr<ApiCall> call);
  Awaitable<void> Linger();

  void Watch();  // reads while a reply is made: pipelined bytes, or the client's end
  void FailForPipelining();
  void StopWatch();
  void Wake();
  void CutOff();  // a reader so slow that its stream passed the bound

  boost::asio::ip::tcp::socket socket_;
  ConnectionContext& context_;
  Service& service_;
  boost::asio::steady_timer wake_;  // never expires: cancelled to say that something changed
  RequestReader reader_;
  std::string in_;     // read
  size_t parsed_ = 0;  // bytes of in_ that the reader has taken
  std::array<char, 16384> chunk_;
  Nanos deadline_ = 0;  // 0: none
  bool timed_out_ = false;
  bool busy_ = false;
  bool watching_ = false;
  bool gone_ = false;  // the client, or the socket is closed
  const char* gone_why_ = "client_gone";
  Nanos received_ = 0;               // first byte of this request
  std::optional<ApiError> refusal_;  // decided by the header, sent after the body
  std::shared_ptr<ApiCall> call_;    // being answered
  std::string request_id_;
};

}  // namespace tandem::http
