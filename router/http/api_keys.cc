#include "router/http/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <cctype>
#include <cstring>

#include "common/config/api_keys.h"

namespace tandem::http {
ApiKeys::Digest ApiKeys::DigestOf(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

StatusOr<ApiKeys> ApiKeys::Load(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> keys, config::ReadApiKeys(path));
  return ApiKeys(keys);
}

StatusOr<ApiKeys> ApiKeys::Parse(std::string_view text, const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> keys, config::ParseApiKeys(text, path));
  return ApiKeys(keys);
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(DigestOf(key));
}

uint64_t ApiKeys::ClientOf(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return 0;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(authorization[i])) != kScheme[i]) return 0;
  }
  const Digest digest = DigestOf(config::TrimApiKey(authorization.substr(kScheme.size())));
  int matches = 0;  // all keys are tried
  for (const Digest& known : digests_) {
    matches += CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0 ? 1 : 0;
  }
  uint64_t client = 0;
  std::memcpy(&client, digest.data(), sizeof(client));
  return matches > 0 ? client | 1 : 0;
}

}  // namespace tandem::http
