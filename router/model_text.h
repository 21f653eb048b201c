// What a router reads of a model's file or folder: no weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/status.h"
#include "common/tokenizer/tokenizer.h"
#include "router/http/pool.h"
#include "router/text/chat_template.h"

namespace tandem {

struct ModelText {
  std::string model;  // name in the cluster file
  std::unique_ptr<const text::Tokenizer> tokenizer;
  std::unique_ptr<text::EncodeCache> encode_cache;
  std::unique_ptr<const text::ChatTemplate> chat_template;  // null: a base model
  http::SamplingDefaults sampling;
  routing::Pooling pooling = routing::Pooling::kLast;
  std::string fingerprint;

  http::ServedModel served() const {  // borrows
    return {.name = model,
            .fingerprint = fingerprint,
            .tokenizer = tokenizer.get(),
            .chat_template = chat_template.get(),
            .pooling = pooling,
            .sampling = sampling,
            .encode_cache = encode_cache.get()};
  }
};

// Of every model of the cluster file. Errors name the model's file; says in the log what a model
// lacks.
StatusOr<std::vector<ModelText>> LoadModelTexts(const config::Cluster& cluster);

}  // namespace tandem
