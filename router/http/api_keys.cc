#include "router/http/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>
#include <sstream>

namespace tandem::http {
namespace {

std::string_view Trim(std::string_view s) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

bool IsKeyCharacter(char c) { return c > ' ' && c < 0x7f; }

}  // namespace

ApiKeys::Digest ApiKeys::DigestOf(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

StatusOr<ApiKeys> ApiKeys::Load(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return InvalidArgument("{}:1: the API key file cannot be read; check the path and permissions",
                           path);
  }
  std::ostringstream text;
  text << file.rdbuf();
  return Parse(text.str(), path);
}

StatusOr<ApiKeys> ApiKeys::Parse(std::string_view text, const std::string& path) {
  ApiKeys keys;
  int line = 0;
  while (!text.empty()) {
    ++line;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view key = Trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (key.empty() || key.front() == '#') continue;
    if (!std::all_of(key.begin(), key.end(), IsKeyCharacter)) {
      return InvalidArgument("{}:{}: an API key has no spaces and is plain ASCII; one key a line",
                             path, line);
    }
    keys.digests_.push_back(DigestOf(key));
  }
  if (keys.digests_.empty()) {
    return InvalidArgument("{}:{}: no API key here; add one a line, or leave api_keys_file out",
                           path, std::max(line, 1));
  }
  return keys;
}

uint64_t ApiKeys::ClientOf(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return 0;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(authorization[i])) != kScheme[i]) return 0;
  }
  const Digest digest = DigestOf(Trim(authorization.substr(kScheme.size())));
  int matches = 0;  // all keys are tried
  for (const Digest& known : digests_) {
    matches += CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0 ? 1 : 0;
  }
  uint64_t client = 0;
  std::memcpy(&client, digest.data(), sizeof(client));
  return matches > 0 ? client | 1 : 0;
}

}  // namespace tandem::http
