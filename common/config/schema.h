// The keys of a cluster file, each described once: the reader, the defaults and the tables of
// docs/cluster_file.md all come from here (a test compares the document).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/config/cluster_config.h"

namespace tandem::config {

enum class KeyType {
  kText,       // any text that is not empty
  kName,       // see CheckName
  kFile,       // path of a file that must exist; relative to the cluster file
  kFolder,     // path of a folder; relative to the cluster file
  kInteger,    // min to max, a multiple of `multiple`
  kBytes,      // min to max
  kDuration,   // min to max
  kChoice,     // one of `choices`
  kAddress,    // IP address and port
  kEndpoints,  // list of what CheckEndpoint accepts
};

// What a key sets.
struct AddressField {
  std::string* host;
  int* port;
};
using Field = std::variant<int*, int64_t*, std::string*, std::vector<std::string>*, AddressField>;

// `group` is the one being read; keys of other sections ignore it.
struct Target {
  Cluster& cluster;
  Group& group;
};

struct Key {
  std::string_view section;  // path of a Section
  std::string_view name;
  KeyType type;
  Field (*field)(const Target&);
  std::string_view help;
  int64_t min = 0;
  int64_t max = 0;
  int64_t multiple = 1;
  std::vector<std::string> choices = {};
  bool required = false;
};

struct Section {
  std::string_view path;    // "router.limits"; empty: the file itself
  std::string_view parent;  // "router"
  std::string_view name;    // "limits"
  std::string_view help;
  bool required = false;
  bool list = false;  // of sections like this one
};

const std::vector<Section>& Sections();
const std::vector<Key>& Keys();

// Names that may stand in a section: its keys and the sections inside it.
std::vector<std::string> NamesIn(std::string_view section);

std::string TypeText(const Key& key);     // "integer, 1 to 64"
std::string DefaultText(const Key& key);  // "required", "none", "256MiB"

}  // namespace tandem::config
