#include "common/huggingface/model_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "common/hash.h"
#include "common/quoted.h"

namespace tandem::huggingface {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
// What else decides which tokens go in and what comes out as text.
constexpr const char* kTextFiles[] = {"tokenizer.json",        "tokenizer.model",
                                      "tokenizer_config.json", "special_tokens_map.json",
                                      "chat_template.jinja",   "generation_config.json"};
constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr size_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxShards = 4096;
constexpr size_t kSampleBytes = 64;  // of every tensor, in the fingerprint

std::string PathOf(const std::string& folder, std::string_view file) {
  return (std::filesystem::path(folder) / file).string();
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

StatusOr<JsonConfig> ReadJson(const std::string& path, size_t most) {
  TANDEM_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > most) {
    return InvalidArgument("{}: {} bytes; the most that is read is {}", path, file.bytes().size(),
                           most);
  }
  return JsonConfig::Parse(file.text(), path);
}

// The shards that an index lists: names of files in the folder, nothing else.
StatusOr<std::set<std::string>> ShardNames(const JsonConfig& weight_map) {
  std::set<std::string> names;
  for (const std::string& tensor : weight_map.Keys()) {
    TANDEM_ASSIGN_OR_RETURN(std::string file, weight_map.GetString(tensor));
    if (file.find('/') != std::string::npos || file.find('\0') != std::string::npos ||
        !file.ends_with(".safetensors")) {
      return InvalidArgument("{}: {} is not the name of a .safetensors file", weight_map.name(),
                             Quoted(file));
    }
    names.insert(std::move(file));
  }
  if (names.empty() || names.size() > kMaxShards) {
    return InvalidArgument("{}: {} files; 1 to {} are read", weight_map.name(), names.size(),
                           kMaxShards);
  }
  return names;
}

std::string Hex(const BlockHash& hash) {
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

std::string SampleOf(const SafetensorsFile& shard) {
  std::string sample;
  for (const Tensor& tensor : shard.tensors()) {
    const size_t length = std::min(kSampleBytes, tensor.data.size());
    const size_t begin = (tensor.data.size() - length) / 2;
    sample.append(reinterpret_cast<const char*>(tensor.data.data()) + begin, length);
  }
  return sample;
}

}  // namespace

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

StatusOr<std::unique_ptr<ModelFolder>> ModelFolder::Open(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(JsonConfig config, ReadJson(PathOf(path, kConfig), kMaxConfigBytes));
  std::unique_ptr<ModelFolder> folder(new ModelFolder(path, std::move(config)));
  TANDEM_RETURN_IF_ERROR(folder->OpenShards());
  return folder;
}

Status ModelFolder::OpenShards() {
  std::set<std::string> names = {kWeights};
  const std::string index_path = PathOf(path_, kIndex);
  if (Exists(index_path)) {
    TANDEM_ASSIGN_OR_RETURN(const JsonConfig index, ReadJson(index_path, kMaxIndexBytes));
    TANDEM_ASSIGN_OR_RETURN(const JsonConfig weight_map, index.GetObject("weight_map"));
    TANDEM_ASSIGN_OR_RETURN(names, ShardNames(weight_map));
  } else if (!Exists(PathOf(path_, kWeights))) {
    return NotFound("{}: neither {} nor {} is there; other formats of weights are not read", path_,
                    kWeights, kIndex);
  }
  for (const std::string& name : names) {
    TANDEM_ASSIGN_OR_RETURN(auto shard, SafetensorsFile::Open(PathOf(path_, name)));
    shards_.push_back(std::move(shard));
    for (const Tensor& tensor : shards_.back()->tensors()) {
      if (!by_name_.emplace(tensor.name, &tensor).second) {
        return InvalidArgument("{}: tensor {} is in another shard too", shards_.back()->name(),
                               Quoted(tensor.name));
      }
      tensors_.push_back(&tensor);
    }
  }
  return OkStatus();
}

const Tensor* ModelFolder::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

std::string ModelFolder::Fingerprint() const {
  std::string all;
  const auto add_file = [&](const char* name) {
    const StatusOr<MappedFile> file = MappedFile::Open(PathOf(path_, name));
    all += fmt::format("{} {}\n", name, file.ok() ? Hex(HashBytes(file->text())) : "-");
  };
  add_file(kConfig);
  for (const char* name : kTextFiles) add_file(name);
  for (const auto& shard : shards_) {
    all += fmt::format("{} {} in {} bytes\n", Hex(HashBytes(shard->header())),
                       Hex(HashBytes(SampleOf(*shard))), shard->size());
  }
  return Hex(HashBytes(all));
}

StatusOr<std::string> Fingerprint(const std::string& folder) {
  TANDEM_ASSIGN_OR_RETURN(const auto opened, ModelFolder::Open(folder));
  return opened->Fingerprint();
}

}  // namespace tandem::huggingface
