#include "worker/model/model_source.h"

#include "worker/model/gguf_config.h"
#include "worker/model/huggingface_config.h"

namespace tandem::model {

StatusOr<std::unique_ptr<ModelSource>> ModelSource::Open(const std::string& path) {
  if (!huggingface::IsFolder(path)) {
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<gguf::File> file, gguf::File::Open(path));
    return FromGguf(std::move(file));
  }
  std::unique_ptr<ModelSource> source(new ModelSource);
  TANDEM_ASSIGN_OR_RETURN(source->folder_, huggingface::ModelFolder::Open(path));
  TANDEM_RETURN_IF_ERROR(source->Fill());
  return source;
}

StatusOr<std::unique_ptr<ModelSource>> ModelSource::FromGguf(std::unique_ptr<gguf::File> file) {
  std::unique_ptr<ModelSource> source(new ModelSource);
  source->file_ = std::move(file);
  TANDEM_RETURN_IF_ERROR(source->Fill());
  return source;
}

Status ModelSource::Fill() {
  if (file_ != nullptr) {
    name_ = file_->name();
    TANDEM_ASSIGN_OR_RETURN(config_, ReadGgufConfig(*file_));
    TANDEM_ASSIGN_OR_RETURN(tensors_, ReadGgufTensors(*file_, config_));
  } else {
    name_ = folder_->name();
    TANDEM_ASSIGN_OR_RETURN(config_, ReadHuggingFaceConfig(*folder_));
    TANDEM_ASSIGN_OR_RETURN(tensors_, ReadHuggingFaceTensors(*folder_, config_));
    config_.has_head = config_.tied_embeddings || !IsWithoutHead(*folder_);
  }
  return CheckModelTensors(config_, tensors_, name_);
}

std::string ModelSource::Fingerprint() const {
  return file_ != nullptr ? file_->Fingerprint() : folder_->Fingerprint();
}

}  // namespace tandem::model
