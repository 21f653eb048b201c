// Walks a YAML tree along the schema, fills in a Cluster and collects every mistake.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/config/problem.h"
#include "common/config/schema.h"
#include "common/config/yaml_tree.h"

namespace tandem::config {

class Reader {
 public:
  // `check_files`: files that are named must exist. `model_given`: the path of the one model is
  // neither required nor looked at, because the command line names it.
  Reader(Cluster* cluster, bool check_files, const std::string& model_given);

  void Read(const YamlNode& root);

  const std::vector<Problem>& problems() const { return problems_; }

 private:
  void ReadSection(const Section& section, const YamlNode& node, const std::string& path,
                   const Target& target);
  void ReadEntry(const Section& section, const YamlNode& key, const YamlNode& value,
                 const std::string& path, const Target& target);
  void ReadList(const Section& section, const YamlNode& node, const std::string& path,
                const Target& target);
  void ReadItem(const Section& section, const YamlNode& node, const std::string& path,
                const Target& target);
  void ReadValue(const Key& key, const YamlNode& node, const std::string& path,
                 const Target& target);
  void RequireAll(const Section& section, const YamlNode& node, const std::string& path);
  Status SetScalar(const Key& key, const std::string& text, const Field& field);
  Status SetNumber(const Key& key, StatusOr<int64_t> number, const Field& field);
  Status SetFile(const Key& key, const std::string& text, std::string* field);
  void SetEndpoints(const YamlNode& node, const std::string& path, std::vector<std::string>* field);
  void SetHosts(const YamlNode& node, const std::string& path, std::vector<std::string>* field);
  void SetIntegers(const Key& key, const YamlNode& node, const std::string& path,
                   std::vector<int>* field);
  void CheckGroup(const YamlNode& node, const Group& group, const std::string& path);
  // replicas.cc
  void CheckNames(const YamlNode& name, const Group& group, const std::string& path);
  void CheckDevice(const YamlNode& node, const Group& group, const std::string& path);
  void RefuseKeys(const YamlNode& node, const std::string& path,
                  std::span<const std::string_view> keys, std::string_view why);
  // gpus.cc
  void SettleDevice(const YamlNode& node, Group* group);
  void TakeGpus(int index, Group* group);
  void CheckGpus(const YamlNode& node, const Group& group, const std::string& path);
  // hosts.cc
  void CheckHosts(const YamlNode& node, const Group& group, const std::string& path);
  void WriteOutCounts();
  void CheckAlias(const YamlNode& node, const std::string& path, const std::string& model,
                  Alias* alias);
  void Add(Position at, std::string message);

  // references.cc: what one part of the file says of another.
  void Resolve(const YamlNode& root);
  // False: which models there are is not clear, so nothing can be said of what names them.
  bool ResolveModels(const YamlNode& root);
  void ResolveGroup(const YamlNode& node, const std::string& path, Group* group);
  void ResolveAlias(const YamlNode& node, const std::string& path, const Alias& alias);
  void RequireModel(const std::string& name, Position at, const std::string& path);

  Cluster* cluster_;
  bool check_files_;
  std::string model_given_;
  std::vector<Problem> problems_;
  std::set<std::string> group_names_;  // counts written out
  std::set<std::string> rendezvous_;   // host and port
};

// `path` as seen from the folder of `file`, absolute.
std::string ResolvePath(const std::string& file, const std::string& path);

// OK when `path` is a file that can be read; otherwise what is wrong with it.
Status CheckFile(const std::string& path);

// The same of a model: a file, or a folder with a config.json.
Status CheckModel(const std::string& path);

}  // namespace tandem::config
