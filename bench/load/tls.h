// TLS of a client, as a transform: what came from a socket and what goes to it pass through memory,
// so whoever owns the socket does with it what it does without. The only file that knows OpenSSL.
//
// Thread: one.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"

namespace tandem::load {

struct TlsOptions {
  bool verify = true;   // the server's certificate, its chain and its name
  std::string ca_file;  // PEM, trusted instead of the system's authorities; empty: those
};

class TlsSession;

// What all sessions with one server share.
class TlsContext {
 public:
  // host: a name or an address, what the certificate must be for.
  static StatusOr<std::unique_ptr<TlsContext>> Make(const TlsOptions& options, std::string host);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class TlsSession;
  struct Impl;
  TlsContext() = default;
  std::unique_ptr<Impl> impl_;
};

class TlsSession {
 public:
  enum class State : uint8_t { kHandshake, kOpen, kClosed, kFailed };

  // `context` outlives it.
  explicit TlsSession(const TlsContext& context);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Takes what came from the socket (nothing at first, which begins the handshake); appends what it
  // says to `plain`, and what the protocol itself has to send to `to_send`.
  State Feed(std::string_view from_socket, std::string& plain, std::string& to_send);

  // Appends what is to be sent for `plain`. REQUIRES: state() is kOpen.
  void Write(std::string_view plain, std::string& to_send);

  State state() const { return state_; }
  const std::string& error() const { return error_; }  // of kFailed: one line

 private:
  struct Impl;
  void Handshake();
  void Fail();
  void TakeOutput(std::string& to_send);

  std::unique_ptr<Impl> impl_;
  State state_ = State::kHandshake;
  std::string error_;
};

}  // namespace tandem::load
