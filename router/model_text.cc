#include "router/model_text.h"

#include <utility>

#include "common/gguf/gguf_file.h"
#include "common/huggingface/generation_config.h"
#include "common/huggingface/model_folder.h"
#include "common/observe/log.h"

namespace tandem {
namespace {

// Of each model: a hundred prompts of 100,000 tokens.
constexpr int64_t kEncodeCacheBytes = int64_t{96} << 20;

// A model without a template is a base model.
Status TakeTemplate(StatusOr<text::ChatTemplate> chat, ModelText& text) {
  if (!chat.ok()) {
    return chat.status().code() == StatusCode::kNotFound ? OkStatus() : chat.status();
  }
  text.chat_template = std::make_unique<const text::ChatTemplate>(*std::move(chat));
  return OkStatus();
}

http::SamplingDefaults DefaultsOf(const huggingface::GenerationConfig& said) {
  http::SamplingDefaults defaults;
  defaults.temperature = said.temperature.value_or(defaults.temperature);
  defaults.top_p = said.top_p.value_or(defaults.top_p);
  defaults.min_p = said.min_p.value_or(defaults.min_p);
  defaults.top_k = said.top_k.value_or(defaults.top_k);
  defaults.repetition_penalty = said.repetition_penalty.value_or(defaults.repetition_penalty);
  defaults.max_tokens = said.max_new_tokens.value_or(defaults.max_tokens);
  return defaults;
}

StatusOr<ModelText> LoadFolder(const std::string& path) {
  ModelText out;
  TANDEM_ASSIGN_OR_RETURN(out.tokenizer, text::Tokenizer::FromFolder(path));
  TANDEM_ASSIGN_OR_RETURN(out.fingerprint, huggingface::Fingerprint(path));
  TANDEM_RETURN_IF_ERROR(TakeTemplate(text::ChatTemplate::FromFolder(path), out));
  TANDEM_ASSIGN_OR_RETURN(const auto generation, huggingface::ReadGenerationConfig(path));
  out.sampling = DefaultsOf(generation);
  return out;
}

StatusOr<ModelText> LoadText(const std::string& path) {
  if (huggingface::IsFolder(path)) return LoadFolder(path);
  ModelText out;
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<gguf::File> file, gguf::File::Open(path));
  TANDEM_ASSIGN_OR_RETURN(out.tokenizer, text::Tokenizer::FromGguf(*file));
  out.fingerprint = file->Fingerprint();
  TANDEM_RETURN_IF_ERROR(TakeTemplate(text::ChatTemplate::FromGguf(*file), out));
  return out;
}

}  // namespace

StatusOr<std::vector<ModelText>> LoadModelTexts(const config::Cluster& cluster) {
  std::vector<ModelText> texts;
  for (const config::Model& model : cluster.models) {
    TANDEM_ASSIGN_OR_RETURN(ModelText text, LoadText(model.path));
    text.model = model.name;
    text.encode_cache = std::make_unique<text::EncodeCache>(kEncodeCacheBytes);
    if (model.pooling == "mean") text.pooling = routing::Pooling::kMean;
    if (text.chat_template == nullptr) {
      observe::LogWarn("'{}' has no chat template: /v1/chat/completions takes no messages for it",
                       model.name);
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace tandem
