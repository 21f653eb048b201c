// Many requests at once over non-blocking sockets and one epoll set. Connections are kept and used
// again, as a gateway's are. A request that a kept connection ends before a byte of response (the
// server closed it while idle) is sent once more on a new one; nothing else is tried again.
//
// With https a request's latency holds the handshake, where its connection is a new one.
//
// Thread: one. The only file of bench/load that knows a socket.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "bench/load/exchange.h"
#include "bench/load/record.h"
#include "bench/load/target.h"
#include "bench/load/tls.h"
#include "common/status.h"

namespace tandem::load {

class StreamClient {
 public:
  // Looks the host up. Of several addresses the first that takes a connection is used.
  // `timeout`: of a request, from its sending to its end. `tls`: of a target with https.
  static StatusOr<std::unique_ptr<StreamClient>> Open(const Target& target, Nanos timeout,
                                                      const TlsOptions& tls = {});
  ~StreamClient();
  StreamClient(const StreamClient&) = delete;
  StreamClient& operator=(const StreamClient&) = delete;

  // Starts a request; record->sent is set. `record` must live until it has been in Wait's `ended`,
  // where every request comes exactly once.
  void Send(std::string request, Record* record, bool keep_text);

  // Sleeps until something happens or the clock shows `until`, and handles what happened. Appends
  // the requests that have ended.
  void Wait(Nanos until, std::vector<Record*>& ended);

  // Ends all that run as kCancelled; the next Wait tells of them.
  void CancelAll();

  int64_t num_connects() const { return num_connects_; }
  int64_t num_sent_again() const { return num_sent_again_; }

  // One blocking request on a connection of its own; the body of its response, or why there is
  // none.
  StatusOr<std::string> Fetch(const std::string& request) const;

 private:
  struct Connection;
  struct Deadline {
    Nanos at;
    uint64_t serial;  // of the request: a connection may have another by then
    Connection* connection;
  };

  StreamClient() = default;
  Status SetUp(const Target& target, const TlsOptions& tls);
  Connection& Take();  // an idle connection, or one to be opened
  void Dial(Connection& connection);
  void OnEvents(Connection& connection, uint32_t events);
  bool FinishConnect(Connection& connection);
  void Say(Connection& connection);  // its request
  bool Decrypt(Connection& connection, std::string_view& bytes);
  void ReadIdle(Connection& connection, std::string_view bytes);
  void Write(Connection& connection);
  void Read(Connection& connection);
  void OnClosed(Connection& connection);
  void Fail(Connection& connection, Outcome outcome, const std::string& why);
  void End(Connection& connection);
  void Disconnect(Connection& connection);
  void Close(Connection& connection);
  void Watch(Connection& connection, bool writes);
  static bool Live(const Deadline& deadline);
  Nanos FirstDeadline();
  void Expire(Nanos now);

  sockaddr_storage address_{};
  socklen_t address_size_ = 0;
  std::unique_ptr<TlsContext> tls_;  // null: http
  Nanos timeout_ = 0;
  int epoll_ = -1;
  int timer_ = -1;
  Nanos timer_at_ = 0;
  std::vector<std::unique_ptr<Connection>> connections_;  // never shrinks: a closed one is reused
  std::vector<Connection*> idle_;    // open, without a request; the latest used last
  std::vector<Connection*> closed_;  // without a socket
  std::deque<Deadline> deadlines_;   // of requests: all get the same time, so they are in order
  std::deque<Deadline> linger_;      // of responses that go on after [DONE]: likewise
  std::vector<Record*> ended_;       // since the last Wait
  std::string buffer_;
  std::string plain_;  // of buffer_, with TLS
  uint64_t next_serial_ = 1;
  int64_t num_connects_ = 0;
  int64_t num_sent_again_ = 0;
};

}  // namespace tandem::load
