#include "tests/bench/load/own_certificate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "common/check.h"

namespace tandem::load {
namespace {

constexpr long kHour = 3600;

void AddExtension(X509* certificate, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  TANDEM_CHECK(extension != nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

}  // namespace

OwnCertificate::OwnCertificate(const std::string& names)
    : server_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
  std::signal(SIGPIPE, SIG_IGN);  // what SSL_write() to a closed connection raises
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -kHour);
  X509_gmtime_adj(X509_getm_notAfter(certificate), kHour);
  X509_set_pubkey(certificate, key);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
  X509_set_issuer_name(certificate, subject);
  AddExtension(certificate, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(certificate, NID_subject_alt_name, names);
  X509_sign(certificate, key, EVP_sha256());
  TANDEM_CHECK(SSL_CTX_use_certificate(server_.get(), certificate) == 1 &&
               SSL_CTX_use_PrivateKey(server_.get(), key) == 1)
      << "the certificate is none";

  static int number = 0;
  file_ = std::filesystem::path(testing::TempDir()) /
          fmt::format("certificate_{}_{}.pem", ::getpid(), number++);
  std::FILE* out = std::fopen(file_.c_str(), "w");
  PEM_write_X509(out, certificate);
  std::fclose(out);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

OwnCertificate::~OwnCertificate() { std::filesystem::remove(file_); }

}  // namespace tandem::load
