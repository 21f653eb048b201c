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
  kHeader,     // name of an HTTP header
  kName,       // see CheckName
  kFile,       // path of a file that must exist; relative to the cluster file
  kNewFile,    // path of a file that is made when absent; relative to the cluster file
  kFolder,     // path of a folder; relative to the cluster file
  kInteger,    // min to max, a multiple of `multiple`; or `zero`, which is 0
  kFlag,       // true or false
  kBytes,      // min to max; or `zero`, which is 0
  kDuration,   // min to max
  kChoice,     // one of `choices`
  kAddress,    // IP address and port
  kEndpoints,  // list of what CheckEndpoint accepts
  kHosts,      // list of what CheckHost accepts
  kIntegers,   // list of integers, each min to max, none twice
};

// What a key sets.
struct AddressField {
  std::string* host;
  int* port;
};
using Field = std::variant<int*, int64_t*, bool*, std::string*, std::vector<std::string>*,
                           std::vector<int>*, AddressField>;

// What is being filled in: the cluster and, of each list, the entry being read. Keys of other
// sections ignore those.
struct Target {
  Cluster& cluster;
  Model& model;
  Group& group;
  Alias& alias;
  AliasChoice& choice;
  std::string& alias_model;  // what an alias says instead of choices
};

// Entries of lists for a Target that is not reading any.
struct Entries {
  Model model;
  Group group;
  Alias alias;
  AliasChoice choice;
  std::string alias_model;
  Target Of(Cluster& cluster) { return {cluster, model, group, alias, choice, alias_model}; }
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
  bool live = false;           // a running router reads it again
  std::string_view zero = {};  // text of a size or integer that stands for 0; empty: none does
};

struct Section {
  std::string_view path;    // "router.limits"; empty: the file itself
  std::string_view parent;  // "router"
  std::string_view name;    // "limits"
  std::string_view help;
  bool required = false;
  bool list = false;  // of sections like this one
  // The section whose keys it has; empty: its own.
  std::string_view like = {};
  std::string_view keys() const { return like.empty() ? path : like; }
};

const std::vector<Section>& Sections();
const std::vector<Key>& Keys();

// Names that may stand in a section: its keys and the sections inside it.
std::vector<std::string> NamesIn(std::string_view section);

// The value of `key`, as DefaultText says it.
std::string ValueText(const Key& key, const Target& target);
std::string TypeText(const Key& key);     // "integer, 1 to 64"
std::string DefaultText(const Key& key);  // "required", "none", "256MiB"

}  // namespace tandem::config
