#include "bench/load/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <utility>

#include "common/check.h"

namespace tandem::load {
namespace {

// The oldest error of the thread, which is the cause; the others are where it passed.
std::string FirstError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason != nullptr ? reason : "an error without a name";
}

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSession {
  void operator()(SSL* session) const { SSL_free(session); }
};

}  // namespace

struct TlsContext::Impl {
  std::unique_ptr<SSL_CTX, FreeContext> context;
  std::string host;
};

TlsContext::~TlsContext() = default;

StatusOr<std::unique_ptr<TlsContext>> TlsContext::Make(const TlsOptions& options,
                                                       std::string host) {
  std::unique_ptr<TlsContext> made(new TlsContext);
  made->impl_ = std::make_unique<Impl>();
  made->impl_->host = std::move(host);
  made->impl_->context.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = made->impl_->context.get();
  if (context == nullptr) return Internal("TLS: {}", FirstError());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
  constexpr unsigned char kHttp1[] = "\x08http/1.1";
  SSL_CTX_set_alpn_protos(context, kHttp1, sizeof(kHttp1) - 1);
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (!options.verify) return made;
  const bool loaded = options.ca_file.empty()
                          ? SSL_CTX_set_default_verify_paths(context) == 1
                          : SSL_CTX_load_verify_file(context, options.ca_file.c_str()) == 1;
  if (!loaded) {
    return InvalidArgument("{}: no certificates in PEM form in it: {}",
                           options.ca_file.empty() ? "the system's authorities" : options.ca_file,
                           FirstError());
  }
  return made;
}

struct TlsSession::Impl {
  std::unique_ptr<SSL, FreeSession> ssl;
  BIO* from_socket = nullptr;  // both owned by ssl
  BIO* to_socket = nullptr;
};

TlsSession::TlsSession(const TlsContext& context) : impl_(std::make_unique<Impl>()) {
  impl_->ssl.reset(SSL_new(context.impl_->context.get()));
  impl_->from_socket = BIO_new(BIO_s_mem());
  impl_->to_socket = BIO_new(BIO_s_mem());
  SSL* ssl = impl_->ssl.get();
  TANDEM_CHECK(ssl != nullptr && impl_->from_socket != nullptr && impl_->to_socket != nullptr)
      << "no memory for a TLS session";
  SSL_set_bio(ssl, impl_->from_socket, impl_->to_socket);
  SSL_set_connect_state(ssl);
  const std::string& host = context.impl_->host;
  // An address is looked for among the certificate's addresses, and is no name to ask for.
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1) return;
  SSL_set1_host(ssl, host.c_str());
  SSL_set_tlsext_host_name(ssl, host.c_str());
}

TlsSession::~TlsSession() = default;

TlsSession::State TlsSession::Feed(std::string_view from_socket, std::string& plain,
                                   std::string& to_send) {
  SSL* ssl = impl_->ssl.get();
  ERR_clear_error();
  BIO_write(impl_->from_socket, from_socket.data(), static_cast<int>(from_socket.size()));
  if (state_ == State::kHandshake) Handshake();
  char buffer[1 << 14];  // a record's most
  while (state_ == State::kOpen) {
    const int n = SSL_read(ssl, buffer, sizeof(buffer));
    if (n > 0) {
      plain.append(buffer, static_cast<size_t>(n));
      continue;
    }
    const int error = SSL_get_error(ssl, n);
    if (error == SSL_ERROR_WANT_READ) break;
    if (error == SSL_ERROR_ZERO_RETURN) {
      state_ = State::kClosed;
    } else {
      Fail();
    }
  }
  TakeOutput(to_send);  // the alert of a failure too
  return state_;
}

void TlsSession::Handshake() {
  const int done = SSL_do_handshake(impl_->ssl.get());
  if (done == 1) {
    state_ = State::kOpen;
  } else if (SSL_get_error(impl_->ssl.get(), done) != SSL_ERROR_WANT_READ) {
    Fail();
  }
}

void TlsSession::Fail() {
  state_ = State::kFailed;
  const long verified = SSL_get_verify_result(impl_->ssl.get());
  const bool refused = (SSL_get_verify_mode(impl_->ssl.get()) & SSL_VERIFY_PEER) != 0;
  error_ = fmt::format("TLS: {}", FirstError());
  if (refused && verified != X509_V_OK) {
    error_ += fmt::format(": {}", X509_verify_cert_error_string(verified));
  }
}

void TlsSession::Write(std::string_view plain, std::string& to_send) {
  TANDEM_CHECK(state_ == State::kOpen) << "the session is not open";
  if (plain.empty()) return;
  const int n = SSL_write(impl_->ssl.get(), plain.data(), static_cast<int>(plain.size()));
  TANDEM_CHECK(n == static_cast<int>(plain.size())) << n << " of " << plain.size() << " bytes";
  TakeOutput(to_send);
}

void TlsSession::TakeOutput(std::string& to_send) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(impl_->to_socket, &data);
  if (size <= 0) return;
  to_send.append(data, static_cast<size_t>(size));
  BIO_reset(impl_->to_socket);
}

}  // namespace tandem::load
