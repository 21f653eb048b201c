// The file of `router.api_keys_file`. Who reads it: the router, and `tandem` before it has a router
// read it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/status.h"

namespace tandem::config {

// One key a line; blank lines and those that begin with '#' are skipped. Errors (kInvalidArgument)
// name file, line and what would be right. A file without a key is one: it would lock everybody
// out.
StatusOr<std::vector<std::string>> ReadApiKeys(const std::string& path);
// The same of what a file holds; `path` is for errors.
StatusOr<std::vector<std::string>> ParseApiKeys(std::string_view text, const std::string& path);

// Without the blanks around it, in the file as in a request.
std::string_view TrimApiKey(std::string_view s);

// Whether a router could take the cluster's keys; OK where it has none.
Status CheckApiKeys(const Cluster& cluster);

}  // namespace tandem::config
