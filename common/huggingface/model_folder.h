// A model as Hugging Face publishes it: a folder with config.json and weights in
// model.safetensors, or in shards that model.safetensors.index.json lists. Knows where tensors lie,
// not what they mean; the tokenizer's files are only part of the fingerprint.
// Thread: immutable after Open, any thread. Memory: weights are mapped, not read.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/huggingface/json_config.h"
#include "common/huggingface/safetensors.h"
#include "common/status.h"

namespace tandem::huggingface {

// Whether `path` is a folder, and so for this room rather than a GGUF file.
bool IsFolder(const std::string& path);

class ModelFolder {
 public:
  // Errors name the file of the folder.
  static StatusOr<std::unique_ptr<ModelFolder>> Open(const std::string& path);
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  const std::string& name() const { return path_; }
  const JsonConfig& config() const { return config_; }  // config.json

  // Of all shards. Names are unique.
  const std::vector<const Tensor*>& tensors() const { return tensors_; }
  const Tensor* Find(std::string_view name) const;  // null: none

  // Hash over config.json, the tokenizer's files, the chat template, the shards' headers and sizes,
  // and some bytes of every tensor, as 32 hex digits: what router and workers compare to agree on
  // the model. Reads a page a tensor.
  std::string Fingerprint() const;

 private:
  ModelFolder(std::string path, JsonConfig config)
      : path_(std::move(path)), config_(std::move(config)) {}

  Status OpenShards();

  std::string path_;
  JsonConfig config_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;  // by file name
  std::vector<const Tensor*> tensors_;
  std::unordered_map<std::string_view, const Tensor*> by_name_;
};

// Open(folder)->Fingerprint(), for who needs nothing else of the weights.
StatusOr<std::string> Fingerprint(const std::string& folder);

}  // namespace tandem::huggingface
