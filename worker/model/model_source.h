// A model that is open and checked, whichever format it is in: a GGUF file, or a Hugging Face
// folder. What the rest of this room knows of files.
// Thread: immutable after Open, any thread. Memory: weights are mapped, not read.
#pragma once

#include <memory>
#include <string>

#include "common/gguf/gguf_file.h"
#include "common/huggingface/model_folder.h"
#include "common/status.h"
#include "worker/model/model_config.h"
#include "worker/model/model_tensors.h"

namespace tandem::model {

class ModelSource {
 public:
  // A folder is Hugging Face's, a file GGUF's. kUnimplemented: a model that cannot be run here,
  // with what it has that is not supported. kInvalidArgument: a broken file, with the key or the
  // tensor.
  static StatusOr<std::unique_ptr<ModelSource>> Open(const std::string& path);
  static StatusOr<std::unique_ptr<ModelSource>> FromGguf(std::unique_ptr<gguf::File> file);

  const std::string& name() const { return name_; }
  const ModelConfig& config() const { return config_; }
  const ModelTensors& tensors() const { return tensors_; }  // checked against the config
  std::string Fingerprint() const;

 private:
  ModelSource() = default;
  Status Fill();

  std::string name_;
  std::unique_ptr<gguf::File> file_;                  // either this
  std::unique_ptr<huggingface::ModelFolder> folder_;  // or this
  ModelConfig config_;
  ModelTensors tensors_;
};

}  // namespace tandem::model
