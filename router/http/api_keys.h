// The keys that clients may present as `Authorization: Bearer KEY`. Held as SHA-256 digests; a
// comparison takes the same time whichever key is tried and wherever it differs.
//
// Thread: immutable, any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace tandem::http {

class ApiKeys {
 public:
  ApiKeys() = default;  // no authentication

  // As config::ReadApiKeys and ParseApiKeys.
  static StatusOr<ApiKeys> Load(const std::string& path);
  static StatusOr<ApiKeys> Parse(std::string_view text, const std::string& path);

  bool required() const { return !digests_.empty(); }
  bool several() const { return digests_.size() > 1; }
  // `authorization`: the header's value.
  bool Allows(std::string_view authorization) const { return ClientOf(authorization) != 0; }
  // A number of the key in it, the same for as long as the key is; 0: it holds none of the keys.
  uint64_t ClientOf(std::string_view authorization) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  explicit ApiKeys(const std::vector<std::string>& keys);
  static Digest DigestOf(std::string_view key);
  std::vector<Digest> digests_;
};

}  // namespace tandem::http
