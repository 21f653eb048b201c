// A certificate that nobody but the test vouches for, made anew in each run.
#pragma once

#include <openssl/ssl.h>

#include <filesystem>
#include <memory>
#include <string>

namespace tandem::load {

class OwnCertificate {
 public:
  // names: as a certificate has them, "DNS:localhost,IP:127.0.0.1".
  explicit OwnCertificate(const std::string& names);
  ~OwnCertificate();
  OwnCertificate(const OwnCertificate&) = delete;
  OwnCertificate& operator=(const OwnCertificate&) = delete;

  SSL_CTX* server() const { return server_.get(); }  // presents it
  std::string file() const { return file_; }         // it, in PEM form

 private:
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> server_;
  std::filesystem::path file_;
};

}  // namespace tandem::load
